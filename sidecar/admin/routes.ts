/** The routes of the admin API. What they return is what `--json` of the command line prints. */
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { z } from 'zod';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { formatIssue, type Result } from '../../config/policy/issue.ts';
import { readRequest } from '../../config/request-issues.ts';
import type { HoldId } from '../../filters/common/brand.ts';
import type { Journal } from '../../filters/common/journal.ts';
import type { Clock } from '../../filters/common/time.ts';
import { type HoldStore, holdStates } from '../../filters/oversight/holds.ts';
import type { CompiledPolicy } from '../../filters/policy/compiled.ts';
import { explain, explainRequestSchema } from '../explain.ts';
import type { Health } from '../health.ts';
import { newestDecisions } from '../newest-decisions.ts';
import type { Status } from '../status.ts';
import { holdJson } from './hold-json.ts';

export type AdminDeps = Readonly<{
  log: Logger;
  clock: Clock;
  holds: HoldStore;
  journal: Journal;
  policy: Readonly<{ current(): CompiledPolicy; reload(): Promise<Result<CompiledPolicy>> }>;
  policyFile: string;
  health(): Promise<Health>;
  status(): Promise<Status>;
  metrics(): Promise<Readonly<{ contentType: string; text: string }>>;
  /** Begins the end of the process; the answer leaves first. */
  stop(): void;
}>;

const ulid = '[0-9A-HJKMNP-TV-Z]{26}';
const holdId = z
  .string()
  .regex(new RegExp(`^hold_${ulid}$`), 'hold_ and 26 characters of Crockford base 32')
  // The pattern is the whole of what makes text an id.
  .transform((text) => text as HoldId);
const decisionId = z
  .string()
  .regex(new RegExp(`^dec_${ulid}$`), 'dec_ and 26 characters of Crockford base 32');
const holdParams = z.object({ id: holdId });
const decisionParams = z.object({ id: decisionId });
const page = (fallback: number) =>
  z.coerce.number().int().min(1).max(limits.adminPageItemsMax).default(fallback);
const listQuery = z.strictObject({
  state: z.array(z.enum(holdStates)).optional(),
  agent: z.string().max(limits.policyNameCharsMax).optional(),
  limit: page(100),
  before: holdId.optional(),
});
const by = z.string().trim().min(1).max(128);
const note = z.string().max(limits.holdNoteCharsMax).default('');
const decideBody = z.strictObject({ by, note });
const settleBody = z.strictObject({ by, outcome: z.enum(['Sent', 'NotSent']) });
const decisionsQuery = z.strictObject({ limit: page(100) });

/** A query or a body; none is an empty one. */
const read = <T extends z.ZodType>(schema: T, value: unknown): z.output<T> =>
  readRequest(schema, value ?? {});

/** `state=Pending,Approved` is a list. */
const listed = (query: unknown): unknown =>
  typeof query === 'object' && query !== null && 'state' in query && typeof query.state === 'string'
    ? { ...query, state: query.state.split(',') }
    : query;

export function adminRoutes(app: FastifyInstance, deps: AdminDeps): void {
  observing(app, deps);
  deciding(app, deps);

  app.post('/v1/explain', async (request) =>
    explain(deps.policy.current(), read(explainRequestSchema, request.body), deps.clock.wallMs()),
  );
  app.get('/v1/policy', async () => ({
    version: deps.policy.current().version,
    file: deps.policyFile,
    rules: deps.policy.current().source.rules.length,
  }));
  app.post('/v1/policy/reload', async () => {
    const result = await deps.policy.reload();
    if (!result.ok)
      throw new SallyportError(
        'PolicyInvalid',
        result.issues.slice(0, limits.policyErrorsShownMax).map(formatIssue).join('\n'),
      );
    return { version: deps.policy.current().version, file: deps.policyFile };
  });
  app.post('/v1/stop', async (_request, reply) => {
    const status = await deps.status();
    reply.raw.once('close', deps.stop);
    return { stopping: true, processes: status.processes };
  });
}

function observing(app: FastifyInstance, deps: AdminDeps): void {
  app.get('/health', async (_request, reply) => {
    const health = await deps.health();
    return reply.code(health.status === 'Unhealthy' ? 503 : 200).send(health);
  });
  app.get('/ready', async (_request, reply) => {
    const { status } = await deps.health();
    return reply.code(status === 'Unhealthy' ? 503 : 200).send({ ready: status !== 'Unhealthy' });
  });
  app.get('/metrics', async (_request, reply) => {
    const { contentType, text } = await deps.metrics();
    return reply.type(contentType).send(text);
  });
  app.get('/v1/status', async () => deps.status());
  app.get('/v1/decisions', async (request) => {
    const { limit } = read(decisionsQuery, request.query);
    return { decisions: newestDecisions(deps.journal, limit) };
  });
  app.get('/v1/decisions/:id', async (request) => {
    const id = read(decisionParams, request.params).id;
    const record = deps.journal.find(id);
    if (record === undefined)
      throw new SallyportError('NotFound', `there is no decision ${id} in the journal`);
    return record;
  });
}

function deciding(app: FastifyInstance, deps: AdminDeps): void {
  const { holds } = deps;
  app.get('/v1/holds', async (request) => {
    const { state, agent, limit, before } = read(listQuery, listed(request.query));
    const found = holds.list({
      limit,
      ...(state === undefined ? {} : { states: state }),
      ...(agent === undefined ? {} : { agent }),
      ...(before === undefined ? {} : { before }),
    });
    return {
      holds: found.map(holdJson),
      next: found.length === limit ? found.at(-1)?.id : undefined,
      counts: holds.counts(),
    };
  });
  app.get('/v1/holds/:id', async (request) => {
    const id = read(holdParams, request.params).id;
    const hold = holds.get(id);
    if (hold === undefined) throw new SallyportError('HoldNotFound', `there is no hold ${id}`);
    return holdJson(hold);
  });
  for (const action of ['approve', 'deny', 'cancel'] as const) {
    app.post(`/v1/holds/:id/${action}`, async (request) => {
      const id = read(holdParams, request.params).id;
      const body = read(decideBody, request.body);
      return holdJson(holds[action](id, body.by, body.note));
    });
  }
  app.post('/v1/holds/:id/settle', async (request) => {
    const id = read(holdParams, request.params).id;
    const body = read(settleBody, request.body);
    return holdJson(holds.settle(id, body.outcome, body.by));
  });
}
