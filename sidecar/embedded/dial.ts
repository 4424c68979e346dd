/** Connections to the pinned address and nowhere else; the name is proven in TLS against our own bundle. */
import net from 'node:net';
import tls from 'node:tls';
import { SallyportError } from '../../config/errors.ts';
import type { Pin } from '../../filters/facts.ts';

/** @throws SallyportError UpstreamUnreachable */
export function dial(pin: Pin, timeoutMs: number, allowHalfOpen = false): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: pin.address, port: pin.port, allowHalfOpen, noDelay: true });
    const fail = (cause: unknown): void => {
      clearTimeout(timer);
      socket.destroy();
      reject(unreachable(cause));
    };
    const timer = setTimeout(() => fail(new Error(`no connection within ${timeoutMs} ms`)), timeoutMs);
    socket.once('error', fail);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', fail);
      resolve(socket);
    });
  });
}

const unreachable = (cause: unknown): SallyportError =>
  new SallyportError('UpstreamUnreachable', 'no connection to the destination could be opened', { cause });

export type TlsOptions = Readonly<{
  /** Canonical host: the name that the certificate must carry. */
  host: string;
  hostIsAddress: boolean;
  secureContext: tls.SecureContext;
  alpn: readonly string[];
  timeoutMs: number;
}>;

/** @throws SallyportError UpstreamUnreachable, UpstreamCertificateInvalid */
export async function dialTls(pin: Pin, options: TlsOptions): Promise<tls.TLSSocket> {
  const socket = await dial(pin, options.timeoutMs);
  return new Promise((resolve, reject) => {
    const secured = tls.connect({
      socket,
      secureContext: options.secureContext,
      ALPNProtocols: [...options.alpn],
      // RFC 6066, section 3: no SNI for address literals.
      servername: options.hostIsAddress ? '' : options.host,
      checkServerIdentity: (_, certificate) => tls.checkServerIdentity(options.host, certificate),
    });
    const fail = (cause: unknown): void => {
      clearTimeout(timer);
      secured.destroy();
      reject(isCertificateError(secured, cause) ? unproven(cause) : unreachable(cause));
    };
    const timer = setTimeout(
      () => fail(new Error(`no TLS handshake within ${options.timeoutMs} ms`)),
      options.timeoutMs,
    );
    secured.once('error', fail);
    secured.once('secureConnect', () => {
      clearTimeout(timer);
      secured.off('error', fail);
      resolve(secured);
    });
  });
}

const unproven = (cause: unknown): SallyportError =>
  new SallyportError('UpstreamCertificateInvalid', 'the destination’s certificate does not prove its name', {
    cause,
  });

/** What Node says of a chain that does not verify, or of a name that is not in it. */
function isCertificateError(socket: tls.TLSSocket, cause: unknown): boolean {
  if (socket.authorizationError) return true;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  return /CERT|ALTNAME|ISSUER|SELF_SIGNED/.test(code);
}
