/**
 * What is let go, and when. Content (lines of the journal) and proofs (tiles) go by settings of their own: a
 * line without which every proof still holds goes first, whole files at a time, never one that the tree has not
 * taken in. Each time a record says what went.
 */
import { rm, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { limits } from '../../config/limits.ts';
import { journalFiles } from '../common/journal-segments.ts';
import type { Clock } from '../common/time.ts';
import type { Recorder } from './audit-record.ts';
import { isMissing } from './files.ts';
import { auditDirectory } from './identity.ts';
import type { AuditLog } from './log.ts';
import type { Fullness } from './room.ts';
import { tilePath, tileWidth } from './tiles.ts';

export type Retention = Readonly<{
  contentMs: number;
  /** Content younger than this does not go, whatever its size; 0: all may. */
  contentMsMin: number;
  contentBytesMax: number;
  /** Undefined: tiles are kept for ever. */
  tilesMs: number | undefined;
}>;

type Deps = Readonly<{
  stateDir: string;
  log: Pick<AuditLog, 'settledFiles' | 'pruned' | 'minimumIndex' | 'newest' | 'flush'>;
  record: Recorder;
  clock: Pick<Clock, 'wallMs'>;
}>;

type Sized = Readonly<{ bytes: number; changedMs: number }>;

async function sizeOf(path: string): Promise<Sized | undefined> {
  try {
    const { size, mtimeMs } = await stat(path);
    return { bytes: size, changedMs: mtimeMs };
  } catch (cause) {
    if (isMissing(cause)) return undefined;
    throw cause;
  }
}

type PrunedContent = Readonly<{ files: readonly string[]; fullness: Fullness }>;

function fullnessOf(bytes: number, { contentBytesMax: max, contentMsMin }: Retention): Fullness {
  if (bytes <= max || contentMsMin === 0) return 'free';
  return bytes <= limits.auditContentTimesMax * max ? 'full' : 'over';
}

/** Returns the files that went, and how full it is where what is too much is too young. */
async function pruneContent(
  { stateDir, log, record, clock }: Deps,
  policy: Retention,
): Promise<PrunedContent> {
  const directory = join(stateDir, 'journal');
  const sizes = new Map<string, Sized>();
  for (const file of journalFiles(directory)) {
    const size = await sizeOf(join(directory, file));
    if (size !== undefined) sizes.set(file, size);
  }
  let total = [...sizes.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  const gone: { file: string; index: number; bytes: number }[] = [];
  let isForSize = false;
  for (const { file, index } of log.settledFiles()) {
    const size = sizes.get(file);
    if (size === undefined) continue;
    const isTooMuch = total > policy.contentBytesMax;
    const ageMs = clock.wallMs() - size.changedMs;
    if (!isTooMuch && ageMs <= policy.contentMs) break;
    if (policy.contentMsMin > 0 && ageMs < policy.contentMsMin) break;
    isForSize ||= isTooMuch;
    total -= size.bytes;
    gone.push({ file, index, bytes: size.bytes });
  }
  const fullness = fullnessOf(total, policy);
  const [first] = gone;
  const last = gone.at(-1);
  if (first === undefined || last === undefined) return { files: [], fullness };
  const next = log.settledFiles().find(({ file }) => file > last.file);
  record({
    action: 'content_pruned',
    resource: gone.length === 1 ? first.file : `${first.file} to ${last.file}`,
    why: isForSize
      ? `more than audit.content_bytes_max, ${policy.contentBytesMax} bytes`
      : `older than audit.retention_days, ${policy.contentMs / 86_400_000} days`,
    details: {
      files: gone.length,
      bytes: gone.reduce((sum, { bytes }) => sum + bytes, 0),
      first_leaf: first.index,
      ...(next === undefined ? {} : { end_leaf: next.index }),
    },
  });
  for (const { file } of gone) await unlink(join(directory, file));
  log.pruned(new Set(gone.map(({ file }) => file)), 0);
  return { files: gone.map(({ file }) => file), fullness };
}

/** Returns the index below which leaves are gone. */
async function pruneTiles({ stateDir, log, record, clock }: Deps, tilesMs: number): Promise<number> {
  const directory = auditDirectory(stateDir);
  const before = log.minimumIndex();
  // The newest full tile stays: nothing is gained by an empty log.
  const end = Math.floor((log.newest()?.size ?? 0) / tileWidth) - 1;
  let n = before / tileWidth;
  for (let looked = 0; n < end && looked < limits.auditTilesPrunedMax; looked += 1, n += 1) {
    const found = await sizeOf(join(directory, tilePath('entries', n)));
    if (found !== undefined && clock.wallMs() - found.changedMs <= tilesMs) break;
  }
  const minimum = n * tileWidth;
  if (minimum <= before) return before;
  record({
    action: 'tiles_pruned',
    resource: `leaves ${before} to ${minimum - 1}`,
    why: `older than audit.tiles_days, ${tilesMs / 86_400_000} days`,
    details: { minimum_index: minimum },
  });
  // Said before it is done: a log must not lack what it says it has.
  log.pruned(new Set(), minimum);
  await log.flush();
  for (let level = 0; tileWidth ** (level + 1) <= minimum; level += 1) {
    const leaves = tileWidth ** (level + 1);
    for (let at = Math.floor(before / leaves); (at + 1) * leaves <= minimum; at += 1) {
      await rm(join(directory, tilePath(level, at)), { force: true });
      if (level === 0) await rm(join(directory, tilePath('entries', at)), { force: true });
    }
  }
  return minimum;
}

export type Pruned = PrunedContent & Readonly<{ minimumIndex: number }>;

export async function prune(deps: Deps, policy: Retention): Promise<Pruned> {
  const { files, fullness } = await pruneContent(deps, policy);
  const minimumIndex =
    policy.tilesMs === undefined ? deps.log.minimumIndex() : await pruneTiles(deps, policy.tilesMs);
  if (files.length > 0) await deps.log.flush();
  return { files, minimumIndex, fullness };
}
