/** A check by Envoy's `http_service`: the request itself, less its body, under the path prefix. */
import type { IncomingMessage } from 'node:http';
import { type HeaderEntry, ourPrefix } from './headers.ts';
import { malformed, shown } from './shape.ts';
import type { WireRequest, WireStage } from './wire-request.ts';

export const pathPrefix = '/check';

/** `connect` is not among them: Envoy cannot ask about a CONNECT over HTTP. */
const stages: readonly WireStage[] = ['absolute', 'base', 'mitm', 'plain'];

function stageOf(said: string | undefined): WireStage | undefined {
  if (said === undefined) return undefined;
  const stage = stages.find((known) => known === said);
  if (stage === undefined) throw malformed(`${ourPrefix}stage is ${shown(said)}`);
  return stage;
}

function mcpOf(wanted: string | undefined): WireRequest['mcp'] {
  if (wanted === undefined) return { kind: 'none' };
  if (wanted !== 'required') throw malformed(`${ourPrefix}mcp is ${shown(wanted)}`);
  return 'in-body';
}

/** Every header as it came, so that a repeated one is seen. */
function* entriesOf(request: IncomingMessage, token: 'authorization' | undefined): Generator<HeaderEntry> {
  for (let i = 0; i + 1 < request.rawHeaders.length; i += 2) {
    const name = request.rawHeaders[i] ?? '';
    const lower = name.toLowerCase();
    if (lower === token) continue;
    // These frame the check; Envoy sends a length of 0 where it does not send the body.
    if (lower === 'content-length' || lower === 'transfer-encoding' || lower === 'connection') continue;
    // Node reads header bytes as Latin-1.
    yield [name, Buffer.from(request.rawHeaders[i + 1] ?? '', 'latin1').toString('utf8')];
  }
}

const one = (request: IncomingMessage, name: string): string | undefined => {
  const value = request.headers[name];
  return typeof value === 'string' ? value : undefined;
};

/** @param token the header that carried this server's token, which is not the caller's. */
export function httpWireRequest(
  request: IncomingMessage,
  body: Uint8Array,
  token: 'authorization' | undefined,
): WireRequest {
  const target = request.url ?? '';
  if (!target.startsWith(`${pathPrefix}/`)) {
    throw malformed(`the path is not under ${pathPrefix}/; set path_prefix: ${pathPrefix}`);
  }
  const stage = stageOf(one(request, `${ourPrefix}stage`));
  const bodyRead = one(request, `${ourPrefix}body`) === 'read';
  return {
    stage,
    prefix: one(request, `${ourPrefix}prefix`) ?? '',
    upstream: one(request, `${ourPrefix}upstream`) ?? '',
    method: request.method ?? '',
    scheme: one(request, 'x-forwarded-proto') ?? 'http',
    authority: request.headers.host ?? '',
    path: target.slice(pathPrefix.length),
    headers: entriesOf(request, token),
    body: bodyRead || body.byteLength > 0 ? body : undefined,
    mcp: mcpOf(one(request, `${ourPrefix}mcp`)),
    peerAddress: '',
    peerPort: 0,
    principal: '',
    sni: '',
    requestId: one(request, 'x-request-id') ?? '',
  };
}
