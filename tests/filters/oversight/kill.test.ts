import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import type { HoldId } from '../../../filters/common/brand.ts';
import { openDatabase } from '../../../filters/common/database.ts';
import { createClock } from '../../../filters/common/time.ts';
import { someHoldStore } from '../../support/hold-store.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const worker = fileURLToPath(new URL('hold-worker.ts', import.meta.url));

/** Runs a worker until it printed `lines` lines and kills it there, or until it ends by itself. */
async function work(
  file: string,
  name: string,
  mode: string,
  lines = Number.POSITIVE_INFINITY,
): Promise<string[]> {
  const child = spawn(process.execPath, [worker, file, name, mode], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const printed: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    printed.push(line);
    if (printed.length === lines) child.kill('SIGKILL');
  }
  await exited;
  return printed;
}

const withWord = (lines: readonly string[], word: string): HoldId[] =>
  lines.filter((line) => line.startsWith(`${word} `)).map((line) => line.slice(word.length + 1) as HoldId);

function readStates(file: string) {
  const clock = createClock();
  const db = openDatabase(file);
  const store = someHoldStore(db, clock, { membersOf: () => [] });
  return { stateOf: (id: HoldId) => store.get(id)?.state, close: () => db.close() };
}

it('loses nothing it has told and releases nothing twice, however often it is killed', async () => {
  const file = `${temporaryDirectory()}/holds.db`;
  const lines: string[] = [];
  for (let round = 0; round < 20; round += 1) {
    lines.push(...(await work(file, `${round}x`, 'forever', 2 + ((round * 37) % 61))));
  }
  lines.push(...(await work(file, 'last', 'once')));

  const { stateOf, close } = readStates(file);
  const consumed = withWord(lines, 'consumed');
  expect(withWord(lines, 'opened').length).toBeGreaterThan(50);
  expect(consumed.length).toBeGreaterThan(20);
  expect(new Set(consumed).size).toBe(consumed.length);
  for (const id of withWord(lines, 'opened')) expect(stateOf(id)).toBeDefined();
  for (const id of consumed) expect(stateOf(id)).toBe('Released');
  for (const id of withWord(lines, 'denied')) expect(stateOf(id)).toBe('Denied');
  // The last worker consumed whatever was still approved.
  for (const id of withWord(lines, 'approved')) expect(stateOf(id)).toBe('Released');
  close();
}, 120_000);

it('releases a hold to one of two processes that want it at the same time', async () => {
  const file = `${temporaryDirectory()}/holds.db`;
  await work(file, 'first', 'forever', 200);
  const both = await Promise.all([work(file, 'a', 'once'), work(file, 'b', 'once')]);
  const consumed = both.flatMap((lines) => withWord(lines, 'consumed'));
  expect(consumed.length).toBeGreaterThan(10);
  expect(new Set(consumed).size).toBe(consumed.length);
}, 60_000);
