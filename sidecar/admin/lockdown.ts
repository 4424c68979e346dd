/** Lockdown over the admin API. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { limits } from '../../config/limits.ts';
import { readRequest } from '../../config/request-issues.ts';
import type { Lockdown } from '../lockdown.ts';

const by = z.string().trim().min(1).max(limits.policyNameCharsMax);
const lockBody = z.strictObject({ by, reason: z.string().max(limits.lockdownReasonCharsMax).default('') });
const liftBody = z.strictObject({ by });

export function lockdownRoutes(app: FastifyInstance, lockdown: Lockdown): void {
  const answer = () => ({ locked: lockdown.isLocked() ?? null });
  app.get('/v1/lockdown', async () => answer());
  app.post('/v1/lockdown', async (request) => {
    const body = readRequest(lockBody, request.body ?? {});
    lockdown.lock(body.by, body.reason);
    return answer();
  });
  app.post('/v1/lockdown/lift', async (request) => {
    lockdown.lift(readRequest(liftBody, request.body ?? {}).by);
    return answer();
  });
}
