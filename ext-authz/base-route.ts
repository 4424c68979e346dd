/** A base-URL route: `/openai/v1/models` at the proxy is `/v1/models` at its upstream. */
import { SallyportError } from '../config/errors.ts';
import { malformed, shown } from './shape.ts';

export type Upstreamed = Readonly<{ scheme: 'http' | 'https'; authority: string; path: string }>;

/**
 * @param prefix one segment with its slash, `/openai`.
 * @param upstream URL with an optional base path, `https://api.openai.com`. Both come from our own configuration.
 */
export function rewriteBase(path: string, prefix: string, upstream: string): Upstreamed {
  const url = URL.canParse(upstream) ? new URL(upstream) : undefined;
  const scheme = url?.protocol === 'https:' ? 'https' : url?.protocol === 'http:' ? 'http' : undefined;
  if (url === undefined || scheme === undefined || !prefix.startsWith('/')) {
    throw new SallyportError('Internal', 'the route has no prefix and upstream that can be used');
  }
  const rest = path.slice(prefix.length);
  // `/openai-eu` is not under `/openai`.
  if (!path.startsWith(prefix) || (rest !== '' && rest[0] !== '/' && rest[0] !== '?')) {
    throw malformed(`the path is not under ${shown(prefix)}`);
  }
  const base = url.pathname.replace(/\/+$/, '');
  const joined = rest.startsWith('/') || base !== '' ? `${base}${rest}` : `/${rest}`;
  return { scheme, authority: url.host, path: joined };
}
