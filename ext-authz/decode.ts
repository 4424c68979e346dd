/** envoy.service.auth.v3.CheckRequest → Call, for HTTP requests and for opaque TLS connections. */
import type { CheckRequest } from './h2-check-request.ts';
import { ourPrefix } from './headers.ts';
import { malformed, shown } from './shape.ts';
import {
  connectionOf,
  type Decoded,
  decodeWireRequest,
  tunnelCall,
  type WireRequest,
  type WireStage,
} from './wire-request.ts';

/** gRPC initial metadata of the check, by name. A network filter has no other way to say where it stands. */
export type CheckMetadata = ReadonlyMap<string, string>;

const stages: readonly WireStage[] = ['connect', 'absolute', 'base', 'mitm', 'plain'];

function stageOf(said: string): WireStage | undefined {
  if (said === '') return undefined;
  const stage = stages.find((known) => known === said);
  if (stage === undefined) throw malformed(`context_extensions.stage is ${shown(said)}`);
  return stage;
}

/**
 * `body: read` stands where the route's filter buffers the body; an Envoy that is not ours says nothing, and then
 * a body that is there was read.
 */
function bodyBytes(
  { rawBody, body, bodyRead }: CheckRequest,
  stage: WireStage | undefined,
): Uint8Array | undefined {
  const given = rawBody !== undefined && rawBody.byteLength > 0 ? rawBody : undefined;
  const bytes = given ?? (body === '' ? undefined : Buffer.from(body));
  if (bodyRead === 'read') return bytes ?? new Uint8Array(0);
  return stage === undefined ? bytes : undefined;
}

/** Not by Envoy's own MCP filter: its parser takes more than a strict one, and of a name in two spellings the first. */
function mcpOf(wanted: string): WireRequest['mcp'] {
  if (wanted === '') return noMcp;
  if (wanted !== 'required') throw malformed(`context_extensions.mcp is ${shown(wanted)}`);
  return 'in-body';
}
const noMcp = { kind: 'none' } as const;

/** Throws SallyportError RequestMalformed, RequestTooLarge or HeadersTooLarge, and nothing else. */
export function decodeCheckRequest(check: CheckRequest, metadata: CheckMetadata): Decoded {
  const metadataStage = metadata.get(stageKey);
  if (metadataStage !== undefined) {
    if (metadataStage !== 'opaque')
      throw malformed(`the metadata ${stageKey} is ${shown(metadataStage)}; expected opaque`);
    if (check.method !== '') throw malformed('the stage is opaque and the check carries an HTTP request');
    return decodeOpaque(check, metadata);
  }
  if (check.query !== '' || check.fragment !== '') {
    throw malformed('query or fragment is set apart from the path, which holds both as they were sent');
  }
  const stage = stageOf(check.stage);
  const { sourceAddress, sourcePort } = check;
  const hasPort = sourceAddress !== '' && sourcePort > 0 && sourcePort <= 65_535;
  return decodeWireRequest({
    stage,
    prefix: check.prefix,
    upstream: check.upstream,
    method: check.method,
    scheme: check.scheme,
    authority: check.host,
    path: check.path,
    headers: check.headers,
    body: bodyBytes(check, stage),
    mcp: mcpOf(check.mcp),
    peerAddress: sourceAddress,
    peerPort: hasPort ? sourcePort : 0,
    principal: check.principal,
    sni: check.sni,
    requestId: check.id,
  });
}
const stageKey = `${ourPrefix}stage`;

/** Network ext_authz knows the SNI, and our metadata the rest. */
function decodeOpaque({ sni }: CheckRequest, metadata: CheckMetadata): Decoded {
  const ours = new Map<string, string>();
  for (const key of ['source', 'connection', 'connect', 'agent', 'proof']) {
    const value = metadata.get(ourPrefix + key);
    if (value !== undefined) ours.set(key, value);
  }
  const connection = connectionOf(ours, { peerAddress: '', peerPort: 0, principal: '', sni }, true);
  return { call: tunnelCall(connection, 'envoy'), remove: [] };
}
