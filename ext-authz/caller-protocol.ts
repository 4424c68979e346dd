/** Which protocol the caller speaks, so that a denial is one that its client library understands. */
import { limits } from '../config/limits.ts';
import type { Call } from '../filters/facts.ts';

export type CallerProtocol =
  | Readonly<{ kind: 'problem' | 'grpc' | 'openai' | 'anthropic' }>
  /** `id` is null where it was not read: the request was a notification, a batch, or its body was left alone. */
  | Readonly<{ kind: 'json-rpc'; id: string | number | null }>;

const grpcType = /^application\/grpc(?:\+[\w.-]+)?(?:\s*;.*)?$/i;
const jsonType = /^application\/(?:[\w.-]+\+)?json(?:\s*;.*)?$/i;
const anthropicPath = /\/v1\/(?:messages|complete)(?:\/|$)/;
const openaiPath =
  /\/v1\/(?:chat\/completions|completions|responses|embeddings|models|images|audio|files|batches|moderations|assistants|threads|vector_stores|fine_tuning|uploads|realtime|conversations)(?:\/|$)/;
const openaiHost = /^(?:api\.openai\.com|[\w-]+\.openai\.azure\.com)(?::\d+)?$/i;
const anthropicHost = /^api\.anthropic\.com(?::\d+)?$/i;

/** This media type, or it with a `+` suffix, as Envoy takes them; grpc-web is not, and goes as any other request. */
export const isGrpc = (contentType: string | undefined): boolean => grpcType.test(contentType ?? '');

/** A JSON-RPC id is looked for in a body that was read. */
export function callerProtocol(call: Call | undefined): CallerProtocol {
  if (call === undefined || call.stage !== 'request') return { kind: 'problem' };
  const { headers } = call;
  const type = headers['content-type'] ?? '';
  if (isGrpc(type)) return { kind: 'grpc' };
  if (call.mcp.kind !== 'none') return { kind: 'json-rpc', id: idInBody(call)?.id ?? null };
  const inBody = jsonType.test(type) ? idInBody(call) : undefined;
  if (inBody !== undefined) return { kind: 'json-rpc', id: inBody.id };
  const path = call.path.replace(/[?#].*$/s, '');
  if (headers['anthropic-version'] !== undefined || anthropicHost.test(call.authority))
    return { kind: 'anthropic' };
  if (headers['openai-beta'] !== undefined || headers['openai-organization'] !== undefined) {
    return { kind: 'openai' };
  }
  if (openaiHost.test(call.authority) || openaiPath.test(path)) return { kind: 'openai' };
  if (anthropicPath.test(path)) return { kind: 'anthropic' };
  return { kind: 'problem' };
}

function boundedId(id: unknown): string | number | undefined {
  if (typeof id === 'number' && Number.isFinite(id)) return id;
  return typeof id === 'string' && id.length <= limits.rpcIdCharsMax ? id : undefined;
}

/** Undefined where the body was not read or is not JSON-RPC 2.0. */
function idInBody(call: Call): { id: string | number | null } | undefined {
  if (call.body.kind !== 'whole') return undefined;
  const { bytes } = call.body;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // Spares the parser every other JSON body.
  if (!text.includes('"jsonrpc"')) return undefined;
  let message: unknown;
  try {
    message = JSON.parse(text.toString('utf8'));
  } catch {
    return undefined; // Not JSON, hence not JSON-RPC: the caller gets another shape.
  }
  if (Array.isArray(message)) return { id: null };
  if (typeof message !== 'object' || message === null || !('jsonrpc' in message)) return undefined;
  return { id: ('id' in message ? boundedId(message.id) : undefined) ?? null };
}
