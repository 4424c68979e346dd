/**
 * The tree as it grows. Of each level of tiles only the last, unfinished one is in memory:
 *
 *   level 1   ▓▓▓▓▓▓▓▓ │ ▓▓▒      the unfinished tile of each level: its edge
 *   level 0   ▓▓▓▓▓▓▓▓ │ ▓▓▓▓▒
 *   entries   ▓▓▓▓▓▓▓▓ │ ▓▓▓▓▒
 *              written     ↑ kept
 */
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeDirectory, syncDirectories, writeSynced } from './files.ts';
import { foldHashes, leafHash } from './merkle.ts';
import { encodeEntry, tilePath, tileWidth } from './tiles.ts';

/** A tree whose last tile of level 0 is full: the edges of the levels from 1 on say all of it. */
export type AlignedTree = Readonly<{ size: number; edges: readonly (readonly Buffer[])[] }>;

export type Tree = Readonly<{
  size(): number;
  root(): Buffer;
  /** Returns whether the leaf was the last of its tile. */
  append(entry: Uint8Array): boolean;
  /** The newest tree of full tiles of level 0. */
  aligned(): AlignedTree;
  /** Writes and syncs what is new. What could not be written is written by the next call. */
  flush(): Promise<void>;
}>;

type File = Readonly<{ path: string; bytes: Buffer }>;
const filesAtOnce = 16;

export function createTree(directory: string, start: AlignedTree): Tree {
  let { size } = start;
  let aligned = start;
  /** `rows[L]` is the edge of level L; `full[L]` counts the tiles before it. */
  const rows: Buffer[][] = [[], ...start.edges.map((edge) => [...edge])];
  const full = rows.map((_, level) => Math.floor(start.size / tileWidth ** (level + 1)));
  let bundle: Buffer[] = [];
  let finished: File[] = [];
  /** What was written last of each level, by path: an edge that did not change is not written again. */
  const written = new Map<string, string>();

  const push = (level: number, hash: Buffer): void => {
    rows[level] ??= [];
    full[level] ??= 0;
    const row = rows[level];
    row.push(hash);
    if (row.length < tileWidth) return;
    finished.push({ path: tilePath(level, full[level]), bytes: Buffer.concat(row) });
    rows[level] = [];
    full[level] += 1;
    push(level + 1, foldHashes(row));
  };

  const partials = (): File[] => [
    ...(bundle.length === 0
      ? []
      : [{ path: tilePath('entries', full[0] ?? 0, bundle.length), bytes: Buffer.concat(bundle) }]),
    ...rows.flatMap((row, level) =>
      row.length === 0
        ? []
        : [{ path: tilePath(level, full[level] ?? 0, row.length), bytes: Buffer.concat(row) }],
    ),
  ];
  const levelOf = (path: string): string => path.split('/')[1] ?? '';

  return {
    size: () => size,
    aligned: () => aligned,
    root: () => {
      // From the lowest level up: what is below an edge is its last, lower subtree (RFC 6962, section 2.1).
      let below: readonly Buffer[] = [];
      for (const row of rows) if (row.length + below.length > 0) below = [foldHashes([...row, ...below])];
      return foldHashes(below);
    },
    append: (entry) => {
      bundle.push(encodeEntry(entry));
      const isLast = bundle.length === tileWidth;
      if (isLast) {
        finished.push({ path: tilePath('entries', full[0] ?? 0), bytes: Buffer.concat(bundle) });
        bundle = [];
      }
      push(0, leafHash(entry));
      size += 1;
      if (isLast) aligned = { size, edges: rows.slice(1).map((row) => [...row]) };
      return isLast;
    },
    flush: async () => {
      const done = finished;
      const files = [...done, ...partials().filter(({ path }) => written.get(levelOf(path)) !== path)];
      const changed = new Set<string>();
      for (let at = 0; at < files.length; at += filesAtOnce)
        await Promise.all(
          files.slice(at, at + filesAtOnce).map(async ({ path, bytes }) => {
            const file = join(directory, path);
            for (const made of await makeDirectory(dirname(file))) changed.add(made);
            await writeSynced(file, bytes);
          }),
        );
      await syncDirectories(changed);
      for (const { path } of files) written.set(levelOf(path), path);
      finished = finished.slice(done.length);
      // The full tile says what its beginnings said (tlog-tiles, "Partial Tiles").
      for (const { path } of done) await rm(join(directory, `${path}.p`), { recursive: true, force: true });
    },
  };
}
