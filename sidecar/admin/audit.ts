/** What the audit log is told to do over the admin API. All that it tells is in its files. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { limits } from '../../config/limits.ts';
import { readRequest } from '../../config/request-issues.ts';
import type { Audit } from '../audit.ts';

const eraseBody = z.strictObject({
  /** The id that records have, or the index of one leaf. */
  record: z.union([z.string().regex(/^[a-z]{2,8}_[0-9A-HJKMNP-TV-Z]{26}$/), z.int().min(0)]),
  by: z.string().trim().min(1).max(128),
  why: z.string().trim().min(1).max(limits.holdNoteCharsMax),
});

export function auditRoutes(app: FastifyInstance, audit: Pick<Audit, 'erase'>): void {
  app.post('/v1/audit/erase', async (request) => {
    const { record, by, why } = readRequest(eraseBody, request.body ?? {});
    const erased = await audit.erase(record, by, why);
    return { erased: record, leaves: erased.leaves, record: erased.record.id };
  });
}
