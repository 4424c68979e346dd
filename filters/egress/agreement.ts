/**
 * CONNECT authority, SNI and Host name one host. A tunnel is opened for a host; what comes through it and
 * names another would be decided for the one and delivered to the other (domain fronting).
 * The answer for it is 421 (RFC 9110, section 15.5.20): HTTP/2 clients that coalesce open a new connection.
 */
import { SallyportError } from '../../config/errors.ts';
import type { Call, Destination } from '../facts.ts';
import { type Authority, canonicalHost, parseAuthority } from './canonical.ts';

/** @throws DestinationMismatch. @param destination of this very call. */
export function assertAgreement(call: Call, destination: Destination): void {
  const { tunnelAuthority, sni } = call.connection;
  switch (call.stage) {
    case 'connect':
      return;
    case 'request': {
      // Outside a tunnel the request line names its host alone; an SNI there is the proxy's own.
      if (tunnelAuthority === '') return;
      const tunnel = parseAuthority(tunnelAuthority);
      if (destination.host !== tunnel.host || destination.port !== tunnel.port)
        mismatch('the request names another host or port than the CONNECT around it');
      assertHostHeader(call, destination);
      // Clear HTTP inside a tunnel has no SNI to compare.
      if (destination.scheme === 'https' || sni !== '') assertSni(sni, tunnel);
      return;
    }
    case 'tunnel':
      assertSni(sni, parseAuthority(tunnelAuthority));
      return;
  }
}

/** RFC 6066, section 3 has no SNI for address literals, so only they may come without. */
function assertSni(sni: string, tunnel: Authority): void {
  if (sni === '') {
    if (!tunnel.isAddress) mismatch('TLS without SNI inside a CONNECT to a host name');
    return;
  }
  if (canonicalHost(sni).host !== tunnel.host) mismatch('the SNI names another host than the CONNECT');
}

/** HTTP/2 may carry Host beside `:authority` (RFC 9113, section 8.3.1); an upstream may read either. */
function assertHostHeader(call: Call, destination: Destination): void {
  const sent = call.headers['host'];
  if (sent === undefined || sent === call.authority) return;
  const { host, port } = parseAuthority(sent);
  const portOfScheme = destination.scheme === 'https' ? 443 : 80;
  if (host !== destination.host || (port ?? portOfScheme) !== destination.port)
    mismatch('the Host header names another host or port than the authority');
}

function mismatch(message: string): never {
  throw new SallyportError('DestinationMismatch', message);
}
