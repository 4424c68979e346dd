/**
 * Goes through the journal of a state directory, oldest first, whether a sidecar writes to it or not. One chunk and
 * one line are in memory, whatever the files weigh. Lines come from disk and are untrusted: each is given as a JSON
 * object with a type, and its reader looks at what else it needs. Types that this version does not know are given too.
 */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { linesOf } from './journal-lines.ts';
import { journalFiles } from './journal-segments.ts';
import type { WireTimestamp } from './time.ts';

export type ScannedRecord = Readonly<Record<string, unknown>> & Readonly<{ type: string; at: WireTimestamp }>;

export type ScanOptions = Readonly<{
  /** Records of before, in milliseconds since the epoch, are passed over. */
  sinceMs?: number;
  /** Only lines that hold one of these bytes: the others are not even parsed. */
  contains?: readonly Buffer[];
  /** Told after each chunk of lines, for somebody who waits. */
  onProgress?: (doneBytes: number, allBytes: number) => void;
}>;

export type Scan = Readonly<{
  records(): Generator<ScannedRecord>;
  /** Lines that are no record: damaged, or longer than a record may be. */
  unreadable(): number;
  /** Lines whose content was erased; what they were is not known any more. */
  erased(): number;
  /** Time of the oldest line that is kept; undefined for an empty journal. */
  beginsMs: number | undefined;
}>;

/** Undefined where the directory has no journal. */
export function openScan(stateDir: string, options: ScanOptions = {}): Scan | undefined {
  const directory = join(stateDir, 'journal');
  if (!existsSync(directory)) return undefined;
  const { sinceMs = 0 } = options;
  const files = journalFiles(directory);
  const begins = files.map((file) => firstMs(directory, file));
  // A file begins before the one after it ends, so what is asked for begins in the last that begins no later.
  const first = Math.max(
    0,
    begins.findLastIndex((ms) => ms !== undefined && ms <= sinceMs),
  );
  let unreadable = 0;
  let erased = 0;

  function* records(): Generator<ScannedRecord> {
    const wanted = files.slice(first);
    const sizes = wanted.map((file) => statSync(join(directory, file), { throwIfNoEntry: false })?.size ?? 0);
    const all = sizes.reduce((sum, size) => sum + size, 0);
    let before = 0;
    for (const [index, file] of wanted.entries()) {
      for (const { bytes, end } of surviving(directory, file)) {
        options.onProgress?.(before + end, all);
        if (bytes === undefined) unreadable += 1;
        else if (options.contains?.some((needle) => bytes.includes(needle)) !== false) {
          const value = parsed(bytes);
          if (isRecord(value)) {
            if (msOf(value.at) >= sinceMs) yield value;
          } else if (isErased(value)) erased += 1;
          else unreadable += 1;
        }
      }
      before += sizes[index] ?? 0;
    }
  }
  return {
    records,
    unreadable: () => unreadable,
    erased: () => erased,
    beginsMs: begins.find((ms) => ms !== undefined),
  };
}

/** A file that rotation deletes while this reads is as if it had been deleted before. */
function* surviving(directory: string, file: string): ReturnType<typeof linesOf> {
  try {
    yield* linesOf(directory, file);
  } catch (thrown) {
    if (!(thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT')) throw thrown;
  }
}

function firstMs(directory: string, file: string): number | undefined {
  for (const { bytes } of surviving(directory, file)) {
    const value = bytes === undefined ? undefined : parsed(bytes);
    if (isRecord(value)) return msOf(value.at);
  }
  return undefined;
}

export const msOf = (at: WireTimestamp): number => Number(at.physical_ns) / 1e6;

function parsed(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString('utf8'));
  } catch {
    return undefined;
  }
}

const isErased = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && 'erased' in value && typeof value.erased === 'string';

function isRecord(value: unknown): value is ScannedRecord {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  if (!('type' in value) || typeof value.type !== 'string' || !('at' in value)) return false;
  const { at } = value;
  return (
    typeof at === 'object' &&
    at !== null &&
    'physical_ns' in at &&
    typeof at.physical_ns === 'string' &&
    /^\d{1,20}$/.test(at.physical_ns) &&
    'logical' in at &&
    Number.isSafeInteger(at.logical)
  );
}
