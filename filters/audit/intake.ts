/** From the journal into the tree: each line becomes the next leaf, exactly once, in the journal's order. */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { SallyportError } from '../../config/errors.ts';
import type { Written } from '../common/journal-file.ts';
import { isSequenced, type JournalPlace, linesFrom, type PlacedLine } from '../common/journal-lines.ts';
import { decodeLine } from '../common/journal-record.ts';
import { journalFiles } from '../common/journal-segments.ts';
import { encodeLeaf, leafOf, type Pseudonyms } from './leaf.ts';
import type { FirstLeaf } from './state.ts';
import type { Tree } from './tree.ts';

type OfferedLeaf = JournalPlace & Readonly<{ end: number; leaf: string }>;

export type Intake = Readonly<{
  /** The end of what is in the tree. */
  place(): JournalPlace;
  /** Where the tree's newest full tile ends in the journal. */
  alignedPlace(): JournalPlace;
  files(): readonly FirstLeaf[];
  /** Takes lines until the tree has `size` leaves. False where the journal has not so many. */
  replay(size: number): boolean;
  /** The leaf of a record that was just written, so that its line need not be read back. Taken by `takeTo` only. */
  offer(written: Written): void;
  /** Takes every line before `end`, which is synced first. Returns how many became leaves. */
  takeTo(end: JournalPlace): Promise<number>;
  /** Forgets files that are gone. */
  forget(gone: ReadonlySet<string>): void;
}>;

/** Kept for every reading: as a new buffer each time it would be the largest part of what waits to be collected. */
const chunkBytes = 64 * 1024;

/** Lines between two pauses in which requests are answered: about a millisecond. */
const linesPerTurn = 128;

export const isBefore = (one: JournalPlace, other: JournalPlace): boolean =>
  one.file < other.file || (one.file === other.file && one.offset < other.offset);

/** The first file whose records have numbers; older ones are of a release that kept no log. */
function firstPlace(directory: string): JournalPlace {
  const files = journalFiles(directory);
  const since = files.findLastIndex((file) => !isSequenced(directory, file)) + 1;
  return { file: files[since] ?? 'decisions-0000000001.jsonl', offset: 0 };
}

export async function syncFile(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

export function createIntake(
  deps: Readonly<{
    /** Of the journal. */
    directory: string;
    tree: Tree;
    pseudonym: Pseudonyms;
    start: Readonly<{ place: JournalPlace; files: readonly FirstLeaf[] }> | undefined;
    /** Puts what is in a file on the disk. */
    sync: (path: string) => Promise<void>;
    onError: (error: SallyportError) => void;
  }>,
): Intake {
  const { directory, tree, pseudonym, sync, onError } = deps;
  let place = deps.start?.place ?? firstPlace(directory);
  let alignedPlace = place;
  let files = [...(deps.start?.files ?? [])];
  const chunk = Buffer.alloc(chunkBytes);
  /** In the journal's order, without a gap; as many as the journal may be ahead of the log. */
  let offered: OfferedLeaf[] = [];

  const goOn = (file: string, end: number, leaf: string): void => {
    const isAligned = tree.append(Buffer.from(leaf, 'utf8'));
    place = { file, offset: end };
    if (isAligned) alignedPlace = place;
  };
  const begin = (file: string): void => {
    const newest = files.at(-1);
    if (newest === undefined || newest.file < file) files.push({ file, index: tree.size() });
  };

  /** Returns whether the line is a leaf now. */
  const take = ({ bytes, file, offset, end }: PlacedLine): boolean => {
    begin(file);
    const line = bytes === undefined ? undefined : decodeLine(bytes);
    const leaf =
      bytes === undefined || line === undefined
        ? undefined
        : line.kind === 'erased'
          ? line.leaf
          : line.sequenced === undefined
            ? undefined
            : encodeLeaf(leafOf(line.record, line.sequenced, bytes, pseudonym));
    if (leaf !== undefined) goOn(file, end, leaf);
    else {
      place = { file, offset: end };
      onError(
        new SallyportError(
          'StateUnavailable',
          `the line of ${file} at byte ${offset} is no record: it is in no log, and its agent's numbers have a gap`,
        ),
      );
    }
    return leaf !== undefined;
  };

  /** From the files: what was written before this process, or whose leaf is not here. */
  const read = async (end: JournalPlace): Promise<number> => {
    let leaves = 0;
    let lines = 0;
    if (!isBefore(place, end)) return leaves;
    for (const line of linesFrom(directory, place, chunk)) {
      if (!isBefore(line, end)) break;
      if (take(line)) leaves += 1;
      lines += 1;
      if (lines % linesPerTurn === 0) await turn();
    }
    return leaves;
  };

  return {
    place: () => place,
    alignedPlace: () => alignedPlace,
    files: () => files,
    offer: ({ file, offset, end, record, seq, salt, line }) => {
      const leaf = encodeLeaf(leafOf(record, { seq, salt }, line.subarray(0, -1), pseudonym));
      offered.push({ file, offset, end, leaf });
    },
    replay: (size) => {
      if (tree.size() >= size) return true;
      for (const line of linesFrom(directory, place, chunk))
        if (take(line) && tree.size() === size) return true;
      return false;
    },
    takeTo: async (end) => {
      // A power cut may take what was not synced; a leaf whose line is lost could never be shown.
      for (const file of journalFiles(directory))
        if (file >= place.file && file <= end.file) await sync(join(directory, file));
      const first = offered[0];
      const leaves = await read(first !== undefined && isBefore(first, end) ? first : end);
      const known = offered;
      // Half of all that waits in one turn: however many requests come between two, the log keeps up with them.
      const leavesPerTurn = Math.max(linesPerTurn, Math.ceil(known.length / 2));
      let taken = 0;
      try {
        for (const { file, offset, end: lineEnd, leaf } of known) {
          if (!isBefore({ file, offset }, end)) break;
          begin(file);
          goOn(file, lineEnd, leaf);
          taken += 1;
          if (taken % leavesPerTurn === 0) await turn();
        }
      } finally {
        offered = known.slice(taken);
      }
      return leaves + taken;
    },
    forget: (gone) => {
      files = files.filter(({ file }) => !gone.has(file));
    },
  };
}
