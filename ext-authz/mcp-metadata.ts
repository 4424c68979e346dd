/** MCP method and tool from the dynamic metadata of Envoy's own filter, run with its strict settings. */
import type { McpCall } from '../filters/facts.ts';
import type { Unknowns } from './shape.ts';

export const mcpNamespace = 'envoy.filters.http.mcp';

export type McpReading = Readonly<{
  mcp: McpCall;
  /** The JSON-RPC id, so that a denial can answer it. */
  rpcId: string | number | undefined;
}>;

/** A google.protobuf.Value as protobufjs gives it: one of these fields is set. */
function plain(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return undefined;
  if ('stringValue' in value) return value.stringValue;
  if ('numberValue' in value) return value.numberValue;
  if ('boolValue' in value) return value.boolValue;
  return undefined;
}

function fieldsOf(struct: unknown): Unknowns | undefined {
  if (typeof struct !== 'object' || struct === null || !('fields' in struct)) return undefined;
  const { fields } = struct;
  return typeof fields === 'object' && fields !== null
    ? Object.fromEntries(Object.entries(fields))
    : undefined;
}

const invalid = (reason: string): McpReading => ({ mcp: { kind: 'invalid', reason }, rpcId: undefined });

/** `struct` is the google.protobuf.Struct under `mcpNamespace`. Never throws: what is not strict MCP is `invalid`. */
export function readMcpMetadata(struct: unknown): McpReading {
  const fields = fieldsOf(struct);
  if (fields === undefined) return invalid('the body is not one MCP message');
  if (plain(fields['is_exceeding_limit']) === true) return invalid('the message is larger than is parsed');
  if (plain(fields['is_mcp_request']) === false) return invalid('the body is not one MCP message');
  const status = plain(fields['status']);
  if (status !== undefined && status !== 'mcp_ok') return invalid('the parser did not accept the message');
  const method = plain(fields['method']);
  if (typeof method !== 'string' || method === '') return invalid('the message has no method');
  const id = plain(fields['id']);
  const rpcId = typeof id === 'string' || typeof id === 'number' ? id : undefined;
  if (method !== 'tools/call') return { mcp: { kind: 'call', method, tool: '' }, rpcId };
  const params = fields['params'];
  const inner =
    typeof params === 'object' && params !== null && 'structValue' in params
      ? fieldsOf(params.structValue)
      : undefined;
  const tool = plain(inner?.['name']);
  if (typeof tool !== 'string' || tool === '') return invalid('tools/call names no tool');
  return { mcp: { kind: 'call', method, tool }, rpcId };
}
