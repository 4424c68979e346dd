/** Errors of the admin API as problem details (RFC 9457), from the catalogue. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import {
  type ErrorCode,
  type ErrorEntry,
  errors,
  SallyportError,
  toSallyportError,
} from '../../config/errors.ts';

export type Problem = Readonly<{
  type: string;
  title: string;
  status: number;
  detail: string;
  code: ErrorCode;
  category: string;
  next: string;
  retry_after_ms?: number;
}>;

export function problemOf(failure: SallyportError): Problem {
  const entry: ErrorEntry = errors[failure.code];
  return {
    type: `urn:sallyport:error:${failure.code}`,
    title: entry.title,
    status: entry.status,
    detail: failure.message,
    code: failure.code,
    category: entry.category,
    next: entry.next,
    ...(failure.retryAfterMs === undefined ? {} : { retry_after_ms: failure.retryAfterMs }),
  };
}

/** What fastify itself refuses: a body too large, unread or not as the route wants it. */
function fromFastify(thrown: FastifyError): SallyportError | undefined {
  if (thrown.validation !== undefined || thrown.code?.startsWith('FST_ERR_CTP'))
    return new SallyportError(
      thrown.statusCode === 413 ? 'RequestTooLarge' : 'RequestMalformed',
      thrown.message,
      { cause: thrown },
    );
  return thrown.statusCode === 400
    ? new SallyportError('RequestMalformed', thrown.message, { cause: thrown })
    : undefined;
}

export function sendProblem(thrown: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const failure =
    thrown instanceof SallyportError ? thrown : (fromFastify(thrown) ?? toSallyportError(thrown));
  if (failure.code === 'Internal') request.log.error({ err: thrown }, 'the admin API failed');
  const problem = problemOf(failure);
  if (failure.retryAfterMs !== undefined)
    reply.header('retry-after', String(Math.ceil(failure.retryAfterMs / 1_000)));
  if (failure.code === 'Unauthorized') reply.header('www-authenticate', 'Bearer realm="sallyport"');
  reply.code(problem.status).type('application/problem+json').send(JSON.stringify(problem));
}
