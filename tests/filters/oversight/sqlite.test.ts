import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { SallyportError } from '../../../config/errors.ts';
import { limits } from '../../../config/limits.ts';
import type { HoldId } from '../../../filters/common/brand.ts';
import { openDatabase } from '../../../filters/common/database.ts';
import type { Hold } from '../../../filters/oversight/holds.ts';
import { describeHoldStore, type HoldStoreFactory } from '../../contracts/hold-store.contract.ts';
import { someHoldStore } from '../../support/hold-store.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { refusalOf } from '../../support/refusal.ts';
import { digestOf, someHold } from '../../support/some-hold.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const create: HoldStoreFactory = (clock, options) => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-holds-'));
  const open = () => {
    const db = openDatabase(join(directory, 'holds.db'));
    return {
      db,
      store: someHoldStore(db, clock, options),
    };
  };
  let current = open();
  let second: ReturnType<typeof open> | undefined;
  return {
    store: () => current.store,
    other: () => {
      second ??= open();
      return second.store;
    },
    restart: () => {
      current.store.close();
      current.db.close();
      current = open();
    },
    dispose: () => {
      current.db.close();
      second?.db.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
};

describeHoldStore('SQLite', create);

const opened = () => {
  const db = openDatabase(join(temporaryDirectory(), 'holds.db'));
  const clock = movingClock();
  const store = someHoldStore(db, clock);
  return { db, store };
};

it('makes no transition that cannot be recorded, and makes it once it can', () => {
  const db = openDatabase(join(temporaryDirectory(), 'holds.db'));
  const clock = movingClock();
  const recorded: string[] = [];
  let isFull = false;
  const record = (holds: readonly Hold[]): void => {
    if (isFull) throw new SallyportError('StateUnavailable', 'the journal is full');
    recorded.push(...holds.map(({ state }) => state));
  };
  const store = someHoldStore(db, clock, { record });
  const heard: string[] = [];
  store.onTransition((hold) => heard.push(hold.state));
  const transitions: readonly [string, (id: HoldId) => unknown][] = [
    ['Pending', (id) => store.approve(id, 'dana', '')],
    ['Approved', (id) => store.consume(id)],
    ['Released', (id) => store.settle(id, 'Sent', 'access log')],
  ];
  const { id } = store.open(someHold());
  for (const [before, make] of transitions) {
    isFull = true;
    expect(refusalOf(() => make(id))).toBe('StateUnavailable');
    expect(store.get(id)?.state).toBe(before);
    isFull = false;
    make(id);
  }
  store.open(someHold());
  clock.pass(60_000);
  isFull = true;
  expect(refusalOf(() => store.expire())).toBe('StateUnavailable');
  isFull = false;
  expect(store.expire()).toBe(1);
  const made = ['Pending', 'Approved', 'Released', 'Sent', 'Pending', 'TimedOut'];
  expect([recorded, heard]).toEqual([made, made]);
  db.close();
});

it('records what it changes as it is opened', () => {
  const db = openDatabase(join(temporaryDirectory(), 'holds.db'));
  const clock = movingClock();
  someHoldStore(db, clock).open(someHold());
  const recorded: string[] = [];
  clock.setWall(clock.wallMs() - 86_400_000);
  someHoldStore(db, clock, { record: (holds) => recorded.push(...holds.map(({ state }) => state)) });
  expect(recorded).toEqual(['TimedOut']);
  db.close();
});

it('opens nothing and approves nothing when the disk is full', () => {
  const { db, store } = opened();
  const { id } = store.open(someHold());
  const pages = Number(db.connection.prepare('PRAGMA page_count').get()?.['page_count']);
  db.connection.exec(`PRAGMA max_page_count = ${pages}`);
  const bodyPreview = 'x'.repeat(60_000);
  const large = someHold({ digest: digestOf('e'), request: { ...someHold().request, bodyPreview } });
  expect(refusalOf(() => store.open(large))).toBe('StateUnavailable');
  expect(store.counts()).toMatchObject({ Pending: 1 });
  db.connection.exec('PRAGMA max_page_count = 100000');
  expect(store.approve(id, 'dana', '').state).toBe('Approved');
  db.close();
});

it.each([
  ['an unknown state', `state = 'Approvedd'`],
  ['a chain that is no list', `chain = '{}'`],
  ['approvals that are no JSON', `approvals = '['`],
  ['approvals of another shape', `approvals = '[{"by":1}]'`],
  ['a request of another shape', `request = '{"method":"GET"}'`],
])('refuses a row with %s', (_what, damage) => {
  const { db, store } = opened();
  const { id } = store.open(someHold());
  db.connection.exec(`UPDATE holds SET ${damage}`);
  expect(refusalOf(() => store.get(id))).toBe('StateUnavailable');
  expect(refusalOf(() => store.approve(id, 'dana', ''))).toBe('StateUnavailable');
  db.close();
});

it('waits for another process only so long', () => {
  const { db, store } = opened();
  const other = openDatabase(db.file);
  db.connection.exec('PRAGMA busy_timeout = 1');
  other.connection.exec('BEGIN IMMEDIATE');
  expect(refusalOf(() => store.open(someHold()))).toBe('StateUnavailable');
  other.connection.exec('ROLLBACK');
  expect(store.open(someHold()).state).toBe('Pending');
  other.close();
  db.close();
});

it('times out at a start what was opened in the future of a clock that went back', () => {
  const file = join(temporaryDirectory(), 'holds.db');
  const clock = movingClock();
  const start = () => {
    const db = openDatabase(file);
    return {
      db,
      store: someHoldStore(db, clock),
    };
  };
  const startMs = clock.wallMs();
  const day = 24 * 3_600_000;
  const before = start();
  const early = before.store.open(someHold({ timeoutMs: day }));
  before.db.close();
  clock.setWall(startMs + 365 * day);
  const wrong = start();
  const late = wrong.store.open(someHold({ timeoutMs: day, digest: digestOf('e') }));
  wrong.store.approve(late.id, 'dana', '');
  wrong.db.close();
  clock.setWall(startMs - limits.holdClockSlackMs);
  const { db, store } = start();
  expect(store.get(early.id)?.state).toBe('Pending');
  expect(store.get(late.id)).toMatchObject({ state: 'TimedOut', decidedBy: '' });
  expect(store.consume(late.id)).toBe(false);
  db.close();
});
