import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openDatabase } from '../../../filters/common/database.ts';
import { openQuotaStore } from '../../../filters/quota/sqlite.ts';
import {
  describeQuotaStore,
  type QuotaStoreFactory,
  someDebit,
} from '../../contracts/quota-store.contract.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { refusalOf } from '../../support/refusal.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const create: QuotaStoreFactory = (clock, options) => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-quota-'));
  const open = () => {
    const db = openDatabase(join(directory, 'quotas.db'), { synchronous: 'NORMAL' });
    return { db, store: openQuotaStore(db, clock, options) };
  };
  let current = open();
  const left = [current];
  return {
    store: () => current.store,
    restart: () => {
      current.store.close();
      current.db.close();
      current = open();
      left.push(current);
    },
    kill: () => {
      // The connection stays open and its store unclosed: what a dead process leaves is what was committed.
      current = open();
      left.push(current);
    },
    dispose: () => {
      for (const { db } of left) db.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
};

describeQuotaStore('SQLite', create);

it('takes nothing when the disk is full, and grants again once it is not', () => {
  const db = openDatabase(join(temporaryDirectory(), 'quotas.db'), { synchronous: 'NORMAL' });
  const store = openQuotaStore(db, movingClock());
  const pages = Number(db.connection.prepare('PRAGMA page_count').get()?.['page_count']);
  db.connection.exec(`PRAGMA max_page_count = ${pages}`);
  const granted: string[] = [];
  let refusal = 'none';
  for (let i = 0; refusal === 'none' && i < 1_000; i += 1) {
    const key = `key ${i} ${'x'.repeat(200)}`;
    refusal = refusalOf(() => store.debit([someDebit({ key })]));
    if (refusal === 'none') granted.push(key);
    else expect(store.peek(someDebit({ key })).used).toBe(0);
  }
  expect(refusal).toBe('StateUnavailable');
  expect(granted.length).toBeGreaterThan(0);
  db.connection.exec('PRAGMA max_page_count = 100000');
  expect(store.debit([someDebit({ key: 'after' })]).ok).toBe(true);
  db.close();
});

it('refuses after it was closed', () => {
  const db = openDatabase(join(temporaryDirectory(), 'quotas.db'));
  const store = openQuotaStore(db, movingClock());
  store.close();
  expect(refusalOf(() => store.debit([someDebit()]))).toBe('StateUnavailable');
  db.close();
});

it('refuses to open rows that are damaged rather than free a quota', () => {
  const db = openDatabase(join(temporaryDirectory(), 'quotas.db'));
  const clock = movingClock();
  openQuotaStore(db, clock).debit([someDebit()]);
  db.connection.exec(`UPDATE quota_windows SET counts = x'0102'`);
  expect(refusalOf(() => openQuotaStore(db, clock))).toBe('StateUnavailable');
  db.close();
});
