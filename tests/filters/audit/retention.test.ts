import { existsSync, readdirSync, readFileSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type Act, createRecorder } from '../../../filters/audit/audit-record.ts';
import { prune, type Retention } from '../../../filters/audit/retention.ts';
import { readState } from '../../../filters/audit/state.ts';
import { verifyLog } from '../../../filters/audit/verify.ts';
import { createIds } from '../../../filters/common/ids.ts';
import { journalFiles } from '../../../filters/common/journal-segments.ts';
import { type LogWorld, openLogWorld, somePair } from '../../support/log-world.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { someDecision } from '../../support/some-record.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const day = 86_400_000;
const pair = somePair();
const keepAll: Retention = {
  ...{ contentMs: 1_000 * day, contentMsMin: 0, contentBytesMax: 2 ** 40, tilesMs: undefined },
};

const open = (stateDir: string) => {
  const world = openLogWorld(stateDir, pair, { fileBytesMax: 50_000 });
  const clock = movingClock(Date.now());
  const record = createRecorder({
    ...{ clock, ids: createIds(clock), policyVersion: () => '0123456789ab' },
    append: (one) => world.journal.append(one),
  });
  const acts: Act[] = [];
  const pruneBy = (policy: Partial<Retention>) =>
    prune(
      {
        ...{ stateDir, clock, log: world.log },
        record: (act) => {
          acts.push(act);
          return record(act);
        },
      },
      { ...keepAll, ...policy },
    );
  return { ...world, clock, acts, pruneBy, files: join(stateDir, 'journal') };
};

const fill = async (world: LogWorld, count: number): Promise<void> => {
  for (let i = 0; i < count; i += 1)
    world.journal.append(someDecision({ id: `dec_${i}`, agent: `spiffe://example.org/${i % 3}` }));
  await world.log.flush();
};

it('lets content go by age, whole files, and says so; every proof stays', async () => {
  const world = open(temporaryDirectory());
  await fill(world, 1_000);
  const before = journalFiles(world.files);
  expect(await world.pruneBy({ contentMs: day })).toEqual({ files: [], minimumIndex: 0, fullness: 'free' });
  for (const file of before.slice(0, 3))
    utimesSync(join(world.files, file), Date.now() / 1_000, (Date.now() - 2 * day) / 1_000);
  expect((await world.pruneBy({ contentMs: day })).files).toEqual(before.slice(0, 3));
  expect(journalFiles(world.files)).toEqual(before.slice(3));
  expect(world.acts).toMatchObject([
    {
      action: 'content_pruned',
      why: 'older than audit.retention_days, 1 days',
      details: { files: 3, first_leaf: 0 },
    },
  ]);
  const [act] = world.acts;
  const report = await verifyLog(world.stateDir, world.keys());
  expect(report).toMatchObject({
    problems: [],
    leaves: 1_001,
    content: { pruned: act?.details['end_leaf'] },
  });
  expect(report.content.whole + report.content.pruned).toBe(1_001);
  await world.close();
  // And it goes on after a restart, with files that are not the first any more.
  const again = open(world.stateDir);
  await fill(again, 300);
  expect((await verifyLog(again.stateDir, again.keys())).problems).toEqual([]);
  await again.close();
});

it('lets content go above its size, the oldest first', async () => {
  const world = open(temporaryDirectory());
  await fill(world, 1_000);
  const before = journalFiles(world.files);
  const size = (files: readonly string[]) =>
    files.reduce((sum, file) => sum + statSync(join(world.files, file)).size, 0);
  await world.pruneBy({ contentBytesMax: size(before) - 1 });
  expect(journalFiles(world.files)).toEqual(before.slice(1));
  expect(world.acts[0]?.why).toContain('audit.content_bytes_max');
  await world.close();
});

it('keeps what is younger than it may go, above any size, and says how full it is', async () => {
  const world = open(temporaryDirectory());
  await fill(world, 1_000);
  const before = journalFiles(world.files);
  const size = before.reduce((sum, file) => sum + statSync(join(world.files, file)).size, 0);
  const policy = { contentMsMin: day, contentBytesMax: size };
  expect(await world.pruneBy(policy)).toMatchObject({ files: [], fullness: 'free' });
  const full = { contentMsMin: day, contentBytesMax: size - 1 };
  expect(await world.pruneBy(full)).toMatchObject({ files: [], fullness: 'full' });
  const over = { contentMsMin: day, contentBytesMax: Math.ceil(size / 2) - 1 };
  expect(await world.pruneBy(over)).toMatchObject({ files: [], fullness: 'over' });
  for (const file of before.slice(0, 1))
    utimesSync(join(world.files, file), Date.now() / 1_000, (Date.now() - 2 * day) / 1_000);
  expect(await world.pruneBy(full)).toMatchObject({ files: before.slice(0, 1), fullness: 'free' });
  await world.close();
});

it('never lets go what the tree has not taken in, or needs after a crash', async () => {
  const world = open(temporaryDirectory());
  await fill(world, 100);
  expect((await world.pruneBy({ contentBytesMax: 0 })).files).toEqual([]);
  await fill(world, 900);
  // Not under a checkpoint yet.
  for (let i = 0; i < 500; i += 1) world.journal.append(someDecision());
  const all = journalFiles(world.files);
  await world.pruneBy({ contentBytesMax: 0 });
  const place = readState(world.directory)?.place.file ?? '';
  const kept = journalFiles(world.files);
  expect(kept.length).toBeLessThan(all.length);
  expect(kept[0] !== undefined && kept[0] <= place).toBe(true);
  world.journal.close();
  // As after a kill: the log is not closed.
  const again = open(world.stateDir);
  await again.log.flush();
  expect((await verifyLog(again.stateDir, again.keys())).problems).toEqual([]);
  await again.close();
});

it('does not prune what it could not write down', async () => {
  const world = open(temporaryDirectory());
  await fill(world, 1_000);
  const before = journalFiles(world.files);
  world.journal.close();
  await expect(world.pruneBy({ contentBytesMax: 0 })).rejects.toMatchObject({ code: 'StateUnavailable' });
  expect(journalFiles(world.files)).toEqual(before);
  await world.close();
});

it('lets leaves and their tiles go by a time of their own; what is left still verifies', async () => {
  const world = open(temporaryDirectory());
  await fill(world, 1_200);
  expect((await world.pruneBy({ tilesMs: day })).minimumIndex).toBe(0);
  for (const n of ['000', '001', '003'])
    utimesSync(
      join(world.directory, `tile/entries/${n}`),
      Date.now() / 1_000,
      (Date.now() - 2 * day) / 1_000,
    );
  expect((await world.pruneBy({ tilesMs: day })).minimumIndex).toBe(512);
  expect(existsSync(join(world.directory, 'tile/entries/000'))).toBe(false);
  expect(readdirSync(join(world.directory, 'tile/0')).sort()).toEqual(['002', '003', '004.p']);
  expect(world.acts).toMatchObject([{ action: 'tiles_pruned', details: { minimum_index: 512 } }]);
  expect(await verifyLog(world.stateDir, world.keys())).toMatchObject({
    ...{ problems: [], minimumIndex: 512, leaves: 1_201 - 512, size: 1_201 },
  });
  await world.close();
  const again = open(world.stateDir);
  await fill(again, 10);
  expect(await verifyLog(again.stateDir, again.keys())).toMatchObject({ problems: [], minimumIndex: 512 });
  expect(readFileSync(join(again.directory, 'state.json'), 'utf8')).toContain('"minimum_index":512');
  await again.close();
});
