/** Reads a journal from its end. Bounded: one chunk and one line are in memory, whatever the files weigh. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { limits } from '../../config/limits.ts';
import { decodeRecord } from './journal-record.ts';
import { journalFiles } from './journal-segments.ts';
import type { JournalRecord } from './record.ts';

const lineFeed = 0x0a;
const chunkBytes = 256 * 1024;

export type JournalReader = Readonly<{
  tail(limit: number): JournalRecord[];
  find(decisionId: string): JournalRecord | undefined;
  unreadableLines(): number;
  /** What follows the last line feed of a file: a line that a crash cut short. */
  cutLine(path: string): Readonly<{ bytes: number; isWithinLimit: boolean }>;
}>;

function withFile<T>(path: string, read: (fd: number, bytes: number) => T): T {
  const fd = openSync(path, 'r');
  try {
    return read(fd, fstatSync(fd).size);
  } finally {
    closeSync(fd);
  }
}

/** Reads [start, end) of the file; shorter only where the file ended. */
function readRange(fd: number, start: number, end: number): Buffer {
  const buffer = Buffer.allocUnsafe(end - start);
  let filled = 0;
  while (filled < buffer.length) {
    const got = readSync(fd, buffer, filled, buffer.length - filled, start + filled);
    if (got === 0) break;
    filled += got;
  }
  return buffer.subarray(0, filled);
}

/** The whole lines of a file, last first, without their line feeds. Lines longer than a record may be are left out. */
function* linesBackwards(fd: number, size: number): Generator<Buffer> {
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

export function createReader(directory: string): JournalReader {
  let unreadable = 0;

  const decode = (line: Buffer): JournalRecord | undefined => {
    const record = decodeRecord(line.toString('utf8'));
    if (record === undefined) unreadable += 1;
    return record;
  };

  return {
    tail: (limit) => {
      const records: JournalRecord[] = [];
      for (const file of journalFiles(directory).reverse()) {
        if (records.length >= limit) break;
        withFile(join(directory, file), (fd, size) => {
          for (const line of linesBackwards(fd, size)) {
            if (records.length >= limit) break;
            const record = decode(line);
            if (record !== undefined) records.push(record);
          }
        });
      }
      return records;
    },
    find: (decisionId) => {
      // No caller can put this into a record's text: a quote inside a JSON string is escaped.
      const needle = Buffer.from(`"id":${JSON.stringify(decisionId)}`, 'utf8');
      for (const file of journalFiles(directory).reverse()) {
        const found = withFile(join(directory, file), (fd, size) => {
          for (const line of linesBackwards(fd, size)) {
            if (!line.includes(needle)) continue;
            const record = decode(line);
            if (record?.type === 'decision' && record.id === decisionId) return record;
          }
          return undefined;
        });
        if (found !== undefined) return found;
      }
      return undefined;
    },
    unreadableLines: () => unreadable,
    cutLine: (path) =>
      withFile(path, (fd, size) => {
        const window = readRange(fd, Math.max(0, size - limits.journalRecordBytesMax - 1), size);
        const last = window.lastIndexOf(lineFeed);
        if (last >= 0) return { bytes: window.length - last - 1, isWithinLimit: true };
        return { bytes: window.length, isWithinLimit: size <= limits.journalRecordBytesMax };
      }),
  };
}
