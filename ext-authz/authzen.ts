/**
 * OpenID AuthZEN Authorization API 1.0: the same check for a caller that enforces the answer itself. An
 * evaluation is a real check: it is written down, counts on quotas and opens holds. Who may ask is the admin
 * server's business: a hook of the scope that these routes are registered in.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { errors, SallyportError, toSallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import { readRequest } from '../config/request-issues.ts';
import type { Decision } from '../filters/decision.ts';
import {
  callOf,
  type Evaluation,
  type Evaluations,
  evaluationSchema,
  evaluationsSchema,
} from './authzen-schema.ts';
import type { Checker } from './checker.ts';
import { line, problemOf } from './problem.ts';

/** Section 5.5 (response) with what a caller needs to act on it. */
export type EvaluationResponse = Readonly<{ decision: boolean; context: Readonly<Record<string, unknown>> }>;

export const evaluationPath = '/access/v1/evaluation';
export const evaluationsPath = '/access/v1/evaluations';
export const discoveryPath = '/.well-known/authzen-configuration';

export type AuthzenOptions = Readonly<{ checker: Checker; baseUrl: string }>;

export function authzenRoutes(app: FastifyInstance, options: AuthzenOptions): void {
  const baseUrl = options.baseUrl.replace(/\/+$/, '');
  app.register(async (scope) => {
    scope.addHook('onRequest', async (request, reply) => {
      // Section 10.1.5: the request's id comes back as it was sent.
      const id = requestIdOf(request);
      if (id !== '') reply.header('x-request-id', id);
      reply.header('cache-control', 'no-store');
    });
    scope.setErrorHandler((thrown, _request, reply) => refuse(reply, shapeError(thrown)));
    scope.post(evaluationPath, { bodyLimit: limits.adminBodyBytesMax }, (request, reply) =>
      whileConnected(reply, (signal) => evaluateOne(options.checker, request, request.body, signal)),
    );
    scope.post(evaluationsPath, { bodyLimit: limits.adminBodyBytesMax }, (request, reply) =>
      whileConnected(reply, (signal) => evaluateMany(options.checker, request, signal)),
    );
    // Section 9: metadata of the decision point.
    scope.get(discoveryPath, async () => ({
      policy_decision_point: baseUrl,
      access_evaluation_endpoint: `${baseUrl}${evaluationPath}`,
      access_evaluations_endpoint: `${baseUrl}${evaluationsPath}`,
    }));
  });
}

const requestIdOf = (request: FastifyRequest): string => {
  const id = request.headers['x-request-id'];
  return typeof id === 'string' && /^[\x21-\x7e]{1,128}$/.test(id) ? id : '';
};

/** Ends the check when the one who asked has gone. */
async function whileConnected<T>(reply: FastifyReply, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const caller = new AbortController();
  const gone = (): void => caller.abort();
  reply.raw.once('close', gone);
  try {
    return await work(caller.signal);
  } finally {
    reply.raw.removeListener('close', gone);
  }
}

async function evaluateOne(
  checker: Checker,
  request: FastifyRequest,
  body: unknown,
  signal: AbortSignal,
): Promise<EvaluationResponse> {
  const evaluation: Evaluation = readRequest(evaluationSchema, body);
  const decision = await checker.check(callOf(evaluation, requestIdOf(request)), signal);
  // Nobody reads this answer any more, so nobody acts on it.
  if (signal.aborted && decision.kind === 'Allow') checker.settle(decision, 'NotSent');
  return responseOf(decision);
}

async function evaluateMany(
  checker: Checker,
  request: FastifyRequest,
  signal: AbortSignal,
): Promise<EvaluationResponse | Readonly<{ evaluations: readonly EvaluationResponse[] }>> {
  const batch: Evaluations = readRequest(evaluationsSchema, request.body);
  const items = batch.evaluations ?? [];
  // Section 7.1: without items it is a single evaluation, and answered like one.
  if (items.length === 0) return evaluateOne(checker, request, request.body, signal);
  const { subject, action, resource, context } = batch;
  const semantic = batch.options.evaluations_semantic;
  const answers: EvaluationResponse[] = [];
  // One after the other: the order counts for quotas, and for where the semantic stops.
  for (const item of items) {
    if (signal.aborted) break;
    const answer = await evaluateItem(
      checker,
      request,
      { subject, action, resource, context, ...item },
      signal,
    );
    answers.push(answer);
    if (semantic === 'deny_on_first_deny' && !answer.decision) break;
    if (semantic === 'permit_on_first_permit' && answer.decision) break;
  }
  return { evaluations: answers };
}

/** Section 7.2.1: one wrong item is answered in its place and spoils no other. */
async function evaluateItem(
  checker: Checker,
  request: FastifyRequest,
  item: Readonly<Record<string, unknown>>,
  signal: AbortSignal,
): Promise<EvaluationResponse> {
  try {
    return await evaluateOne(checker, request, item, signal);
  } catch (thrown) {
    const error = toSallyportError(thrown);
    return {
      decision: false,
      context: {
        code: error.code,
        error: { status: errors[error.code].status, message: line(error.message) },
      },
    };
  }
}

function responseOf(decision: Decision): EvaluationResponse {
  const head = {
    id: decision.id,
    kind: decision.kind,
    policy_version: decision.policyVersion,
    ...(decision.rule === undefined ? {} : { rule: decision.rule }),
  };
  if (decision.kind === 'Allow') return { decision: true, context: head };
  const problem = problemOf(decision);
  return {
    decision: false,
    context: {
      ...head,
      code: problem.code,
      reason_user: { en: `${problem.title}. ${problem.next}` },
      reason_admin: { en: problem.detail },
      ...(problem.hold === undefined ? {} : { hold: problem.hold }),
      // Seconds, like the header of that name.
      ...(problem.retry.after_ms === undefined
        ? {}
        : { retry_after: Math.max(1, Math.ceil(problem.retry.after_ms / 1_000)) }),
    },
  };
}

/** What fastify refused before a handler saw it (no JSON, wrong media type, too long) in the catalogue's words. */
function shapeError(thrown: unknown): SallyportError {
  if (thrown instanceof SallyportError) return thrown;
  const status =
    typeof thrown === 'object' && thrown !== null && 'statusCode' in thrown ? thrown.statusCode : 0;
  if (status === 413) {
    return new SallyportError('RequestTooLarge', `the body is larger than ${limits.adminBodyBytesMax} bytes`);
  }
  if (typeof status === 'number' && status >= 400 && status < 500) {
    return new SallyportError('RequestMalformed', 'the body is not JSON of type application/json', {
      cause: thrown,
    });
  }
  return toSallyportError(thrown);
}

function refuse(reply: FastifyReply, error: SallyportError): FastifyReply {
  const { status, title, category, next } = errors[error.code];
  return reply
    .code(status)
    .type('application/problem+json')
    .send({
      type: `urn:sallyport:error:${error.code}`,
      title,
      status,
      detail: line(error.message),
      code: error.code,
      category,
      next,
    });
}
