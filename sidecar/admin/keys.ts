/** The keys over the admin API: what there is, and a new one in the place of another. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { readRequest } from '../../config/request-issues.ts';
import type { KeyRotation } from '../key-rotation.ts';

const rotateParams = z.object({ name: z.enum(['authority', 'log', 'witness']) });
const rotateBody = z.strictObject({
  by: z.string().trim().min(1).max(128),
  now: z.boolean().default(false),
});

export function keyRoutes(app: FastifyInstance, keys: KeyRotation): void {
  app.get('/v1/keys', async () => keys.view());
  app.post('/v1/keys/:name/rotate', async (request) => {
    const { name } = readRequest(rotateParams, request.params);
    return keys.rotate(name, readRequest(rotateBody, request.body ?? {}));
  });
}
