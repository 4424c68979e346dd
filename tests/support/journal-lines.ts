/** A state directory with a journal of records that a test made. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export type StateDir = Readonly<{ dir: string; remove(): void }>;

/** One file for each list of records, oldest first. */
export function stateWith(...files: readonly (readonly object[])[]): StateDir {
  const dir = mkdtempSync(join(tmpdir(), 'sp-journal-'));
  const journal = join(dir, 'journal');
  mkdirSync(journal, { mode: 0o700 });
  for (const [index, records] of files.entries())
    writeFileSync(
      join(journal, `decisions-${String(index + 1).padStart(10, '0')}.jsonl`),
      records.map((record) => `${JSON.stringify(record)}\n`).join(''),
      { mode: 0o600 },
    );
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/** Time of a record. */
export const atOf = (ms: number): { logical: number; physical_ns: string } => ({
  logical: 0,
  physical_ns: `${BigInt(ms) * 1_000_000n}`,
});
