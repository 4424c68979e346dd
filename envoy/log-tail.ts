/**
 * Reads a growing file of lines from where it stopped, through rotation, truncation and restarts of either
 * side. The place is the caller's to keep: together with what the lines came to, so that one crash leaves both
 * or neither. After a crash the lines behind the kept place are given again, never fewer.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { limits } from '../config/limits.ts';

/** `before`: what stands right before the offset, to know the file again. */
export type Place = Readonly<{ inode: string; offset: number; before: string }>;

/**
 * `torn`: without a line feed, at the end of a file that nobody writes to any more. `overlong`: longer than a
 * reading. It is told once, with no text of it, since nothing in it can be believed without its end.
 */
export type LineEnd = 'whole' | 'torn' | 'overlong';

export type OnLine = (line: string, at: LinePlace, end: LineEnd) => void;

/** Where a line begins. */
export type LinePlace = Readonly<{ inode: string; offset: number }>;

/**
 * Lines that nobody will read: the file was cut or written anew (`truncated`), or is gone with what follows it
 * unknown (`gone`). What is there now is read from its beginning.
 */
export type Loss = 'truncated' | 'gone';

export type LogTail = Readonly<{
  /**
   * Gives whole lines, oldest first. A listener that throws is given the same line again by the next reading.
   * @param mayGoOn asked after each chunk; `more` is the answer where it said no.
   * @returns `end` where everything was read that was there when the reading began.
   */
  read(onLine: OnLine, mayGoOn: () => boolean): 'end' | 'more';
  /** Undefined before the first reading found a file. */
  place(): Place | undefined;
  /** True where this line will be given by a reading: its file is there and has it, and it is not before the place. */
  isAhead(at: LinePlace): boolean;
  /** False where lines of this file are not read yet. */
  hasRead(file: string): boolean;
  close(): void;
}>;

type Opened = { readonly fd: number; readonly inode: string; offset: number; before: Buffer };

type Named = Readonly<{ file: string; inode: string }>;

const beforeBytes = 32;
const lineFeed = 10;

const isMissing = (thrown: unknown): boolean =>
  thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT';

function orMissing<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (thrown) {
    if (isMissing(thrown)) return undefined;
    throw thrown;
  }
}

const inodeOf = (file: string): string | undefined =>
  orMissing(() => statSync(file, { bigint: true }).ino.toString());

function openAt(file: string, offset: number, before: Buffer): Opened | undefined {
  const fd = orMissing(() => openSync(file, 'r'));
  if (fd === undefined) return undefined;
  return { fd, inode: fstatSync(fd, { bigint: true }).ino.toString(), offset, before };
}

