/**
 * A denial in its caller's protocol. Two forms of each:
 * - `renderDenial` is what the caller reads, for a plane that writes responses itself;
 * - `renderForEnvoy` is what Envoy must be told so that the caller reads that.
 */
import { limits } from '../config/limits.ts';
import type { Call } from '../filters/facts.ts';
import { type CallerProtocol, callerProtocol } from './caller-protocol.ts';
import { line, type Problem, problemOf, type Refused } from './problem.ts';
import { rateLimitHeaders } from './rate-limit.ts';

export type Denial = Readonly<{
  status: number;
  headers: Record<string, string>;
  body: string;
  /** Set for gRPC callers: the same number as in the `grpc-status` header. */
  grpcStatus?: number;
}>;

export function renderDenial(call: Call | undefined, decision: Refused): Denial {
  const problem = problemOf(decision);
  const protocol = callerProtocol(call);
  const headers = commonHeaders(problem, decision);
  if (protocol.kind === 'grpc') {
    const grpcStatus = grpcStatusOf(problem.status);
    // gRPC over HTTP/2, "Trailers-Only": HTTP 200, the outcome in grpc-status.
    Object.assign(headers, grpcHeaders(problem, grpcStatus), {
      'content-type': 'application/grpc',
      'grpc-message': percentEncoded(problem.detail),
    });
    return { status: 200, headers, body: '', grpcStatus };
  }
  headers['content-type'] = protocol.kind === 'problem' ? 'application/problem+json' : 'application/json';
  return { status: statusFor(protocol, problem), headers, body: JSON.stringify(bodyFor(protocol, problem)) };
}

/**
 * Envoy turns the denial of a gRPC request into trailers itself: `grpc-message` from the body, `grpc-status`
 * from the HTTP status unless the denial carries one. So it is given the HTTP status and the plain message.
 */
export function renderForEnvoy(call: Call | undefined, decision: Refused): Denial {
  const denial = renderDenial(call, decision);
  if (denial.grpcStatus === undefined) return denial;
  const problem = problemOf(decision);
  const { 'content-type': _type, 'grpc-message': _message, ...headers } = denial.headers;
  return { status: problem.status, headers, body: problem.detail, grpcStatus: denial.grpcStatus };
}

function commonHeaders(problem: Problem, decision: Refused): Record<string, string> {
  const { after_ms: afterMs } = problem.retry;
  const canWait = problem.retry.can_help && afterMs !== undefined;
  return {
    'cache-control': 'no-store',
    'x-sallyport-decision': headerValue(problem.decision),
    'x-sallyport-error': problem.code,
    ...(problem.hold === undefined ? {} : { 'x-sallyport-hold': headerValue(problem.hold) }),
    // RFC 9110, section 10.2.3: whole seconds; rounded up so that nobody comes early.
    ...(canWait ? { 'retry-after': String(Math.max(1, Math.ceil(afterMs / 1_000))) } : {}),
    // The OpenAI and Anthropic libraries obey this above their own rules for 409, 429 and 5xx.
    ...(canWait && afterMs <= limits.clientRetryMsMax ? {} : { 'x-should-retry': 'false' }),
    ...(problem.status === 429 ? rateLimitHeaders(decision.quotas) : {}),
  };
}

const headerValue = (text: string): string => line(text, 128).replace(/[^\x20-\x7e]/g, '?');

/**
 * MCP over streamable HTTP: a client that gets a status of 4xx throws the body away, so an answer to a known
 * id is HTTP 200 with a JSON-RPC error. Without an id there is nothing to answer: the status tells (MCP
 * 2025-06-18, "Sending Messages to the Server", item 4).
 */
const statusFor = (protocol: CallerProtocol, problem: Problem): number =>
  protocol.kind === 'json-rpc' && protocol.id !== null ? 200 : problem.status;

function bodyFor(protocol: CallerProtocol, problem: Problem): unknown {
  switch (protocol.kind) {
    case 'grpc':
      return undefined;
    case 'problem':
      return problem;
    case 'openai':
      return {
        error: {
          message: messageOf(problem),
          type: openaiType(problem.status),
          param: null,
          code: problem.code,
          sallyport: problem,
        },
      };
    case 'anthropic':
      return {
        type: 'error',
        error: { type: anthropicType(problem.status), message: messageOf(problem), sallyport: problem },
        request_id: problem.decision,
      };
    case 'json-rpc':
      return {
        jsonrpc: '2.0',
        id: protocol.id,
        error: { code: rpcCode(problem), message: messageOf(problem), data: problem },
      };
  }
}

/** What a model reads when its client library shows it only the message. */
const messageOf = (problem: Problem): string =>
  line(
    `${problem.title}: ${problem.detail} ${problem.next} ` +
      `(${problem.rule === undefined ? '' : `rule ${problem.rule}, `}decision ${problem.decision})`,
  );

function openaiType(status: number): string {
  if (status === 401) return 'authentication_error';
  if (status === 403) return 'permission_error';
  if (status === 404) return 'not_found_error';
  if (status === 429) return 'rate_limit_error';
  return status >= 500 ? 'server_error' : 'invalid_request_error';
}

function anthropicType(status: number): string {
  if (status === 413) return 'request_too_large';
  if (status >= 500) return status === 503 ? 'overloaded_error' : 'api_error';
  return openaiType(status);
}

/** JSON-RPC 2.0, section 5.1: -32600 and -32603 are the standard's, -32000 to -32099 are ours to give. */
function rpcCode(problem: Problem): number {
  if (problem.code === 'HoldPending') return -32_010;
  if (problem.status === 429) return -32_029;
  if (problem.status === 401 || problem.status === 403 || problem.status === 421) return -32_003;
  return problem.status >= 500 ? -32_603 : -32_600;
}

/** google.rpc.Code by HTTP status (google/rpc/code.proto). */
export function grpcStatusOf(status: number): number {
  switch (status) {
    case 400:
    case 413:
    case 431:
      return 3; // INVALID_ARGUMENT
    case 401:
      return 16; // UNAUTHENTICATED
    case 404:
      return 5; // NOT_FOUND
    case 409:
    case 422:
      return 9; // FAILED_PRECONDITION
    case 429:
      return 8; // RESOURCE_EXHAUSTED
    case 502:
    case 503:
      return 14; // UNAVAILABLE
    case 500:
      return 13; // INTERNAL
    default:
      return 7; // PERMISSION_DENIED
  }
}

/** gRFC A6, "Pushback": a negative number tells the client not to try again. */
const grpcHeaders = (problem: Problem, grpcStatus: number): Record<string, string> => ({
  'grpc-status': String(grpcStatus),
  'grpc-retry-pushback-ms': String(problem.retry.can_help ? (problem.retry.after_ms ?? -1) : -1),
});

/** gRPC over HTTP/2, "Status-Message": bytes outside of printable ASCII, and `%`, as %XX. */
const percentEncoded = (text: string): string =>
  [...Buffer.from(text)]
    .map((byte) =>
      byte < 0x20 || byte > 0x7e || byte === 0x25
        ? `%${byte.toString(16).toUpperCase().padStart(2, '0')}`
        : String.fromCharCode(byte),
    )
    .join('');
