/**
 * Paths with secrets in them: bot tokens, web hook keys, signed links. The journal keeps a path as it was; what is
 * made of it for others to read (suggested rules, reports in CI, spans) does not show a segment that looks secret.
 */

/** What services put before their keys. */
const prefixes =
  /^(?:[spr]k[-_]|gh[opsur]_|github_pat_|glpat-|xox[abeprs]-|hf_|npm_|pypi-|AKIA|ASIA|AIza|ya29\.|eyJ)/;
const uuid = /^[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;

/** Names whose next segment is the secret itself: `/token/abc1`. */
const secretName =
  /^(?:.*[-_.])?(?:tokens?|secrets?|keys?|api-?keys?|passwords?|credentials?|signatures?|sig|invites?|hooks?|webhooks?)$/i;
const word = /^[A-Za-z]+(?:[-_.][A-Za-z]+)*$|^v\d{1,3}$/;

/** Mixed as chance mixes and words do not: letters with digits, or cases with few vowels. Shorter ones are ids. */
function looksRandom(piece: string): boolean {
  if (piece.length < 16) return false;
  const count = (pattern: RegExp): number => piece.match(pattern)?.length ?? 0;
  const digits = count(/\d/g);
  if (digits > 0) return digits === piece.length || digits >= 2;
  return piece.length >= 20 && count(/[a-z][A-Z]/g) >= 3 && count(/[aeiou]/gi) < piece.length * 0.28;
}

/** One segment of a canonical path; `before`: the segment in front of it. */
export function looksSecret(segment: string, before = ''): boolean {
  if (segment.length >= 16 && prefixes.test(segment)) return true;
  const pieces = segment.split(/[-_.~:;,=@+!$&'()]|%[0-9A-F]{2}/);
  if (pieces.some(looksRandom)) return true;
  if (segment === '' || word.test(segment)) return false;
  if (secretName.test(before) || uuid.test(segment)) return true;
  return segment.length >= 32 && /[a-z]/.test(segment) && /[A-Z]/.test(segment) && /\d/.test(segment);
}

/** A segment that names one thing of many: a number, a UUID, `INV-2026-0001`. */
export const looksLikeId = (segment: string): boolean =>
  /^\d+$/.test(segment) || uuid.test(segment) || segment.replace(/\D/g, '').length >= 3;

/** Each segment that looks secret as `mark`. */
export function maskPath(path: string, mark = '•••'): string {
  const segments = path.split('/');
  return segments
    .map((segment, index) => (looksSecret(segment, segments[index - 1]) ? mark : segment))
    .join('/');
}

/** The same of `scheme://host:port/path`. */
export function maskResource(resource: string, mark?: string): string {
  const path = /^[a-z]+:\/\/[^/]*/.exec(resource)?.[0] ?? '';
  return `${path}${maskPath(resource.slice(path.length), mark)}`;
}
