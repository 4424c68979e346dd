/** Where a request is for, from its form (RFC 9112, section 3.2) and the kind of its connection. */
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { RefusedRequest } from '../../ext-authz/refusal.ts';
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
  if (!/^https?$/i.test(scheme))
    throw new SallyportError('RequestMalformed', 'the URL of the request line is not of http');
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

/** What a request says of itself that was refused before it was read: for its record, cut and never believed. */
export function toldOf(request: Request): RefusedRequest {
  const cut = (text: string): string => text.slice(0, limits.journalLongFieldCharsMax);
  const url = request.url ?? '';
  const method = cut(request.method ?? '');
  if (method === 'CONNECT') return { method, authority: cut(url), path: '', requestId: '', via: 'embedded' };
  const match = absoluteForm.exec(url);
  const [authority, path] =
    match === null ? [request.headers.host ?? '', url] : [match[2] ?? '', match[3] ?? ''];
  return { method, authority: cut(authority), path: cut(path), requestId: '', via: 'embedded' };
}
