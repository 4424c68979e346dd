/** Who is at the other end of a connection, as the plane itself saw it. */
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Connection } from '../../filters/facts.ts';

export type Tunnel = Readonly<{
  /** Authority of the CONNECT. */
  authority: string;
  /** Agent that the CONNECT's check found. */
  agent: string;
  /** What that agent was known by. */
  proof: string;
  sni: string;
  scheme: 'http' | 'https';
}>;

export type Peer = Readonly<{
  id: string;
  address: string;
  port: number;
  /** SPIFFE ID of a verified client certificate; empty without. */
  spiffeId: string;
  /** Set for a connection inside a CONNECT. */
  tunnel: Tunnel | undefined;
}>;

let connections = 0;

/** On a dual-stack socket the kernel writes IPv4 peers as mapped addresses (RFC 4291, section 2.5.5.2). */
const plainAddress = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/i, '');

export function peerOf(socket: Socket): Peer {
  connections += 1;
  return {
    id: `e${connections}`,
    address: plainAddress(socket.remoteAddress ?? ''),
    port: socket.remotePort ?? 0,
    spiffeId: '',
    tunnel: undefined,
  };
}

export const connectionOfPeer = (peer: Peer): Connection => ({
  sourceAddress: peer.address,
  sourcePort: peer.port,
  connectionId: peer.id,
  peerSpiffeId: peer.tunnel === undefined ? peer.spiffeId : '',
  tunnelAgent: peer.tunnel?.agent ?? '',
  tunnelProof: peer.tunnel?.proof ?? '',
  tunnelAuthority: peer.tunnel?.authority ?? '',
  sni: peer.tunnel?.sni ?? '',
});

/** SPIFFE X509-SVID, section 2: exactly one URI SAN. Anything else names nobody. */
export function spiffeIdOf(socket: TLSSocket): string {
  const names = socket.getPeerX509Certificate()?.subjectAltName ?? '';
  const uris = names.split(', ').filter((name) => name.startsWith('URI:'));
  const id = uris.length === 1 ? (uris[0]?.slice('URI:'.length) ?? '') : '';
  return /^spiffe:\/\/[\w.-]+(\/[\w.-]+)*$/.test(id) ? id : '';
}
