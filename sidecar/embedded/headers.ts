/** Which headers pass a proxy, in both directions (RFC 9110, section 7.6.1). */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { type HeaderEntry, ourPrefix } from '../../ext-authz/headers.ts';

export type Request = IncomingMessage | Http2ServerRequest;
export type Response = ServerResponse | Http2ServerResponse;

/** Of one connection only. `proxy-*` is between the agent and us; `expect` is answered here. */
const hopByHop: ReadonlySet<string> = new Set([
  'connection',
  'expect',
  'http2-settings',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
]);
/** Never taken for hop-by-hop: naming them in Connection would make the framing or the host disappear. */
const neverNamed: ReadonlySet<string> = new Set(['content-length', 'host']);

export function* entriesOf(flat: readonly string[]): Generator<HeaderEntry> {
  for (let index = 0; index + 1 < flat.length; index += 2) yield [flat[index] ?? '', flat[index + 1] ?? ''];
}

const namedByConnection = (entries: readonly HeaderEntry[]): ReadonlySet<string> =>
  new Set(
    entries
      .filter(([name]) => name.toLowerCase() === 'connection')
      .flatMap(([, value]) => value.toLowerCase().split(','))
      .map((name) => name.trim())
      .filter((name) => !neverNamed.has(name)),
  );

function passing(flat: readonly string[], kept?: ReadonlySet<string>): HeaderEntry[] {
  const entries = [...entriesOf(flat)];
  const named = namedByConnection(entries);
  return entries.filter(([sent]) => {
    const name = sent.toLowerCase();
    if (kept?.has(name)) return true;
    return !name.startsWith(':') && !hopByHop.has(name) && !named.has(name) && !name.startsWith(ourPrefix);
  });
}

/** Said to us, and part of the question: who asks, whether a body follows, and whether another protocol does. */
const checkedHere: ReadonlySet<string> = new Set(['proxy-authorization', 'transfer-encoding', 'upgrade']);

/** What a check may rely on: of all else that was sent, exactly what will reach the destination. */
export const checkedHeaders = (flat: readonly string[]): HeaderEntry[] => passing(flat, checkedHere);

/** What goes to the destination: the agent's own headers, the Host that was checked, and nothing added. */
export function upstreamHeaders(request: Request, authority: string, grpc: boolean): string[] {
  const flat = ['host', authority];
  for (const [name, value] of passing(request.rawHeaders))
    if (name.toLowerCase() !== 'host') flat.push(name, value);
  // gRPC over HTTP/2, "Requests": a server may refuse a call without it.
  if (grpc) flat.push('te', 'trailers');
  return flat;
}

/** The destination's response headers by name, repeated ones in order. */
export function responseHeaders(raw: readonly string[]): Map<string, string[]> {
  const headers = new Map<string, string[]>();
  for (const [sent, value] of passing(raw)) {
    const name = sent.toLowerCase();
    const values = headers.get(name);
    if (values === undefined) headers.set(name, [value]);
    else values.push(value);
  }
  return headers;
}

/** undici gives header fields as bytes or text; both mean Latin-1 on the wire (RFC 9110, section 5.5). */
export const flatHeaders = (raw: unknown): string[] =>
  Array.isArray(raw)
    ? raw.map((part) => (Buffer.isBuffer(part) ? part.toString('latin1') : String(part)))
    : Object.entries(raw ?? {}).flatMap(([name, value]) =>
        (Array.isArray(value) ? value : [value]).flatMap((one) => [name, String(one)]),
      );
