import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { expect, it, vi } from 'vitest';
import type { SallyportError } from '../../../config/errors.ts';
import { limits } from '../../../config/limits.ts';
import { type JournalOptions, openJournal } from '../../../filters/common/journal-file.ts';
import { journalFiles } from '../../../filters/common/journal-segments.ts';
import { describeJournal } from '../../contracts/journal.contract.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { refusalOf } from '../../support/refusal.ts';
import { someDecision } from '../../support/some-record.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const firstFile = 'decisions-0000000001.jsonl';
const names50 = Array.from({ length: 50 }, (_, i) => `dec_${i}`);

describeJournal('files', () => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-journal-'));
  const open = () => openJournal(directory, { clock: movingClock(), fileBytesMax: 5_000 });
  const opened = [open()];
  const current = () => opened.at(-1) ?? open();
  return {
    journal: current,
    restart: () => {
      current().close();
      opened.push(open());
    },
    kill: () => opened.push(open()),
    dispose: () => {
      for (const journal of opened) journal.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
});

const opened = (options: Partial<JournalOptions> = {}) => {
  const directory = temporaryDirectory();
  const heard: SallyportError[] = [];
  const clock = movingClock();
  const open = () => openJournal(directory, { clock, onError: (error) => heard.push(error), ...options });
  return { directory, files: join(directory, 'journal'), heard, clock, open };
};

it('writes files that nobody else may read', () => {
  const { files, open } = opened();
  open().close();
  expect([files, join(files, firstFile)].map((path) => statSync(path).mode & 0o777)).toEqual([0o700, 0o600]);
});

it('begins a new file when one is full', () => {
  const { files, open } = opened({ fileBytesMax: 2_000 });
  const journal = open();
  for (let i = 0; i < 50; i += 1) journal.append(someDecision({ id: `dec_${i}` }));
  const names = journalFiles(files);
  expect(names.length).toBeGreaterThan(10);
  for (const name of names) expect(statSync(join(files, name)).size).toBeLessThanOrEqual(2_000);
  expect(journal.place()).toEqual({
    file: names.at(-1),
    offset: statSync(join(files, names.at(-1) ?? '')).size,
  });
  expect(journal.tail(50).map((record) => record.id)).toEqual(names50.toReversed());
  journal.close();
});

it('drops the line that a crash cut short, says so, and goes on', () => {
  const { files, heard, open } = opened();
  const journal = open();
  journal.append(someDecision({ id: 'dec_1' }));
  journal.append(someDecision({ id: 'dec_2' }));
  journal.close();
  const file = join(files, firstFile);
  truncateSync(file, statSync(file).size - 10);
  const again = open();
  expect(heard.map((error) => error.message)).toEqual([expect.stringContaining(file)]);
  expect(again.health().droppedBytes).toBeGreaterThan(100);
  again.append(someDecision({ id: 'dec_3' }));
  expect(again.tail(9).map((record) => record.id)).toEqual(['dec_3', 'dec_1']);
  expect(readFileSync(file, 'utf8').endsWith('}\n')).toBe(true);
  again.close();
});

it('leaves a file alone that is no journal, and begins another', () => {
  const { files, heard, open } = opened();
  const journal = open();
  journal.append(someDecision({ id: 'dec_1' }));
  journal.close();
  const file = join(files, firstFile);
  appendFileSync(file, 'x'.repeat(limits.journalRecordBytesMax * 5));
  const { size } = statSync(file);
  const again = open();
  again.append(someDecision({ id: 'dec_2' }));
  expect([heard.length, statSync(file).size]).toEqual([1, size]);
  expect(again.tail(9).map((record) => record.id)).toEqual(['dec_2', 'dec_1']);
  again.close();
});

it('leaves out lines that are no records and counts them', () => {
  const { files, open } = opened();
  const journal = open();
  journal.append(someDecision({ id: 'dec_1' }));
  appendFileSync(join(files, firstFile), '\n\u0000\u0000\n{"type":"decision"}\nnull\n[]\n');
  expect(journal.tail(9).map((record) => record.id)).toEqual(['dec_1']);
  expect(journal.health().unreadableLines).toBe(4);
  journal.close();
});

it('reads whole records out of any bytes', () => {
  const directory = temporaryDirectory();
  const line = JSON.stringify({ ...someDecision(), seq: 1, salt: 'A'.repeat(22) });
  const piece = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.constant(Buffer.from(`\n${line}\n`)));
  openJournal(directory, { clock: movingClock() }).close();
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      writeFileSync(join(directory, 'journal', firstFile), Buffer.concat(pieces));
      const journal = openJournal(directory, { clock: movingClock() });
      const whole = pieces.filter((bytes) => bytes.length > line.length).length;
      expect(journal.tail(100)).toHaveLength(whole);
      journal.append(someDecision({ id: 'dec_after' }));
      expect(journal.tail(100)).toHaveLength(whole + 1);
      journal.close();
    }),
    fuzzRuns,
  );
});

it('syncs in batches and by time, and says when', async () => {
  const { clock, open } = opened();
  const journal = open();
  expect(journal.health()).toMatchObject({ unsynced: 0, lastSyncMs: undefined });
  for (let i = 0; i < limits.journalSyncRecords; i += 1) journal.append(someDecision());
  expect(journal.health().unsynced).toBe(limits.journalSyncRecords);
  await vi.waitUntil(() => journal.health().unsynced === 0, { timeout: 10_000, interval: 5 });
  expect(journal.health().lastSyncMs).toBe(clock.wallMs());
  journal.append(someDecision());
  expect(journal.health().unsynced).toBe(1);
  await vi.waitUntil(() => journal.health().unsynced === 0, { timeout: 10_000, interval: 20 });
  journal.close();
});

it('refuses while the disk is nearly full, and looks again after a while', () => {
  const { open, clock } = opened({ diskFreeBytesMin: Number.MAX_SAFE_INTEGER });
  const full = open();
  expect(refusalOf(() => full.append(someDecision()))).toBe('StateUnavailable');
  expect(full.tail(1)).toEqual([]);
  clock.pass(limits.diskFreeCacheMs);
  expect(refusalOf(() => full.append(someDecision()))).toBe('StateUnavailable');
  full.close();
});

it('takes back what the disk took only in part', () => {
  const directory = temporaryDirectory();
  const worker = fileURLToPath(new URL('journal-worker.ts', import.meta.url));
  // A file may have 20 KiB here, so that a write ends in the middle of a record as on a full disk.
  const shell = spawnSync(
    'bash',
    ['-c', 'ulimit -f 20 && exec "$0" "$1" "$2"', process.execPath, worker, directory],
    { encoding: 'utf8' },
  );
  const said: unknown = JSON.parse(shell.stdout);
  expect(said).toMatchObject({ refusal: 'StateUnavailable', again: 'StateUnavailable' });
  const file = join(directory, 'journal', firstFile);
  const lines = readFileSync(file, 'utf8').split('\n');
  expect(lines.pop()).toBe('');
  expect(said).toMatchObject({ written: lines.length, readable: lines.length });
  expect(lines.length).toBeGreaterThan(5);
  const after = openJournal(directory, { clock: movingClock() });
  expect(after.health().droppedBytes).toBe(0);
  after.close();
});
