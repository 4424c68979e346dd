import { appendFileSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import pino from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { createIds } from '../../filters/common/ids.ts';
import type { JournalRecord } from '../../filters/common/record.ts';
import { commandLineTo } from '../../sidecar/invocation.ts';
import {
  endOnLockdown,
  type Lockdown,
  lockdownFile,
  openLockdown,
  readLockdown,
} from '../../sidecar/lockdown.ts';
import { createMetrics } from '../../sidecar/metrics.ts';
import { openState } from '../../sidecar/state.ts';
import { policyOf } from '../envoy/world.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { movingClock } from '../support/moving-clock.ts';
import { refusalOf } from '../support/refusal.ts';
import { lineOf, someUse } from '../support/some-use.ts';
import { temporaryDirectory } from '../support/temporary.ts';

function setUp(stateDir = temporaryDirectory()) {
  const clock = movingClock();
  const records: JournalRecord[] = [];
  let isFull = false;
  const journal = {
    append: (record: JournalRecord) => {
      if (isFull) throw new SallyportError('StateUnavailable', 'the disk is full');
      records.push(record);
    },
  };
  const open = () => openLockdown({ stateDir, journal, ids: createIds(clock), clock });
  return {
    ...{ stateDir, clock, records, open },
    lockdown: open(),
    fill: (full: boolean) => {
      isFull = full;
    },
  };
}

test('it holds until it is lifted, over restarts, and both stand in the journal', () => {
  const { lockdown, open, records, clock } = setUp();
  expect(lockdown.isLocked()).toBeUndefined();
  lockdown.lock('dana', 'odd traffic');
  const locked = { by: 'dana', reason: 'odd traffic', since: new Date(clock.wallMs()).toISOString() };
  expect([lockdown.isLocked(), open().isLocked()]).toEqual([locked, locked]);
  lockdown.lift('lee');
  expect([lockdown.isLocked(), open().isLocked()]).toEqual([undefined, undefined]);
  expect(records).toMatchObject([
    { type: 'lockdown', action: 'locked', by: 'dana', why: 'odd traffic' },
    { type: 'lockdown', action: 'lifted', by: 'lee', why: 'odd traffic' },
  ]);
});

test.each([
  ['the next lockdown', (lockdown: Lockdown) => void lockdown.lock('lee', 'again')],
  ['the next try', (lockdown: Lockdown) => lockdown.keep()],
])('one that could not be written down is written by %s, as it was', (_name, again) => {
  const { lockdown, open, records, fill } = setUp();
  fill(true);
  expect(refusalOf(() => lockdown.lock('dana', 'odd traffic'))).toBe('StateUnavailable');
  expect(refusalOf(() => again(lockdown))).toBe('StateUnavailable');
  expect(lockdown.isLocked()).toMatchObject({ by: 'dana' });
  fill(false);
  again(lockdown);
  again(lockdown);
  expect(open().isLocked()).toMatchObject({ by: 'dana', reason: 'odd traffic' });
  expect(records).toMatchObject([{ type: 'lockdown', action: 'locked', by: 'dana', why: 'odd traffic' }]);
});

test('each change is told once; a second lockdown changes nothing', () => {
  const { lockdown, records } = setUp();
  const told: (string | undefined)[] = [];
  const stop = lockdown.onChange((locked) => told.push(locked?.by));
  lockdown.lift('dana');
  lockdown.lock('dana', 'first');
  lockdown.lock('lee', 'second');
  expect(lockdown.isLocked()).toMatchObject({ by: 'dana', reason: 'first' });
  lockdown.lift('lee');
  stop();
  lockdown.lock('dana', 'third');
  expect([told, records.length]).toEqual([['dana', undefined], 3]);
});

test('where it cannot be written down it holds all the same, and its caller is told', () => {
  const { lockdown, fill } = setUp();
  const told: boolean[] = [];
  lockdown.onChange((locked) => told.push(locked !== undefined));
  fill(true);
  expect(refusalOf(() => lockdown.lock('dana', ''))).toBe('StateUnavailable');
  expect([lockdown.isLocked()?.by, told]).toEqual(['dana', [true]]);
  expect(refusalOf(() => lockdown.lift('dana'))).toBe('StateUnavailable');
  expect([lockdown.isLocked()?.by, told]).toEqual(['dana', [true]]);
});

test('it is kept before its record: a journal that is full does not lose it', () => {
  const { lockdown, fill, open } = setUp();
  fill(true);
  expect(refusalOf(() => lockdown.lock('dana', ''))).toBe('StateUnavailable');
  expect(open().isLocked()?.by).toBe('dana');
});

test('a file that cannot be read locks', () => {
  const { stateDir, open } = setUp();
  for (const text of ['', 'garbage', '{}', '{"locked":{"by":"dana"}}', '{"locked":true}']) {
    writeFileSync(lockdownFile(stateDir), text);
    expect([text, open().isLocked()?.by]).toEqual([text, 'sallyport']);
  }
  rmSync(lockdownFile(stateDir));
  mkdirSync(lockdownFile(stateDir));
  expect(open().isLocked()?.reason).toContain('EISDIR');
});

test('any text in the file is a lockdown, unless it says that there is none', () => {
  const stateDir = temporaryDirectory();
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      writeFileSync(lockdownFile(stateDir), text);
      expect(readLockdown(stateDir, 'now')).toBeDefined();
    }),
    fuzzRuns,
  );
  writeFileSync(lockdownFile(stateDir), '{"locked":null}');
  expect(readLockdown(stateDir, 'now')).toBeUndefined();
});

