/** Policy globs as RE2 expressions that Envoy matches whole. `*` is one label or segment, `**` any number of them. */
import { literal } from './json.ts';

const part = (text: string, any: string): string => text.split('*').map(literal).join(any);

/** A host pattern, without port; letters of either case, since Envoy matches what the client wrote. */
export function hostExpression(pattern: string): string {
  if (!isPattern(pattern)) return literal(authorityHost(pattern));
  // Where it restricts, it stands for addresses too.
  if (pattern === '**') return '.*';
  const labels = pattern.split('.');
  let text = '';
  labels.forEach((label, index) => {
    const last = index === labels.length - 1;
    if (label === '**') text += last ? '[^.:]+(?:\\.[^.:]+)*' : '(?:[^.:]+\\.)*';
    else text += (label === '*' ? '[^.:]+' : part(label, '[^.:]*')) + (last ? '' : '\\.');
  });
  return text;
}

/** Matches an `:authority` of one of these hosts, with or without port. */
export const authorityExpression = (patterns: readonly string[]): string =>
  `(?i)(?:${patterns.map(hostExpression).join('|')})(?::[0-9]+)?`;

/** As it stands in an authority: IPv6 in brackets. */
export const authorityHost = (host: string): string => (host.includes(':') ? `[${host}]` : host);

export const isPattern = (host: string): boolean => host.includes('*');

/** Whether a canonical host fits a pattern. */
export function hostMatcher(pattern: string): (host: string) => boolean {
  const expression = new RegExp(`^(?:${hostExpression(pattern)})$`, 'i');
  return (host) => expression.test(authorityHost(host));
}

/**
 * The path part of a request, without query. `/a/**` also matches `/a`. Slashes may be repeated: many servers
 * read `//a` as `/a`, and what has to be read before the check must not be missed by a spelling.
 */
export const pathExpression = (glob: string): string => segmentsExpression(glob.split('/').slice(1));

function segmentsExpression(segments: readonly string[]): string {
  return segments
    .map((segment) => (segment === '**' ? '(?:/+[^/]*)*' : `/+${segmentExpression(segment)}`))
    .join('');
}

/** Hex digits of either case: Envoy leaves them as the client wrote them (RFC 3986, section 6.2.2.1). */
const segmentExpression = (segment: string): string =>
  segment === '*' ? '[^/]+' : part(segment, '[^/]*').replace(/%([0-9A-Fa-f]{2})/g, '%(?i:$1)');

/**
 * What is left of a glob after the base path of a route: expressions for the rest of the path, one for each
 * way in which the glob can match the base.
 */
export function restExpressions(glob: string, basePath: string): string[] {
  const base = basePath.split('/').filter((segment) => segment !== '');
  const found = new Set<string>();
  const walk = (pattern: readonly string[], rest: readonly string[]): void => {
    const [segment, ...others] = rest;
    if (segment === undefined) {
      found.add(segmentsExpression(pattern));
      return;
    }
    const [head, ...tail] = pattern;
    if (head === undefined) return;
    if (head === '**') {
      walk(pattern, others);
      walk(tail, rest);
    } else if (new RegExp(`^${head === '*' ? '.+' : part(head, '.*')}$`).test(segment)) walk(tail, others);
  };
  walk(glob.split('/').slice(1), base);
  return [...found];
}
