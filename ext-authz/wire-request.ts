/**
 * One request to be checked, as the wire contract between Envoy and the sidecar words it, whether it came
 * by gRPC or by HTTP; and the one way from there to a `Call`. Everything in it is untrusted in shape.
 */
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { Body, Call, Connection, McpCall } from '../filters/facts.ts';
import { rewriteBase } from './base-route.ts';
import { type HeaderEntry, ourPrefix, type ReadHeaders, readHeaders } from './headers.ts';
import { mcpIn } from './mcp-body.ts';
import { malformed, shown } from './shape.ts';

/** Set per route by our Envoy configuration. */
export type WireStage = 'connect' | 'absolute' | 'base' | 'mitm' | 'plain';

export type WireRequest = Readonly<{
  /** Undefined: an Envoy that is not configured by us. What only ours may say is then not believed. */
  stage: WireStage | undefined;
  prefix: string;
  upstream: string;
  method: string;
  /** Used only where the stage does not settle it. */
  scheme: string;
  authority: string;
  path: string;
  headers: Iterable<HeaderEntry>;
  /** The body as it came; undefined where the route does not read it. */
  body: Uint8Array | undefined;
  /** `in-body`: rules read the message, which is in the body. */
  mcp: Extract<McpCall, { kind: 'none' }> | 'in-body';
  /** Peer of the connection that the check speaks of; empty where it has no IP address. */
  peerAddress: string;
  peerPort: number;
  /** Name in the peer's certificate, verified by Envoy; empty without one. */
  principal: string;
  sni: string;
  requestId: string;
}>;

export type Decoded = Readonly<{
  call: Call;
  /** Request headers that must not reach the destination. */
  remove: readonly string[];
}>;

/** RFC 9110, section 9.1, and a length that no registered method comes near. */
const methodPattern = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}$/;
const visibleAscii = /^[\x21-\x7e]+$/;

export function assertAuthority(authority: string): void {
  if (authority.length > limits.authorityBytesMax) {
    throw tooLarge('authority', authority.length, limits.authorityBytesMax);
  }
  // A comma is what a joined second Host looks like.
  if (!visibleAscii.test(authority) || authority.includes(',')) {
    throw malformed('the authority is empty, repeated or holds characters that no host has');
  }
}

export function assertPath(path: string): void {
  if (path.length > limits.pathBytesMax) throw tooLarge('path', path.length, limits.pathBytesMax);
  if (!visibleAscii.test(path)) {
    throw malformed('the path is empty or holds characters outside of visible ASCII (RFC 3986, section 2)');
  }
  if (!path.startsWith('/')) throw malformed('the path does not start with /');
}

const tooLarge = (field: string, size: number, limit: number): SallyportError =>
  new SallyportError('RequestTooLarge', `the ${field} is ${size} bytes; the limit is ${limit}`);

/** What the request line says must be what the pseudo-headers say. */
function assertAgrees(read: ReadHeaders, wire: WireRequest): void {
  const same: readonly (readonly [string, string])[] = [
    [':method', wire.method],
    [':path', wire.path],
    [':authority', wire.authority],
  ];
  for (const [name, value] of same) {
    const said = read.pseudo.get(name);
    if (said !== undefined && said !== value) throw malformed(`${name} and the request do not agree`);
  }
  const host = read.pseudo.get('host');
  if (host !== undefined && host.toLowerCase() !== wire.authority.toLowerCase()) {
    throw malformed('Host and :authority do not agree');
  }
}

/** Envoy formats what is not there as a hyphen. */
const given = (value: string | undefined): string => (value === undefined || value === '-' ? '' : value);

const sourcePattern = /^(?:\[([0-9A-Fa-f:.]{2,45}(?:%[\w.-]{1,16})?)\]|([0-9.]{7,15})):(\d{1,5})$/;

function sourceOf(said: string, wire: Pick<WireRequest, 'peerAddress' | 'peerPort'>): [string, number] {
  if (said === '') return [wire.peerAddress, wire.peerPort];
  const match = sourcePattern.exec(said);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) throw malformed(`${ourPrefix}source is not an address and port`);
  return [match[1] ?? match[2] ?? '', port];
}

/** What our data plane says of the connection, in headers (HTTP) or in gRPC metadata (opaque). */
export function connectionOf(
  ours: ReadonlyMap<string, string>,
  wire: Pick<WireRequest, 'peerAddress' | 'peerPort' | 'principal' | 'sni'>,
  inTunnel: boolean,
): Connection {
  const [sourceAddress, sourcePort] = sourceOf(given(ours.get('source')), wire);
  const connectionId = given(ours.get('connection'));
  if (!/^[\w.:/-]{0,64}$/.test(connectionId)) {
    throw malformed(`${ourPrefix}connection is not an id of up to 64 letters and digits`);
  }
  // Outside of a tunnel these are nobody's to say, and the TLS session is the proxy's own.
  const tunnelAuthority = inTunnel ? given(ours.get('connect')) : '';
  const tunnelAgent = inTunnel ? given(ours.get('agent')) : '';
  if (inTunnel) assertAuthority(tunnelAuthority);
  if (tunnelAgent.length > limits.policyNameCharsMax || !/^[a-z0-9._-]*$/.test(tunnelAgent)) {
    throw malformed(`${ourPrefix}agent is not the name of an agent`);
  }
  // What is none by its words is refused by identity: nobody is known by it.
  const tunnelProof = inTunnel ? given(ours.get('proof')) : '';
  if (!/^[a-z0-9-]{0,96}$/.test(tunnelProof)) {
    throw malformed(`${ourPrefix}proof is not up to 96 letters and digits`);
  }
  const sni = inTunnel ? wire.sni.toLowerCase() : '';
  if (sni !== '') assertAuthority(sni);
  return {
    sourceAddress,
    sourcePort,
    connectionId,
    peerSpiffeId: !inTunnel && wire.principal.startsWith('spiffe://') ? wire.principal : '',
    tunnelAgent,
    tunnelProof,
    tunnelAuthority,
    sni,
  };
}

