import { utimesSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { eventNames, eventOf } from '../../../filters/audit/entry.ts';
import { findById, findByIndex, firstLeaves, idMs } from '../../../filters/audit/find.ts';
import { type AuditFilter, clockSlackMs, entries, newestEntries } from '../../../filters/audit/query.ts';
import { readState } from '../../../filters/audit/state.ts';
import { journalFiles } from '../../../filters/common/journal-segments.ts';
import { openLogWorld } from '../../support/log-world.ts';
import { someAuditRecord, someDecision, someHoldRecord } from '../../support/some-record.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const at = (second: number) => ({ logical: 0, physical_ns: `${1_700_000_000 + second}000000001` });

const filled = async () => {
  const world = openLogWorld(temporaryDirectory(), undefined, { fileBytesMax: 2_000 });
  const a = 'spiffe://example.org/team/a';
  const b = 'spiffe://example.org/b';
  const records = [
    someDecision({
      id: 'dec_0',
      at: at(0),
      agent: a,
      delegation_chain: [b, a],
      resource: 'https://one.example:443/x',
    }),
    someDecision({ id: 'dec_1', at: at(1), agent: b, kind: 'Deny', code: 'Forbidden', outcome: 'Denied' }),
    someDecision({
      id: 'dec_2',
      at: at(2),
      agent: a,
      what: 'POST tools/call search',
      resource: 'https://two.example:443/',
    }),
    someHoldRecord({ id: 'hold_3', at: at(3), agent: a, state: 'TimedOut', outcome: 'Timeout' }),
    someDecision({
      id: 'dec_4',
      at: at(4),
      agent: a,
      kind: 'QuotaExceeded',
      outcome: 'Denied',
      hold: 'hold_3',
    }),
    someAuditRecord({ id: 'aud_5', at: at(5) }),
  ];
  for (const record of records) world.journal.append(record);
  await world.log.flush();
  return { ...world, files: join(world.stateDir, 'journal') };
};

it('finds records by who, chain, what, resource, outcome, event and time', async () => {
  const { files, close } = await filled();
  const ids = (filter: AuditFilter): string[] => [...entries(files, filter)].map(({ id }) => id);
  const cases: readonly (readonly [AuditFilter, readonly string[]])[] = [
    [{}, ['dec_0', 'dec_1', 'dec_2', 'hold_3', 'dec_4', 'aud_5']],
    [{ agent: 'a' }, ['dec_0', 'dec_2', 'hold_3', 'dec_4']],
    [{ agent: 'spiffe://example.org/b' }, ['dec_1']],
    [{ agent: 'team' }, []],
    [{ chain: 'b' }, ['dec_0']],
    [{ what: 'POST' }, ['dec_2', 'hold_3']],
    [{ what: 'POST tools/call search' }, ['dec_2']],
    [{ what: 'POST tools' }, []],
    [{ resource: 'two.example' }, ['dec_2']],
    [{ outcome: 'Denied' }, ['dec_1', 'dec_4']],
    [{ event: 'timed_out' }, ['hold_3']],
    [{ event: 'quota_exceeded', agent: 'a' }, ['dec_4']],
    [{ sinceMs: 1_700_000_003_000 }, ['hold_3', 'dec_4', 'aud_5']],
    [{ sinceMs: 1_700_000_001_000, untilMs: 1_700_000_003_000 }, ['dec_1', 'dec_2']],
  ];
  for (const [filter, expected] of cases) {
    expect(ids(filter)).toEqual(expected);
    expect(newestEntries(files, filter, 100).map(({ id }) => id)).toEqual(expected.toReversed());
    expect(newestEntries(files, filter, 2).map(({ id }) => id)).toEqual(expected.toReversed().slice(0, 2));
  }
  await close();
});

it('does not open a file whose last change is well before the time that is asked for', async () => {
  const { files, close } = await filled();
  const [first = ''] = journalFiles(files);
  utimesSync(join(files, first), 1_000, 1_000);
  expect([...entries(files, { sinceMs: 1_000_000 + clockSlackMs + 1 })].map(({ id }) => id)).not.toContain(
    'dec_0',
  );
  // A clock that was set back may have made the file look older than its records are.
  expect([...entries(files, { sinceMs: 1_000_000 + clockSlackMs })].map(({ id }) => id)).toContain('dec_0');
  expect([...entries(files, {})].map(({ id }) => id)).toContain('dec_0');
  await close();
});

it('shows the fields and the events of the seeds', async () => {
  const { files, close } = await filled();
  const [entry] = newestEntries(files, { agent: 'b' }, 1);
  expect(entry).toMatchObject({
    event: 'egress_attempted',
    who: 'spiffe://example.org/b',
    why: 'Forbidden',
    outcome: 'Denied',
    timestamp: { logical: 0, physical_ns: '1700000001000000001' },
    agent_seq: 1,
  });
  for (const name of [
    'quota_exceeded',
    'oversight_requested',
    'approved',
    'denied',
    'escalated',
    'egress_attempted',
  ])
    expect(eventNames).toContain(name);
  expect(eventOf(someHoldRecord({ state: 'Pending' }))).toBe('oversight_requested');
  expect(eventNames).toContain(eventOf(someAuditRecord()));
  await close();
});

it('knows the leaf of each record, whichever file it is in', async () => {
  const world = openLogWorld(temporaryDirectory(), undefined, { fileBytesMax: 3_000 });
  for (let i = 0; i < 700; i += 1) world.journal.append(someDecision({ id: `dec_${i}x` }));
  await world.log.flush();
  for (let i = 700; i < 730; i += 1) world.journal.append(someDecision({ id: `dec_${i}x` }));
  const files = join(world.stateDir, 'journal');
  const noted = readState(world.directory)?.files ?? [];
  // Files begun after the state was written are counted.
  expect(noted.length).toBeLessThan(journalFiles(files).length);
  expect((await firstLeaves(files, noted)).map(({ file }) => file)).toEqual(journalFiles(files));
  for (const i of [0, 1, 300, 511, 512, 699, 700, 729]) {
    expect((await findById(files, noted, `dec_${i}x`, 10)).map(({ index }) => index)).toEqual([i]);
    const found = await findByIndex(files, noted, i);
    expect(found?.line.kind === 'record' && found.line.record.id).toBe(`dec_${i}x`);
  }
  expect(await findByIndex(files, noted, 730)).toBeUndefined();
  expect(await findById(files, noted, 'dec_nothing', 10)).toEqual([]);
  await world.close();
});

it('finds with an id whatever names it', async () => {
  const { files, close, directory } = await filled();
  const noted = readState(directory)?.files ?? [];
  const found = await findById(files, noted, 'hold_3', 10);
  expect(found.map(({ line }) => (line.kind === 'record' ? line.record.id : ''))).toEqual([
    'hold_3',
    'dec_4',
  ]);
  // What a caller made is no name.
  expect((await findById(files, noted, 'GET', 10)).length).toBe(0);
  // A text that only looks like the id in JSON is not it.
  expect(await findById(files, noted, 'dec_', 10)).toEqual([]);
  await close();
});

it('reads the time out of an id', () => {
  expect(idMs('dec_01ARYZ6S410000000000000000')).toBe(1_469_918_176_385);
  expect(idMs('nonsense')).toBe(0);
});
