import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openDatabase } from '../../../filters/common/database.ts';
import { migrations } from '../../../filters/common/migrations.ts';
import { openQuotaStore } from '../../../filters/quota/sqlite.ts';
import { someHoldStore } from '../../support/hold-store.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { refusalOf } from '../../support/refusal.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const holdOfVersion1 = `
  INSERT INTO holds (id, state, agent, agent_id, chain, rule, rule_digest, policy_version, approvers, quorum,
    not_requester, digest, request, reason, created_logical, created_physical_ns, created_ms, expires_ms)
  VALUES ('hold_01ARYZ6S410000000000000000', 'Pending', 'deployer', 'spiffe://example.org/deployer', '[]',
    'github-write', 'aa', '0123456789ab', 'maintainers', 1, 1, 'dd',
    '{"method":"POST","url":"https://x/","headers":{},"bodyBytes":0,"bodyPreview":"","mcp":""}', '', 0,
    '1800000000000000000', 1800000000000, 1900000000000)`;
const quotaOfVersion2 = `
  INSERT INTO quota_windows VALUES ('k', 60000, 1000, 1800000000, x'02000000', 1800000000000, 1800000061000)`;

/** Data as a sidecar of each version left it, by version. A new step needs its version's line here. */
const leftBy: readonly (readonly string[])[] = [[], [holdOfVersion1], [holdOfVersion1, quotaOfVersion2]];

it('has data of every version', () => {
  expect(leftBy).toHaveLength(migrations.length + 1);
});

it.each(leftBy.map((data, version) => ({ version, data })))(
  'brings the data of version $version to the newest',
  ({ version, data }) => {
    const file = join(temporaryDirectory(), 'state.db');
    const old = openDatabase(file, { migrations: migrations.slice(0, version) });
    for (const sql of data) old.connection.exec(sql);
    old.close();

    const clock = movingClock(1_800_000_000_500);
    const db = openDatabase(file);
    expect(db.connection.prepare('PRAGMA user_version').get()?.['user_version']).toBe(migrations.length);
    const holds = someHoldStore(db, clock);
    const kept = holds.list({ limit: 10 });
    expect(kept).toHaveLength(version >= 1 ? 1 : 0);
    for (const hold of kept) expect(holds.approve(hold.id, 'dana', '').state).toBe('Approved');
    const debit = { quota: 'q', key: 'k', limit: 5, windowMs: 60_000, kind: 'quota' } as const;
    expect(openQuotaStore(db, clock).peek(debit).used).toBe(version >= 2 ? 2 : 0);
    db.close();
  },
);

it('leaves a database of a newer version alone and says so', () => {
  const file = join(temporaryDirectory(), 'state.db');
  openDatabase(file, { migrations: [...migrations, 'CREATE TABLE later (a)'] }).close();
  expect(() => openDatabase(file)).toThrow(
    `${file} has schema version ${migrations.length + 1}, and this sidecar knows versions up to ${migrations.length}`,
  );
  expect(refusalOf(() => openDatabase(file))).toBe('StateUnavailable');
});

it('stays at the version before a step that fails', () => {
  const file = join(temporaryDirectory(), 'state.db');
  const broken = ['CREATE TABLE a (x)', 'CREATE TABLE b (x); CREATE TABLE a (x)'];
  expect(refusalOf(() => openDatabase(file, { migrations: broken }))).toBe('Internal');
  const db = openDatabase(file, { migrations: broken.slice(0, 1) });
  const tables = db.connection.prepare('SELECT name FROM sqlite_schema').all();
  expect(tables.map(({ name }) => name)).toEqual(['a']);
  db.close();
});
