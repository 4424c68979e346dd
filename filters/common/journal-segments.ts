/** The files of a journal: their names, their order, how one is opened. */
import { fstatSync, readdirSync } from 'node:fs';
import { openPrivateFile } from './private-files.ts';

const digits = 10;
const fileName = /^decisions-(\d{10})\.jsonl$/;

/** Names, oldest first. */
export const journalFiles = (directory: string): string[] =>
  readdirSync(directory)
    .filter((name) => fileName.test(name))
    .sort();

export function nextJournalFile(newest: string | undefined): string {
  const number = newest === undefined ? 0 : Number(fileName.exec(newest)?.[1] ?? 0);
  return `decisions-${String(number + 1).padStart(digits, '0')}.jsonl`;
}

export function openForAppend(path: string): { fd: number; bytes: number } {
  const fd = openPrivateFile(path, 'a');
  return { fd, bytes: fstatSync(fd).size };
}
