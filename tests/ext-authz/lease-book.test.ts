import { afterEach, expect, test, vi } from 'vitest';
import { limits } from '../../config/limits.ts';
import { createLeaseBook, type LeaseClosed, type LeaseLedger } from '../../ext-authz/lease-book.ts';
import type { DecisionId } from '../../filters/common/brand.ts';
import { openDatabase } from '../../filters/common/database.ts';
import { openQuotaStore } from '../../filters/quota/sqlite.ts';
import { someDebit } from '../contracts/quota-store.contract.ts';
import { movingClock } from '../support/moving-clock.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const id = (n: number): DecisionId => `dec_${String(n).padStart(26, '0')}` as DecisionId;
const lifeMs = 500;
const debit = someDebit({ limit: 100 });
/** Until when the log has to be told of every call of a lease, counted from its grant. */
const dueMs = 2 * lifeMs + limits.ledgerInterimMs;
const never = new AbortController().signal;

afterEach(() => {
  vi.useRealTimers();
});

function opened() {
  const clock = movingClock();
  const database = openDatabase(`${temporaryDirectory()}/quotas.db`);
  const quota = openQuotaStore(database, clock);
  const ledger = { caughtUpMs: Number.NEGATIVE_INFINITY, epoch: 'first' };
  const closed: LeaseClosed[] = [];
  const listeners: Parameters<LeaseLedger['onUse']>[0][] = [];
  const use = (decision: string, ordinal: number | undefined): void => {
    for (const listener of listeners) listener({ decision, ordinal });
  };
  const book = createLeaseBook({
    ...{ clock, quota },
    ledger: {
      caughtUpMs: () => ledger.caughtUpMs,
      epoch: () => ledger.epoch,
      onUse: (listener) => void listeners.push(listener),
    },
    onClosed: (one) => closed.push(one),
  });
  const grant = (n: number, calls: number): DecisionId => {
    const result = quota.debit([debit], calls);
    if (!result.ok) throw new Error('no room');
    book.open({ id: id(n), vm: 'worker-1', calls, debits: [debit], atMs: result.atMs }, lifeMs);
    return id(n);
  };
  return { clock, quota, ledger, closed, book, grant, use, used: () => quota.peek(debit).used };
}

test('what the data plane reports as unused flows back at once, and once only', () => {
  const { book, closed, grant, used } = opened();
  const one = grant(1, 40);
  expect(used()).toBe(40);
  book.report(one, 15);
  expect(used()).toBe(25);
  book.report(one, 15);
  book.report(id(9), 15);
  expect(used()).toBe(25);
  expect(closed).toEqual([{ id: one, used: 25, unused: 15, how: 'reported' }]);
});

test('a report that contradicts the ledger gives back no more than the ledger leaves', () => {
  const { book, grant, use, used } = opened();
  const one = grant(1, 40);
  for (let ordinal = 1; ordinal <= 30; ordinal += 1) use(one, ordinal);
  book.report(one, 40);
  expect(used()).toBe(30);
});

test.each([-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])('a report of %s is not believed', (left) => {
  const { book, grant, used } = opened();
  book.report(grant(1, 40), left);
  expect(used()).toBe(40);
});

