/**
 * Dot segments are resolved before the check (RFC 3986, section 5.2.4), so that what is checked is what is
 * sent. Encoded dots count as dots, as every URL parser reads them (WHATWG URL, 4.4); encoded slashes stay
 * for the check to refuse.
 */
const dot = /^(?:\.|%2e)$/i;
const dotDot = /^(?:\.|%2e){2}$/i;
const suspect = /\/(?:\.|%2e)/i;

/** @param target origin form with query. Above the root nothing is left to go up to. */
export function resolveDotSegments(target: string): string {
  const queryAt = target.search(/[?#]/);
  const path = queryAt === -1 ? target : target.slice(0, queryAt);
  if (!path.startsWith('/') || !suspect.test(path)) return target;
  const rest = queryAt === -1 ? '' : target.slice(queryAt);
  const kept: string[] = [];
  const segments = path.slice(1).split('/');
  for (const [index, segment] of segments.entries()) {
    const up = dotDot.test(segment);
    if (!up && !dot.test(segment)) {
      kept.push(segment);
      continue;
    }
    if (up) kept.pop();
    // A dot segment at the end leaves its slash: `/a/..` is `/`, `/a/b/.` is `/a/b/`.
    if (index === segments.length - 1) kept.push('');
  }
  return `/${kept.join('/')}${rest}`;
}