/** @param file the file that is written to; `file.1`, `file.2` … are older ones. */
export function tailLog(file: string, from: Place | undefined, onLoss: (loss: Loss) => void): LogTail {
  const names = Array.from({ length: limits.envoyLogFilesMax }, (_, number) =>
    number === 0 ? file : `${file}.${number}`,
  );
  const chunk = Buffer.allocUnsafe(limits.ledgerReadBytesMax);
  let current: Opened | undefined;
  let start = from;

  /** The file of the kept place, else the oldest there is. */
  const openFirst = (): Opened | undefined => {
    const inodes = names.map(inodeOf);
    if (start !== undefined) {
      const { inode, offset, before } = start;
      const name = names[inodes.indexOf(inode)];
      const opened = name === undefined ? undefined : openAt(name, offset, Buffer.from(before, 'latin1'));
      if (opened !== undefined) return opened;
      if (inodes.every((found) => found === undefined)) return undefined;
      onLoss('gone');
      start = undefined;
    }
    const oldest = names[inodes.findLastIndex((found) => found !== undefined)];
    return oldest === undefined ? undefined : openAt(oldest, 0, Buffer.alloc(0));
  };

  /** Cut, or another file under the same number: what is there now is new. */
  const isAnother = (opened: Opened, size: number): boolean => {
    if (size < opened.offset) return true;
    const { before } = opened;
    if (before.length === 0) return false;
    const found = Buffer.alloc(before.length);
    const got = readSync(opened.fd, found, 0, before.length, opened.offset - before.length);
    return got !== before.length || !found.equals(before);
  };

  const advance = (opened: Opened, bytes: Buffer): void => {
    opened.offset += bytes.length;
    opened.before = Buffer.from(bytes.subarray(Math.max(0, bytes.length - beforeBytes)));
  };

  /** Whole lines of one chunk. `isOver`: nobody writes to this file any more, so that what is left of it is a line too. */
  const give = (opened: Opened, got: number, isOver: boolean, onLine: OnLine): number => {
    let from = 0;
    const { inode, offset } = opened;
    /** The chunk goes on with a line that was told as overlong; a restart in the middle of one knows it too. */
    const isRest = opened.before.length > 0 && opened.before.at(-1) !== lineFeed;
    try {
      while (from < got) {
        let stop = chunk.indexOf(lineFeed, from);
        let end: LineEnd = 'whole';
        if (stop === -1 || stop >= got) {
          if (isOver) end = 'torn';
          else if (from === 0 && got === chunk.length) end = 'overlong';
          else break;
          stop = got;
        }
        const text = end === 'overlong' ? '' : chunk.toString('utf8', from, stop);
        if (stop > from && !(isRest && from === 0)) onLine(text, { inode, offset: offset + from }, end);
        from = Math.min(got, stop + 1);
      }
    } finally {
      if (from > 0) advance(opened, chunk.subarray(0, from));
    }
    return from;
  };

  /**
   * The file that follows this one; undefined where this is the one that is written to. A number may be free: while
   * files are being renamed, or where a crash ended that.
   */
  const successor = (opened: Opened): Named | undefined => {
    const inodes = names.map(inodeOf);
    const at = inodes.indexOf(opened.inode);
    // Put aside, and not begun anew yet: Envoy still writes to it.
    if (at === 0 || inodes[0] === undefined) return undefined;
    const newer = inodes.slice(0, at === -1 ? names.length : at);
    const next = newer.findLastIndex((found) => found !== undefined);
    const [file, inode] = [names[next], newer[next]];
    return file === undefined || inode === undefined ? undefined : { file, inode };
  };

  /** False where it has been renamed since it was looked for. */
  const goOnTo = ({ file, inode }: Named): boolean => {
    const following = openAt(file, 0, Buffer.alloc(0));
    if (following?.inode !== inode) {
      if (following !== undefined) closeSync(following.fd);
      return false;
    }
    if (current !== undefined) closeSync(current.fd);
    current = following;
    return true;
  };

  /** True where this file has nothing more for now. */
  const readCurrent = (opened: Opened, isOver: boolean, onLine: OnLine, mayGoOn: () => boolean): boolean => {
    const { size } = fstatSync(opened.fd);
    if (size === opened.offset) return true;
    if (isAnother(opened, size)) {
      onLoss('truncated');
      opened.offset = 0;
      opened.before = Buffer.alloc(0);
    }
    while (opened.offset < size) {
      const got = readSync(opened.fd, chunk, 0, Math.min(chunk.length, size - opened.offset), opened.offset);
      if (got === 0) break;
      if (give(opened, got, isOver && opened.offset + got >= size, onLine) === 0) break;
      if (!mayGoOn()) return false;
    }
    return true;
  };

  return {
    read: (onLine, mayGoOn) => {
      current ??= openFirst();
      while (current !== undefined) {
        const opened: Opened = current;
        // Looked for before the reading: once there is a successor, this file is complete.
        const next = successor(opened);
        if (!readCurrent(opened, next !== undefined, onLine, mayGoOn)) return 'more';
        if (next === undefined) return 'end';
        if (!goOnTo(next)) return 'more';
      }
      return 'end';
    },
    place: () =>
      current === undefined
        ? start
        : { inode: current.inode, offset: current.offset, before: current.before.toString('latin1') },
    isAhead: ({ inode, offset }) => {
      const inodes = names.map(inodeOf);
      const at = inodes.indexOf(inode);
      const name = names[at];
      const size = name === undefined ? undefined : orMissing(() => statSync(name).size);
      if (size === undefined || offset >= size) return false;
      const place = current ?? start;
      if (place === undefined) return true;
      return inode === place.inode ? offset >= place.offset : at < inodes.indexOf(place.inode);
    },
    hasRead: (name) => {
      const inode = inodeOf(name);
      if (inode === undefined) return true;
      const inodes = names.map(inodeOf);
      const at = inodes.indexOf(inode);
      const reading = current === undefined ? -1 : inodes.indexOf(current.inode);
      return reading !== -1 && at > reading;
    },
    close: () => {
      if (current !== undefined) closeSync(current.fd);
      current = undefined;
    },
  };
}
