/** Where a request is for, from its form (RFC 9112, section 3.2) and the kind of its connection. */
import { SallyportError } from '../../config/errors.ts';
import type { Target } from './call.ts';
import { resolveDotSegments } from './dot-segments.ts';
import type { Request } from './headers.ts';
import type { Peer } from './peer.ts';

const absoluteForm = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?#]*)(.*)$/s;

/**
 * Undefined for origin form outside a tunnel: a base-URL route, or nothing.
 * Throws SallyportError RequestMalformed, ProtocolNotAllowed.
 */
export function targetOf(request: Request, peer: Peer): Target | undefined {
  const url = request.url ?? '';
  if (peer.tunnel !== undefined) {
    if (!url.startsWith('/'))
      throw new SallyportError('RequestMalformed', 'inside a tunnel the request line holds a path');
    return {
      stage: peer.tunnel.scheme === 'https' ? 'mitm' : 'plain',
      prefix: '',
      upstream: '',
      authority: hostOf(request),
      path: resolveDotSegments(url),
    };
  }
  if (url.startsWith('/')) return undefined;
  const match = absoluteForm.exec(url);
  if (match === null)
    throw new SallyportError('RequestMalformed', 'the request line holds neither an absolute URL nor a path');
  const [, scheme = '', authority = '', rest = ''] = match;
  if (scheme.toLowerCase() !== 'http')
    throw new SallyportError(
      'ProtocolNotAllowed',
      'only http URLs are sent in the clear; use CONNECT for https',
    );
  const path = rest.startsWith('/') ? rest : `/${rest}`;
  return { stage: 'absolute', prefix: '', upstream: '', authority, path: resolveDotSegments(path) };
}

function hostOf(request: Request): string {
  if ('stream' in request && request.authority !== '') return request.authority;
  const host = request.headers.host;
  if (host === undefined) throw new SallyportError('RequestMalformed', 'the request names no host');
  return host;
}
