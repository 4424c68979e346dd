/** Where records are: by id in the journal, by index in the log. Reads files only. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { linesOf, type PlacedLine } from '../common/journal-lines.ts';
import { decodeLine, type JournalLine } from '../common/journal-record.ts';
import { journalFiles } from '../common/journal-segments.ts';
import type { JournalRecord } from '../common/record.ts';
import { clockSlackMs } from './query.ts';
import type { FirstLeaf } from './state.ts';

export type Found = Readonly<{
  line: JournalLine;
  placed: PlacedLine & Readonly<{ bytes: Buffer }>;
  /** Of its leaf; undefined for a line of before the journal counted. */
  index: number | undefined;
}>;

const isLeaf = (line: JournalLine | undefined): boolean =>
  line !== undefined && (line.kind === 'erased' || line.sequenced !== undefined);

/** The lines of a file that are records, each with its index, where the file's first leaf has one. */
function* numbered(directory: string, file: string, first: number | undefined): Generator<Found> {
  let index = first;
  for (const { bytes, ...place } of linesOf(directory, file)) {
    const line = bytes === undefined ? undefined : decodeLine(bytes);
    if (bytes === undefined || line === undefined) continue;
    yield { line, placed: { ...place, bytes }, index: isLeaf(line) ? index : undefined };
    if (index !== undefined && isLeaf(line)) index += 1;
  }
}

/** Lines between two pauses: a sidecar that looks something up goes on answering. */
const linesPerTurn = 256;

/** All of it, with pauses. */
async function* pausing<T>(all: Iterable<T>): AsyncGenerator<T> {
  let count = 0;
  for (const one of all) {
    yield one;
    count += 1;
    if (count % linesPerTurn === 0) await turn();
  }
}

async function countLeaves(directory: string, file: string): Promise<number> {
  let count = 0;
  for await (const { bytes } of pausing(linesOf(directory, file)))
    if (bytes !== undefined && isLeaf(decodeLine(bytes))) count += 1;
  return count;
}

/** The index of each file's first leaf: as the log noted it, and counted for files that came after. */
export async function firstLeaves(directory: string, noted: readonly FirstLeaf[]): Promise<FirstLeaf[]> {
  const known = new Map(noted.map(({ file, index }) => [file, index]));
  const files = journalFiles(directory);
  const firsts: FirstLeaf[] = [];
  // Before the first checkpoint nothing is noted: the log begins with the first file that has numbers.
  let next: number | undefined = noted.length === 0 ? 0 : undefined;
  for (const [i, file] of files.entries()) {
    const index = known.get(file) ?? next;
    if (index === undefined) continue;
    firsts.push({ file, index });
    const following = files[i + 1];
    if (following !== undefined && !known.has(following)) next = index + (await countLeaves(directory, file));
  }
  return firsts;
}

const crockford = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

/** When an id was made: the first 48 bits of its ULID. Nothing about it can have been written before. */
export function idMs(id: string): number {
  const ulid = /^[a-z]+_([0-7][0-9A-HJKMNP-TV-Z]{9})/.exec(id)?.[1] ?? '';
  return [...ulid].reduce((sum, char) => sum * 32 + crockford.indexOf(char), 0);
}

async function mentions(directory: string, file: string, needle: Buffer): Promise<boolean> {
  for await (const { bytes } of pausing(linesOf(directory, file)))
    if (bytes?.includes(needle) === true) return true;
  return false;
}

/**
 * What a record is found by: its own id, its decision's, its hold's, and what was done to the log by what it was
 * done to. No field that a caller fills: who writes an id there would hide the records that it is of.
 */
function namesOf(record: JournalRecord): readonly string[] {
  switch (record.type) {
    case 'decision':
      return [record.id, record.hold];
    case 'incident':
      return [record.id, record.decision];
    case 'audit':
      return [record.id, record.resource];
    default:
      return [record.id];
  }
}

/** Every line that names the id, oldest first; with `own` only those whose own id it is. */
export async function findById(
  directory: string,
  noted: readonly FirstLeaf[],
  id: string,
  limit: number,
  which: 'all' | 'own' = 'all',
): Promise<Found[]> {
  const needle = Buffer.from(`"${id}`, 'utf8');
  const isNamed = (record: JournalRecord): boolean =>
    which === 'own'
      ? record.id === id
      : namesOf(record).some((name) => name === id || name.startsWith(`${id}#`));
  const hits: string[] = [];
  for (const file of journalFiles(directory))
    if (
      statSync(join(directory, file)).mtimeMs >= idMs(id) - clockSlackMs &&
      (await mentions(directory, file, needle))
    )
      hits.push(file);
  if (hits.length === 0) return [];
  const firsts = new Map((await firstLeaves(directory, noted)).map(({ file, index }) => [file, index]));
  const found: Found[] = [];
  for (const file of hits) {
    for await (const one of pausing(numbered(directory, file, firsts.get(file)))) {
      if (one.line.kind !== 'record' || !one.placed.bytes.includes(needle)) continue;
      if (isNamed(one.line.record)) found.push(one);
      if (found.length >= limit) return found;
    }
  }
  return found;
}

/** The line of a leaf; undefined where its file is pruned or not begun. */
export async function findByIndex(
  directory: string,
  noted: readonly FirstLeaf[],
  index: number,
): Promise<Found | undefined> {
  const first = (await firstLeaves(directory, noted)).findLast((one) => one.index <= index);
  if (first === undefined) return undefined;
  for await (const one of pausing(numbered(directory, first.file, first.index)))
    if (one.index === index) return one;
  return undefined;
}
