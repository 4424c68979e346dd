/** A request on a connection of this plane → `Call`, by the same reading as a check that Envoy asks. */
import { toSallyportError } from '../../config/errors.ts';
import { type HeaderEntry, ourPrefix } from '../../ext-authz/headers.ts';
import { malformed } from '../../ext-authz/shape.ts';
import { decodeWireRequest, type WireStage } from '../../ext-authz/wire-request.ts';
import { canonicalDestination } from '../../filters/egress/canonical.ts';
import type { Body, Call, Destination } from '../../filters/facts.ts';
import { entriesOf, type Request } from './headers.ts';
import { connectionOfPeer, type Peer } from './peer.ts';

/** Where a request is for, once the kind of its connection is known. */
export type Target = Readonly<{
  stage: WireStage;
  /** Of a base-URL route; empty otherwise. */
  prefix: string;
  upstream: string;
  authority: string;
  /** Dot segments resolved. */
  path: string;
}>;

/** RFC 9112, section 3.2: a request with more than one Host is answered with 400. */
function headersOf(request: Request, stage: WireStage): HeaderEntry[] {
  const entries: HeaderEntry[] = [];
  let hosts = 0;
  for (const [name, value] of entriesOf(request.rawHeaders)) {
    const lower = name.toLowerCase();
    // The request line's own fields are in the target already, and what a client says in our name is not heard.
    if (lower.startsWith(':') || lower.startsWith(ourPrefix)) continue;
    if (lower === 'host') {
      hosts += 1;
      // Beside an absolute URL, a CONNECT target or a route of ours, Host says nothing (RFC 9112, section 3.2.2).
      if (stage !== 'mitm' && stage !== 'plain') continue;
    }
    entries.push([name, value]);
  }
  if (hosts > 1) throw malformed('Host is sent more than once');
  return entries;
}

/** @throws SallyportError RequestMalformed, RequestTooLarge, HeadersTooLarge */
export function readCall(request: Request, peer: Peer, target: Target, requestId: string): Call {
  const { call } = decodeWireRequest({
    ...target,
    method: request.method ?? '',
    scheme: '',
    headers: [
      ...headersOf(request, target.stage),
      ...(peer.tunnel === undefined ? [] : ([[`${ourPrefix}connect`, peer.tunnel.authority]] as const)),
    ],
    body: undefined,
    mcp: { kind: 'none' },
    rpcId: undefined,
    peerAddress: peer.address,
    peerPort: peer.port,
    principal: peer.spiffeId,
    sni: peer.tunnel?.sni ?? '',
    requestId,
  });
  return { ...call, connection: connectionOfPeer(peer), via: 'embedded' };
}

export const withBody = (call: Call, body: Body, mcp: Call['mcp']): Call => ({ ...call, body, mcp });

/** The first bytes of a tunnel that is passed unread. */
export const tunnelCall = (peer: Peer, sni: string): Call => {
  const connection = { ...connectionOfPeer(peer), sni };
  return {
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
    via: 'embedded',
  };
};

/** Undefined where the destination cannot be read: the check then refuses it, and nothing has to be read for that. */
export function destinationOf(call: Call): Destination | undefined {
  try {
    return canonicalDestination(call);
  } catch (thrown) {
    if (toSallyportError(thrown).code === 'Internal') throw thrown;
    return undefined;
  }
}
