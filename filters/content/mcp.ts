/**
 * Reads one strict MCP message. Strict, because policy and server must read the same: a parser that takes the
 * last of two keys and one that takes the first see two different calls in the same bytes.
 *
 * - One JSON-RPC 2.0 request or notification; no batch, no member that JSON-RPC does not define.
 * - A response (no `method`) is invalid: it names nothing that a rule could be asked about.
 */
import { limits } from '../../config/limits.ts';
import type { McpCall } from '../facts.ts';
import { flawOf } from './json.ts';

const jsonMediaType = /^application\/json[ \t]*(?:;[ \t]*charset="?utf-8"?[ \t]*)?$/i;
/** A byte order mark stays and fails to parse: JSON over the network has none (RFC 8259, section 8.1). */
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const members: ReadonlySet<string> = new Set(['jsonrpc', 'id', 'method', 'params']);
const nameCharacters = /^[^\p{Cc}\p{Cs}]+$/u;

type JsonObject = Readonly<Record<string, unknown>>;

const invalid = (reason: string): McpCall => ({ kind: 'invalid', reason });
const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isName = (value: unknown): value is string =>
  typeof value === 'string' && value.length <= limits.mcpNameCharsMax && nameCharacters.test(value);

/** Methods of MCP's transport that carry no message: the event stream, the end of a session. They have no body. */
export const methodsWithoutMessage: readonly string[] = ['GET', 'HEAD', 'DELETE', 'OPTIONS'];

/** Reasons name the flaw and never repeat the body. */
export function readMcp(bytes: Uint8Array, contentType: string): McpCall {
  if (!jsonMediaType.test(contentType.trim())) return invalid('the content type is not application/json');
  if (bytes.byteLength > limits.inspectedBodyBytesMax)
    return invalid(`the body is larger than ${limits.inspectedBodyBytesMax} bytes`);
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    return invalid('the body is not UTF-8');
  }
  const flaw = flawOf(text, limits.mcpDepthMax);
  if (flaw !== undefined) return invalid(flaw);
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch {
    return invalid('the body is not JSON');
  }
  if (Array.isArray(message)) return invalid('a batch');
  return isObject(message) ? readMessage(message) : invalid('the body is not a JSON object');
}

function readMessage(message: JsonObject): McpCall {
  if (message['jsonrpc'] !== '2.0') return invalid('`jsonrpc` is not "2.0"');
  const { method, id, params } = message;
  if (method === undefined) return invalid('a message without `method`');
  if (!isName(method)) return invalid('`method` is not a name');
  // MCP, "Requests": the id is a string or an integer, never null. Without one it is a notification.
  if (id !== undefined && typeof id !== 'string' && !Number.isInteger(id))
    return invalid('`id` is neither a string nor an integer');
  if (params !== undefined && !isObject(params)) return invalid('`params` is not an object');
  if (Object.keys(message).some((key) => !members.has(key)))
    return invalid('a member that JSON-RPC does not define');
  if (method !== 'tools/call') return { kind: 'call', method, tool: '' };
  if (params === undefined || !isName(params['name']))
    return invalid('`params.name` is not the name of a tool');
  // Some servers match member names without regard to case.
  if (Object.keys(params).some((key) => key !== 'name' && key.toLowerCase() === 'name'))
    return invalid('`params.name` in two spellings');
  return { kind: 'call', method, tool: params['name'] };
}
