/** The whole lines of journal files, from a place on or from the end. Bounded: one chunk and one line are in memory. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { limits } from '../../config/limits.ts';
import { decodeLine } from './journal-record.ts';
import { journalFiles } from './journal-segments.ts';

const lineFeed = 0x0a;
const chunkBytes = 256 * 1024;

export function withFile<T>(path: string, read: (fd: number, bytes: number) => T): T {
  const fd = openSync(path, 'r');
  try {
    return read(fd, fstatSync(fd).size);
  } finally {
    closeSync(fd);
  }
}

/** Reads [start, end) of the file, into `into` where it is given; shorter only where the file ended. */
export function readRange(fd: number, start: number, end: number, into?: Buffer): Buffer {
  const buffer = into?.subarray(0, end - start) ?? Buffer.allocUnsafe(end - start);
  let filled = 0;
  while (filled < buffer.length) {
    const got = readSync(fd, buffer, filled, buffer.length - filled, start + filled);
    if (got === 0) break;
    filled += got;
  }
  return buffer.subarray(0, filled);
}

/** Where a line begins. */
export type JournalPlace = Readonly<{ file: string; offset: number }>;

/** A line without its line feed, and where it lies. `bytes` is undefined for one that is longer than a record may be. */
export type PlacedLine = JournalPlace & Readonly<{ bytes: Buffer | undefined; end: number }>;

/**
 * The whole lines of one file, from `offset` to where the file ends now.
 * @param chunk is read into again and again: the bytes of a line are then only good until the next is asked for.
 */
export function* linesOf(directory: string, file: string, offset = 0, chunk?: Buffer): Generator<PlacedLine> {
  const fd = openSync(join(directory, file), 'r');
  try {
    const size = fstatSync(fd).size;
    let begin = offset;
    let rest: Buffer = Buffer.alloc(0);
    let isTooLong = false;
    for (let at = offset; at < size; ) {
      const read = readRange(fd, at, Math.min(size, at + (chunk?.length ?? chunkBytes)), chunk);
      if (read.length === 0) return;
      let from = 0;
      for (let stop = read.indexOf(lineFeed); stop >= 0; stop = read.indexOf(lineFeed, from)) {
        const tail = read.subarray(from, stop);
        isTooLong ||= rest.length + tail.length > limits.journalRecordBytesMax;
        const bytes = isTooLong ? undefined : rest.length === 0 ? tail : Buffer.concat([rest, tail]);
        from = stop + 1;
        yield { file, offset: begin, bytes, end: at + from };
        begin = at + from;
        rest = Buffer.alloc(0);
        isTooLong = false;
      }
      const tail = read.subarray(from);
      // What is longer than any record is not kept: only its line feed is waited for.
      isTooLong ||= rest.length + tail.length > limits.journalRecordBytesMax;
      rest = isTooLong ? Buffer.alloc(0) : Buffer.concat([rest, tail]);
      at += read.length;
    }
  } finally {
    closeSync(fd);
  }
}

/**
 * The whole lines from a place on, through all files that follow, as they are now. A file that has a successor
 * is complete: the successor is looked for before the file is read to its end. `chunk` as for `linesOf`.
 */
export function* linesFrom(
  directory: string,
  from: JournalPlace | undefined,
  chunk?: Buffer,
): Generator<PlacedLine> {
  const files = journalFiles(directory).filter((file) => from === undefined || file >= from.file);
  for (const file of files) yield* linesOf(directory, file, file === from?.file ? from.offset : 0, chunk);
}

/** Whether the records of a file have sequence numbers: all have, or none. So they have in a file without any. */
export function isSequenced(directory: string, file: string): boolean {
  for (const { bytes } of linesOf(directory, file)) {
    const line = bytes === undefined ? undefined : decodeLine(bytes);
    if (line !== undefined) return line.kind === 'erased' || line.sequenced !== undefined;
  }
  return true;
}

/** The whole lines of a file, last first, without their line feeds. Lines longer than a record may be are left out. */
export function* linesBackwards(fd: number, size: number): Generator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  let isTooLong = false;
  let end = size;
  // What follows the last line feed is no whole line.
  let isCut = true;
  while (end > 0) {
    const start = Math.max(0, end - chunkBytes);
    const chunk = readRange(fd, start, end);
    let stop = chunk.length;
    for (
      let at = chunk.lastIndexOf(lineFeed);
      at >= 0;
      at = at === 0 ? -1 : chunk.lastIndexOf(lineFeed, at - 1)
    ) {
      const head = chunk.subarray(at + 1, stop);
      const line = rest.length === 0 ? head : Buffer.concat([head, rest]);
      if (!isCut && !isTooLong && line.length > 0) yield line;
      rest = Buffer.alloc(0);
      isTooLong = false;
      isCut = false;
      stop = at;
    }
    const head = chunk.subarray(0, stop);
    isTooLong ||= rest.length + head.length > limits.journalRecordBytesMax;
    rest = isTooLong ? Buffer.alloc(0) : Buffer.concat([head, rest]);
    end = start;
  }
  if (!isCut && !isTooLong && rest.length > 0) yield rest;
}