/** The data plane and its log, as the book is shown them. */
function plane({ book, clock, ledger }: ReturnType<typeof opened>) {
  const log = { bufferedBytes: 0, file: '1', fileBytes: 1_000, failures: 0 };
  book.proof.readLogBy(() => Promise.resolve({ ...log }));
  return {
    log,
    ran: (sinceGrantMs: number, grantedMs: number) => book.proof.ran(['worker-1'], grantedMs + sinceGrantMs),
    /** A look at the log, and the ledger's reading after it. */
    turn: async () => {
      for (const _ of ['look', 'believe']) {
        book.sweep();
        await new Promise((resolve) => setImmediate(resolve));
        clock.pass(1);
        ledger.caughtUpMs = clock.monotonicMs();
      }
      book.sweep();
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

test('without a report the silence of the ledger gives back what was not used, once all of it must have been told', async () => {
  const here = opened();
  const { clock, closed, grant, use, used } = here;
  const { ran, turn } = plane(here);
  const one = grant(1, 40);
  const grantedMs = clock.monotonicMs();
  for (const ordinal of [1, 2, 3, 3, 40, 0, 41, -1, undefined]) use(one, ordinal);
  clock.pass(dueMs + 1_000);
  await turn();
  expect(used()).toBe(40);
  // One millisecond before the worker ran what was due, nothing is proved.
  ran(dueMs - 1, grantedMs);
  await turn();
  expect(used()).toBe(40);
  ran(dueMs, grantedMs);
  await turn();
  expect(used()).toBe(4);
  expect(closed).toEqual([{ id: one, used: 4, unused: 36, how: 'settled' }]);
});

test('what is in the buffer of the log is waited for, through a rotation too', async () => {
  const here = opened();
  const { book, clock, grant, used } = here;
  const { log, ran, turn } = plane(here);
  grant(1, 40);
  const grantedMs = clock.monotonicMs();
  clock.pass(dueMs);
  ran(dueMs, grantedMs);
  log.bufferedBytes = 300;
  await turn();
  log.fileBytes = 1_299;
  await turn();
  expect(used()).toBe(40);
  Object.assign(log, { file: '2', fileBytes: 0, bufferedBytes: 300 });
  await turn();
  log.fileBytes = 299;
  await turn();
  expect(used()).toBe(40);
  log.fileBytes = 300;
  await turn();
  expect(used()).toBe(0);
  expect(book.count()).toBe(0);
});

test('the ledger must have read what was written', async () => {
  const here = opened();
  const { book, clock, ledger, grant, used } = here;
  const { ran } = plane(here);
  grant(1, 40);
  ran(dueMs, clock.monotonicMs());
  clock.pass(dueMs);
  book.sweep();
  await new Promise((resolve) => setImmediate(resolve));
  ledger.caughtUpMs = clock.monotonicMs() - 1;
  book.sweep();
  expect(used()).toBe(40);
  ledger.caughtUpMs = clock.monotonicMs();
  book.sweep();
  expect(used()).toBe(0);
});

test('a log that lost lines proves nothing of the leases of that time', async () => {
  const here = opened();
  const { clock, closed, grant, used } = here;
  const { log, ran, turn } = plane(here);
  const lost = grant(1, 40);
  const grantedMs = clock.monotonicMs();
  log.failures = 1;
  clock.pass(dueMs);
  ran(dueMs, grantedMs);
  await turn();
  expect(used()).toBe(40);
  const later = grant(2, 10);
  clock.pass(dueMs);
  ran(dueMs, clock.monotonicMs());
  await turn();
  expect(closed).toEqual([{ id: later, used: 0, unused: 10, how: 'settled' }]);
  clock.pass(limits.leaseSettleMsMax);
  await turn();
  expect(closed.at(-1)).toEqual({ id: lost, used: 0, unused: 40, how: 'forfeited' });
  expect(used()).toBe(40);
});

test('a lease of which nobody can tell is spent', async () => {
  const here = opened();
  const { book, clock, ledger, closed, grant, used } = here;
  const { ran, turn } = plane(here);
  const lost = grant(1, 40);
  ledger.epoch = 'second';
  const silent = grant(2, 20);
  ran(dueMs, clock.monotonicMs());
  clock.pass(dueMs);
  await turn();
  // Another process of the data plane may have lost lines of the one before.
  expect(closed).toEqual([
    { id: lost, used: 0, unused: 40, how: 'forfeited' },
    { id: silent, used: 0, unused: 20, how: 'settled' },
  ]);
  expect(used()).toBe(40);
  const late = grant(3, 10);
  clock.pass(lifeMs + limits.leaseSettleMsMax - 1);
  await turn();
  expect(closed.at(-1)).toEqual({ id: late, used: 0, unused: 10, how: 'forfeited' });
  expect(book.isOpen(late)).toBe(false);
});

test('who is refused waits for what may flow back, no longer and no more than that', async () => {
  const { book, grant } = opened();
  expect(await book.flowBack(debit, 1_000, never)).toBe(false);
  const one = grant(1, 2);
  expect(await book.flowBack(someDebit({ key: 'another' }), 1_000, never)).toBe(false);
  expect(await book.flowBack(debit, 0, never)).toBe(false);
  const waiting = [book.flowBack(debit, 60_000, never), book.flowBack(debit, 60_000, never)];
  // Two calls are out, so a third would wait in vain.
  expect(await book.flowBack(debit, 60_000, never)).toBe(false);
  book.report(one, 1);
  expect(await Promise.all(waiting)).toEqual([true, true]);
  expect(await book.flowBack(debit, 60_000, never)).toBe(false);
});

test('waiting ends with the time and with the caller', async () => {
  vi.useFakeTimers();
  const { book, grant } = opened();
  grant(1, 2);
  const gone = new AbortController();
  const left = book.flowBack(debit, 60_000, gone.signal);
  const late = book.flowBack(debit, 1_000, never);
  gone.abort();
  expect(await left).toBe(false);
  vi.advanceTimersByTime(1_000);
  expect(await late).toBe(true);
  expect(vi.getTimerCount()).toBe(0);
});
