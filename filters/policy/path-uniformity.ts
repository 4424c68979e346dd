/**
 * From which directory of a path on a target covers every path or none. Paths are plain (`plainPath`): no
 * empty segment but the last, nothing encoded. So a target that restricts reads them a second way in one case
 * only: `/a/` also as `/a`.
 */
import { isOneSegment } from './path-pattern.ts';
import { patternFits } from './pattern-trie.ts';
import type { Target } from './target.ts';

/** No directory is uniform: only the path itself is. */
export const noDirectory = Number.POSITIVE_INFINITY;

/**
 * How many of `directories` a prefix must have. 0 is `/`, and under a uniform directory every deeper one is.
 * @param covered whether the target covers the path that `directories` lead to.
 */
export function uniformFrom(target: Target, directories: readonly string[], covered: boolean): number {
  if (target.paths === undefined) return 0;
  let depth = covered ? noDirectory : 0;
  for (const { segments } of target.paths) {
    // What covers the path cannot cover nothing; what does not cover it cannot cover everything.
    if (covered) depth = Math.min(depth, coversAllFrom(segments, directories));
    else depth = Math.max(depth, coversNoneFrom(segments, directories, target.restricting));
  }
  return depth;
}

/** One pattern alone; that several together cover everything is not looked for. */
function coversAllFrom(pattern: readonly string[], directories: readonly string[]): number {
  const head = pattern.findLastIndex((segment) => segment !== '**') + 1;
  if (head === pattern.length) return noDirectory;
  const fixed = pattern.slice(0, head);
  if (!fixed.includes('**'))
    return head <= directories.length && patternFits(fixed, directories.slice(0, head), isOneSegment)
      ? head
      : noDirectory;
  for (let depth = 0; depth <= directories.length; depth += 1)
    if (patternFits(fixed, directories.slice(0, depth), isOneSegment)) return depth;
  return noDirectory;
}

function coversNoneFrom(
  pattern: readonly string[],
  directories: readonly string[],
  restricting: boolean,
): number {
  for (let depth = 0; depth <= directories.length; depth += 1) {
    const segment = pattern[depth];
    // Used up: it is the directory without its slash, which a lenient server takes the directory for.
    if (segment === undefined) {
      const from = restricting ? depth + 1 : depth;
      return from <= directories.length ? from : noDirectory;
    }
    if (segment === '**') return noDirectory;
    const directory = directories[depth];
    if (directory === undefined) return noDirectory;
    if (segment !== '*' && segment !== directory) return depth + 1;
  }
  return noDirectory;
}
