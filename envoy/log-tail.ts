/**
 * Reads a growing file of lines from where it stopped, through rotation, truncation and restarts of either
 * side. The place is kept by inode and offset in a small file; after a crash some lines are given again,
 * never fewer, so what is done with a line must bear a repeat.
 */
import { closeSync, fstatSync, openSync, readFileSync, readSync, renameSync, writeFileSync } from 'node:fs';
import { limits } from '../config/limits.ts';

type Place = Readonly<{ inode: number; offset: number }>;

export type LogTail = Readonly<{
  /** Gives every whole line since the last call, oldest first, at most `limits.logTailBytesMax`. Returns whether more is waiting. */
  read(onLine: (line: string) => void): boolean;
}>;

const isMissing = (thrown: unknown): boolean =>
  thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT';

function readPlace(file: string): Place | undefined {
  try {
    const found: unknown = JSON.parse(readFileSync(file, 'utf8'));
    if (typeof found !== 'object' || found === null || !('inode' in found) || !('offset' in found))
      return undefined;
    const { inode, offset } = found;
    return Number.isSafeInteger(inode) && Number.isSafeInteger(offset)
      ? { inode: Number(inode), offset: Number(offset) }
      : undefined;
  } catch (thrown) {
    // Unreadable is as if it were not there: every line is given again.
    if (isMissing(thrown) || thrown instanceof SyntaxError) return undefined;
    throw thrown;
  }
}

function openOr(file: string): number | undefined {
  try {
    return openSync(file, 'r');
  } catch (thrown) {
    if (isMissing(thrown)) return undefined;
    throw thrown;
  }
}

/**
 * @param file the file that is written to; `file.1`, `file.2` … are older ones.
 * @param contains only lines with this text are given; the others are passed over as bytes.
 */
export function tailLog(file: string, placeFile: string, contains: string): LogTail {
  let place = readPlace(placeFile);
  let saved = place;

  const save = (): void => {
    if (place === undefined || (saved?.inode === place.inode && saved.offset === place.offset)) return;
    writeFileSync(`${placeFile}.new`, JSON.stringify(place), { mode: 0o600 });
    renameSync(`${placeFile}.new`, placeFile);
    saved = place;
  };

  /** Whole lines of one file from the place on. `isLive`: the last, unfinished line is left for later. */
  const readFile = (
    handle: number,
    from: Place,
    isLive: boolean,
    budget: number,
    onLine: (line: string) => void,
  ): number => {
    const { size } = fstatSync(handle);
    // Truncated: what was there is gone, what is there now is new.
    let offset = from.offset > size ? 0 : from.offset;
    const wanted = Math.min(size - offset, budget);
    const bytes = Buffer.allocUnsafe(wanted);
    const got = wanted === 0 ? 0 : readSync(handle, bytes, 0, wanted, offset);
    const chunk = bytes.subarray(0, got);
    let end = chunk.lastIndexOf(10) + 1;
    // A line longer than a whole reading, or the torn end of a file that nobody writes to any more.
    if (end === 0 && (got === budget || (!isLive && offset + got === size))) end = got;
    for (let at = chunk.indexOf(contains); at !== -1 && at < end; ) {
      const start = chunk.lastIndexOf(10, at) + 1;
      const stop = chunk.indexOf(10, at);
      const lineEnd = stop === -1 ? end : stop;
      onLine(chunk.toString('utf8', start, lineEnd));
      at = chunk.indexOf(contains, lineEnd);
    }
    offset += end;
    place = { inode: from.inode, offset };
    return got;
  };

  return {
    read: (onLine) => {
      const opened: { handle: number; inode: number }[] = [];
      try {
        for (let number = 0; number < limits.envoyLogFilesMax; number += 1) {
          const handle = openOr(number === 0 ? file : `${file}.${number}`);
          if (handle !== undefined) opened.push({ handle, inode: fstatSync(handle).ino });
        }
        const known = opened.findIndex(({ inode }) => inode === place?.inode);
        const first = known === -1 ? opened.length - 1 : known;
        let budget: number = limits.logTailBytesMax;
        for (let index = first; index >= 0 && budget > 0; index -= 1) {
          const one = opened[index];
          if (one === undefined) break;
          const from =
            place !== undefined && place.inode === one.inode ? place : { inode: one.inode, offset: 0 };
          budget -= readFile(one.handle, from, index === 0, budget, onLine);
          const { size } = fstatSync(one.handle);
          if (index > 0 && (place?.offset ?? 0) < size) break;
        }
        save();
        return budget <= 0;
      } finally {
        for (const { handle } of opened) closeSync(handle);
      }
    },
  };
}
