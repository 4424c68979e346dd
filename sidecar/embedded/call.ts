/** A request on a connection of this plane → `Call`, by the same reading as a check that Envoy asks. */
import { toSallyportError } from '../../config/errors.ts';
import { type HeaderEntry, ourPrefix } from '../../ext-authz/headers.ts';
import { malformed } from '../../ext-authz/shape.ts';
import { decodeWireRequest, tunnelCall, type WireStage } from '../../ext-authz/wire-request.ts';
import { canonicalDestination } from '../../filters/egress/canonical.ts';
import type { Body, Call, Destination } from '../../filters/facts.ts';
import { checkedHeaders, entriesOf, type Request } from './headers.ts';
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

/** RFC 9112, section 3.2: one Host, no more and, but in HTTP/1.0, no less. */
function headersOf(request: Request, stage: WireStage): HeaderEntry[] {
  const isHost = ([name]: HeaderEntry): boolean => name.toLowerCase() === 'host';
  const hosts = [...entriesOf(request.rawHeaders)].filter(isHost).length;
  if (hosts > 1) throw malformed('Host is sent more than once');
  if (hosts === 0 && request.httpVersion === '1.1' && stage !== 'connect')
    throw malformed('Host is not sent');
  // Every other coding is the sender's and would have to be passed on, which none of it is (RFC 9112, section 7).
  const coding = request.headers['transfer-encoding'];
  if (coding !== undefined && coding.trim().toLowerCase() !== 'chunked')
    throw malformed('the transfer coding is not chunked alone');
  const entries = checkedHeaders(request.rawHeaders);
  // Beside an absolute URL, a CONNECT target or a route of ours, Host says nothing (RFC 9112, section 3.2.2).
  return stage === 'mitm' || stage === 'plain' ? entries : entries.filter((entry) => !isHost(entry));
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
    peerAddress: peer.address,
    peerPort: peer.port,
    principal: peer.spiffeId,
    sni: peer.tunnel?.sni ?? '',
    requestId,
  });
  return { ...call, connection: connectionOfPeer(peer), via: 'embedded' };
}

export const withBody = (call: Call, body: Body, mcp: Call['mcp']): Call => ({ ...call, body, mcp });

export const tunnelCallOf = (peer: Peer, sni: string): Call =>
  tunnelCall({ ...connectionOfPeer(peer), sni }, 'embedded');

/** Undefined where the destination cannot be read: the check then refuses it, and nothing has to be read for that. */
export function destinationOf(call: Call): Destination | undefined {
  try {
    return canonicalDestination(call);
  } catch (thrown) {
    if (toSallyportError(thrown).code === 'Internal') throw thrown;
    return undefined;
  }
}
