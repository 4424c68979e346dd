/** envoy.service.auth.v3.CheckRequest → Call, for HTTP requests and for opaque TLS connections. */
import type { HeaderEntry } from './headers.ts';
import { ourPrefix } from './headers.ts';
import { bytesAt, listAt, malformed, record, recordAt, shown, textAt, type Unknowns } from './shape.ts';
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

function stageOf(extensions: Unknowns): WireStage | undefined {
  const said = textAt(extensions, 'stage');
  if (said === '') return undefined;
  const stage = stages.find((known) => known === said);
  if (stage === undefined) throw malformed(`context_extensions.stage is ${shown(said)}`);
  return stage;
}

/** `ext_authz.encode_raw_headers` chooses which of the two fields Envoy fills. */
function* headerEntries(http: Unknowns): Generator<HeaderEntry> {
  const map = recordAt(http, 'headers');
  for (const name of Object.keys(map)) yield [name, textAt(map, name)];
  for (const item of listAt(recordAt(http, 'header_map'), 'headers')) {
    const header = record(item, 'header_map.headers');
    const name = textAt(header, 'key');
    const raw = bytesAt(header, 'raw_value');
    yield [name, raw === undefined || raw.byteLength === 0 ? textAt(header, 'value') : utf8(name, raw)];
  }
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function utf8(name: string, bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw malformed(`header ${shown(name)} is not valid UTF-8`);
  }
}

function peerOf(source: Unknowns): { address: string; port: number } {
  const socket = recordAt(recordAt(source, 'address'), 'socket_address');
  const address = textAt(socket, 'address');
  const port = socket['port_value'];
  if (address === '') return { address: '', port: 0 };
  return { address, port: typeof port === 'number' && port > 0 && port <= 65_535 ? port : 0 };
}

/**
 * @param extensions `body: read` where the route's filter buffers the body; an Envoy that is not ours says
 * nothing, and then a body that is there was read.
 */
function bodyBytes(
  http: Unknowns,
  extensions: Unknowns,
  stage: WireStage | undefined,
): Uint8Array | undefined {
  const raw = bytesAt(http, 'raw_body');
  const text = textAt(http, 'body');
  const bytes = raw !== undefined && raw.byteLength > 0 ? raw : text === '' ? undefined : Buffer.from(text);
  if (textAt(extensions, 'body') === 'read') return bytes ?? new Uint8Array(0);
  return stage === undefined ? bytes : undefined;
}

/** Not by Envoy's own MCP filter: its parser takes more than a strict one, and of a name in two spellings the first. */
function mcpOf(extensions: Unknowns): WireRequest['mcp'] {
  const wanted = textAt(extensions, 'mcp');
  if (wanted === '') return { kind: 'none' };
  if (wanted !== 'required') throw malformed(`context_extensions.mcp is ${shown(wanted)}`);
  return 'in-body';
}

/** Throws SallyportError RequestMalformed, RequestTooLarge or HeadersTooLarge, and nothing else. */
export function decodeCheckRequest(message: unknown, metadata: CheckMetadata): Decoded {
  const attributes = recordAt(record(message, 'the CheckRequest'), 'attributes');
  const http = recordAt(recordAt(attributes, 'request'), 'http');
  const method = textAt(http, 'method');
  const metadataStage = metadata.get(`${ourPrefix}stage`);
  if (metadataStage !== undefined && metadataStage !== 'opaque') {
    throw malformed(`the metadata ${ourPrefix}stage is ${shown(metadataStage)}; expected opaque`);
  }
  if (metadataStage === 'opaque') {
    if (method !== '') throw malformed('the stage is opaque and the check carries an HTTP request');
    return decodeOpaque(attributes, metadata);
  }
  if (textAt(http, 'query') !== '' || textAt(http, 'fragment') !== '') {
    throw malformed('query or fragment is set apart from the path, which holds both as they were sent');
  }
  const extensions = recordAt(attributes, 'context_extensions');
  const source = recordAt(attributes, 'source');
  const peer = peerOf(source);
  const stage = stageOf(extensions);
  return decodeWireRequest({
    stage,
    prefix: textAt(extensions, 'prefix'),
    upstream: textAt(extensions, 'upstream'),
    method,
    scheme: textAt(http, 'scheme'),
    authority: textAt(http, 'host'),
    path: textAt(http, 'path'),
    headers: headerEntries(http),
    body: bodyBytes(http, extensions, stage),
    mcp: mcpOf(extensions),
    peerAddress: peer.address,
    peerPort: peer.port,
    principal: textAt(source, 'principal'),
    sni: textAt(recordAt(attributes, 'tls_session'), 'sni'),
    requestId: textAt(http, 'id'),
  });
}

/** Network ext_authz knows the SNI, and our metadata the rest. */
function decodeOpaque(attributes: Unknowns, metadata: CheckMetadata): Decoded {
  const ours = new Map<string, string>();
  for (const key of ['source', 'connection', 'connect', 'agent']) {
    const value = metadata.get(ourPrefix + key);
    if (value !== undefined) ours.set(key, value);
  }
  const connection = connectionOf(
    ours,
    {
      peerAddress: '',
      peerPort: 0,
      principal: '',
      sni: textAt(recordAt(attributes, 'tls_session'), 'sni'),
    },
    true,
  );
  return { call: tunnelCall(connection, 'envoy'), remove: [] };
}
