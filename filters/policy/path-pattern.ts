/**
 * Path globs over the canonical path. `*` is exactly one non-empty segment; `**` is any number of segments,
 * none included, so that `/gists/**` is `/gists`, `/gists/` and everything under it.
 *
 * Rules that restrict are compared a second time with the path as a lenient server reads it: empty segments
 * dropped (`//gists/` as `/gists`) and characters decoded that a path may carry bare (`/v1%3Arun` as
 * `/v1:run`). A forbidden path must not be reached by a spelling. A rule that allows is compared with the
 * path as it is.
 */
import type { Parsed } from './host-pattern.ts';
import { patternFits } from './pattern-trie.ts';

export type PathPattern = Readonly<{ text: string; segments: readonly string[] }>;

const failed = (message: string): Readonly<{ ok: false; message: string }> => ({ ok: false, message });

const unreserved = /[A-Za-z0-9._~-]/;

/** RFC 3986, section 6.2.2: unreserved characters decoded, hex in upper case, the rest encoded. */
function canonicalSegment(raw: string): string {
  const encoded = raw.replace(/[^A-Za-z0-9._~!$&'()+,;=:@%-]/gu, (character) =>
    encodeURIComponent(character),
  );
  return encoded.replace(/%[0-9A-Fa-f]{2}/g, (triplet) => {
    const character = String.fromCharCode(Number.parseInt(triplet.slice(1), 16));
    return unreserved.test(character) ? character : triplet.toUpperCase();
  });
}

export function parsePathPattern(raw: string): Parsed<PathPattern> {
  if (!raw.startsWith('/')) return failed(`a path that starts with "/"; found "${raw}"`);
  if (/[?#\\]/.test(raw)) return failed(`a path without query, fragment and backslash; found "${raw}"`);
  if (/%(?![0-9A-Fa-f]{2})/.test(raw) || !raw.isWellFormed())
    return failed(`percent signs followed by two hex digits; found "${raw}"`);
  if (/%(?:2f|5c|00)/i.test(raw))
    return failed(
      `a path without encoded slash, backslash or null, which no request may have; found "${raw}"`,
    );
  const segments: string[] = [];
  for (const segment of raw.slice(1).split('/')) {
    if (segment === '*' || segment === '**') {
      segments.push(segment);
      continue;
    }
    if (segment.includes('*')) return failed(`\`*\` or \`**\` as a whole segment; found "${segment}"`);
    const canonical = canonicalSegment(segment);
    if (canonical === '.' || canonical === '..')
      return failed(`a path without dot segments, which no canonical path has; found "${raw}"`);
    segments.push(canonical);
  }
  // Cut to its length: a list that grew has room for 16.
  return { ok: true, value: { text: `/${segments.join('/')}`, segments: segments.slice() } };
}

/** Segments of a canonical path; none for the empty path of a tunnel. */
export const pathSegments = (path: string): string[] => (path === '' ? [] : path.slice(1).split('/'));

/** `:`, `@` and the sub-delims (RFC 3986, section 3.3), encoded. */
const encodedPathCharacter = /%(?:2[1456789ABC]|3[ABD]|40)/g;

const decodePathCharacters = (segment: string): string =>
  segment.includes('%') ? segment.replace(encodedPathCharacter, decodeURIComponent) : segment;

/** The path as a lenient server reads it; the same array where that is the path itself. */
export const lenientSegments = (segments: readonly string[]): readonly string[] => {
  if (!segments.some((segment) => segment === '' || segment.includes('%'))) return segments;
  const kept = segments.filter((segment) => segment !== '').map(decodePathCharacters);
  return kept.length === 0 ? [''] : kept;
};

export const isOneSegment = (segment: string): boolean => segment !== '';

export const pathMatches = (pattern: PathPattern, segments: readonly string[]): boolean =>
  patternFits(pattern.segments, segments, isOneSegment);