function bodyOf(wire: WireRequest, read: ReadHeaders): Body {
  if (wire.body === undefined) return { kind: 'unread' };
  if (read.bodyIsPartial) return { kind: 'too-large', limitBytes: limits.inspectedBodyBytesMax };
  const size = wire.body.byteLength;
  if (size > limits.inspectedBodyBytesMax) throw tooLarge('body', size, limits.inspectedBodyBytesMax);
  // Envoy does not wait for the body of an upgrade: what follows is another protocol.
  if (size === 0 && read.headers['upgrade'] !== undefined) return { kind: 'unread' };
  const length = read.headers['content-length'];
  if (length !== undefined && Number(length) !== size) {
    throw malformed(`content-length is ${length} and the body is ${size} bytes`);
  }
  return { kind: 'whole', bytes: wire.body };
}

type Target = Readonly<{ scheme: string; authority: string; path: string }>;

function targetOf(wire: WireRequest): Target {
  const { authority, path } = wire;
  if ((wire.stage === 'connect') !== (wire.method === 'CONNECT')) {
    throw malformed(
      wire.stage === 'connect'
        ? 'the stage is connect and the method is not CONNECT'
        : 'CONNECT is only understood as the start of a tunnel through the proxy',
    );
  }
  assertAuthority(authority);
  if (wire.stage === 'connect') return { scheme: '', authority, path: '' };
  assertPath(path);
  switch (wire.stage) {
    case 'base':
      return rewriteBase(path, wire.prefix, wire.upstream);
    case 'mitm':
      return { scheme: 'https', authority, path };
    case 'absolute':
    case 'plain':
      return { scheme: 'http', authority, path };
    case undefined: {
      const scheme = wire.scheme.toLowerCase();
      if (scheme !== 'http' && scheme !== 'https') {
        throw malformed(`the scheme is ${shown(wire.scheme)}; expected http or https`);
      }
      return { scheme, authority, path };
    }
  }
}

/** Throws SallyportError RequestMalformed, RequestTooLarge or HeadersTooLarge. */
export function decodeWireRequest(wire: WireRequest): Decoded {
  if (!methodPattern.test(wire.method)) throw malformed('the method is not a token of up to 32 characters');
  const target = targetOf(wire);
  const read = readHeaders(wire.headers);
  assertAgrees(read, wire);
  const inTunnel = wire.stage === 'mitm' || wire.stage === 'plain';
  const connection = connectionOf(wire.stage === undefined ? new Map() : read.ours, wire, inTunnel);
  const body: Body = wire.stage === 'connect' ? { kind: 'unread' } : bodyOf(wire, read);
  const call: Call = {
    stage: wire.stage === 'connect' ? 'connect' : 'request',
    connection,
    method: wire.method,
    scheme: target.scheme,
    authority: target.authority,
    path: target.path,
    headers: read.headers,
    body,
    mcp: wire.mcp === 'in-body' ? mcpIn(wire.method, body, read.headers['content-type'] ?? '') : wire.mcp,
    requestId: visibleAscii.test(wire.requestId) ? wire.requestId.slice(0, 128) : '',
    via: 'envoy',
  };
  return { call, remove: toRemove(read) };
}

const alwaysRemoved = [
  'proxy-authorization',
  'proxy-connection',
  ...['source', 'connection', 'connect', 'agent', 'proof'].map((key) => ourPrefix + key),
] as const;

function toRemove(read: ReadHeaders): readonly string[] {
  const extra = [...read.ours.keys()].map((key) => ourPrefix + key).filter((name) => !alwaysNames.has(name));
  return extra.length === 0 ? alwaysRemoved : [...alwaysRemoved, ...extra];
}
const alwaysNames: ReadonlySet<string> = new Set(alwaysRemoved);

/** The first bytes of a tunnel that is passed unread: nothing is known but its connection. */
export const tunnelCall = (connection: Connection, via: Call['via']): Call => ({
  stage: 'tunnel',
  connection,
  method: '',
  scheme: '',
  authority: connection.tunnelAuthority,
  path: '',
  headers: {},
  body: { kind: 'unread' },
  mcp: { kind: 'none' },
  requestId: connection.connectionId,
  via,
});
