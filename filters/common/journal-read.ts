/** Reads a journal from its end. */
import { join } from 'node:path';
import { limits } from '../../config/limits.ts';
import { linesBackwards, readRange, withFile } from './journal-lines.ts';
import { decodeLine } from './journal-record.ts';
import { journalFiles } from './journal-segments.ts';
import type { JournalRecord } from './record.ts';

const lineFeed = 0x0a;

export type JournalReader = Readonly<{
  tail(limit: number): JournalRecord[];
  find(decisionId: string): JournalRecord | undefined;
  unreadableLines(): number;
  /** What follows the last line feed of a file: a line that a crash cut short. */
  cutLine(path: string): Readonly<{ bytes: number; isWithinLimit: boolean }>;
}>;

export function createReader(directory: string): JournalReader {
  let unreadable = 0;

  const decode = (line: Buffer): JournalRecord | undefined => {
    const read = decodeLine(line);
    if (read === undefined) unreadable += 1;
    return read?.kind === 'record' ? read.record : undefined;
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