test('its file is for its owner alone', () => {
  const { lockdown, stateDir } = setUp();
  lockdown.lock('dana', '');
  expect(statSync(lockdownFile(stateDir)).mode & 0o777).toBe(0o600);
  expect(JSON.parse(readFileSync(lockdownFile(stateDir), 'utf8'))).toMatchObject({ locked: { by: 'dana' } });
});

test('connections end with each lockdown, and with one that holds already', async () => {
  const { lockdown } = setUp();
  const log = pino({ level: 'silent' });
  let ended = 0;
  const plane = {
    endConnections: () => {
      ended += 1;
      return ended === 1 ? Promise.reject(new Error('Envoy does not end')) : Promise.resolve();
    },
  };
  endOnLockdown(lockdown, plane, log);
  expect(ended).toBe(0);
  lockdown.lock('dana', '');
  expect(ended).toBe(1);
  lockdown.lift('dana');
  expect(ended).toBe(1);
  lockdown.lock('dana', '');
  endOnLockdown(lockdown, plane, log);
  expect(ended).toBe(3);
});

test('somebody has to have done it, and reasons have an end', () => {
  const { lockdown } = setUp();
  expect(refusalOf(() => lockdown.lock('', 'x'))).toBe('RequestMalformed');
  expect(refusalOf(() => lockdown.lock('x'.repeat(limits.policyNameCharsMax + 1), 'x'))).toBe(
    'RequestMalformed',
  );
  expect(refusalOf(() => lockdown.lock('dana', 'x'.repeat(limits.lockdownReasonCharsMax + 1)))).toBe(
    'RequestTooLarge',
  );
  expect(lockdown.isLocked()).toBeUndefined();
  lockdown.lock('dana', '');
  expect(refusalOf(() => lockdown.lift(''))).toBe('RequestMalformed');
});

test.each([true, false])('a request that nothing let pass locks where the settings say so: %s', (locks) => {
  const stateDir = temporaryDirectory();
  const clock = movingClock();
  const state = openState(stateDir, {
    ...{ clock, ids: createIds(clock), log: pino({ level: 'silent' }), metrics: createMetrics() },
    policy: { current: () => policyOf() },
    locksOnIncident: locks,
    commandLine: commandLineTo(''),
  });
  onTestFinished(async () => state.close());
  mkdirSync(join(stateDir, 'envoy'));
  appendFileSync(join(stateDir, 'envoy', 'access.jsonl'), `${lineOf(someUse({ decision: '' }))}\n`);
  state.ledger.turn();
  const [incident] = state.journal.tail(10).filter(({ type }) => type === 'incident');
  expect(incident).toMatchObject({ kind: 'NoDecision' });
  expect(state.lockdown.isLocked()?.reason).toEqual(
    locks ? expect.stringContaining(incident?.id ?? 'no incident') : undefined,
  );
});
