/** Reads a log that lies in a directory: leaves, subtree hashes, proofs. What it says is worth what its checkpoint is. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { foldHashes, type SubtreeHash } from './merkle.ts';
import { decodeBundle, decodeTile, type TileLevel, tilePath, tileWidth, widthIn } from './tiles.ts';

export type TileReader = Readonly<{
  /** Subtrees of the tree of `size`. Throws StateUnavailable for a tile that is missing, pruned or damaged. */
  subtree: SubtreeHash;
  /** The leaf, as it was hashed. */
  entry(index: number): Buffer;
  tile(level: number, n: number): readonly Buffer[];
  bundle(n: number): readonly Buffer[];
}>;

const isMissing = (cause: unknown): boolean =>
  cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';

/** A partial tile may have been deleted for the full one that followed it. */
function readTileFile(directory: string, level: TileLevel, n: number, width: number): Buffer {
  const [partial, full] = [tilePath(level, n, width), tilePath(level, n)];
  for (const path of new Set([partial, full])) {
    try {
      return readFileSync(join(directory, path));
    } catch (cause) {
      if (!isMissing(cause))
        throw new SallyportError('StateUnavailable', `cannot read ${join(directory, path)}`, { cause });
    }
  }
  throw new SallyportError('StateUnavailable', `the log has no ${partial}: it is missing or was pruned`);
}

/** Keeps what was asked for last: a proof, or a walk in order, needs few tiles at a time. */
function remembering<T>(read: (key: string) => T): (key: string) => T {
  const kept = new Map<string, T>();
  return (key) => {
    const known = kept.get(key);
    if (known !== undefined) return known;
    const value = read(key);
    if (kept.size >= limits.auditTilesCachedMax) kept.delete(kept.keys().next().value ?? '');
    kept.set(key, value);
    return value;
  };
}

export function createTileReader(directory: string, size: number): TileReader {
  const widthOf = (level: TileLevel, n: number): number => {
    const width = widthIn(size, level, n);
    if (width === 0)
      throw new SallyportError('StateUnavailable', `a log of ${size} leaves has no ${tilePath(level, n)}`);
    return width;
  };
  const tiles = remembering((key) => {
    const [level = 0, n = 0] = key.split('/').map(Number);
    const width = widthOf(level, n);
    return decodeTile(readTileFile(directory, level, n, width), width);
  });
  const bundles = remembering((key) => {
    const width = widthOf('entries', Number(key));
    return decodeBundle(readTileFile(directory, 'entries', Number(key), width), width);
  });
  const tile = (level: number, n: number): readonly Buffer[] => tiles(`${level}/${n}`);
  return {
    tile,
    bundle: (n) => bundles(String(n)),
    entry: (index) => {
      const found = bundles(String(Math.floor(index / tileWidth)))[index % tileWidth];
      if (found === undefined)
        throw new SallyportError('StateUnavailable', `a log of ${size} leaves has no leaf ${index}`);
      return found;
    },
    subtree: (level, index) => {
      const tileLevel = Math.floor(level / 8);
      const count = 2 ** (level % 8);
      const first = index * count;
      const hashes = tile(tileLevel, Math.floor(first / tileWidth));
      const within = hashes.slice(first % tileWidth, (first % tileWidth) + count);
      if (within.length < count)
        throw new SallyportError(
          'StateUnavailable',
          `a log of ${size} leaves has no subtree ${level}/${index}`,
        );
      return foldHashes(within);
    },
  };
}
