/** `sallyport audit` as its user calls it, beside a running sidecar and without one. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { z } from 'zod';
import { openJournal } from '../../../filters/common/journal-file.ts';
import { collect, makeHome, spawnCli, until } from '../../support/cli.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { type Bench, curl, makeBench, type Running, startRunning, testHost } from '../../support/sidecar.ts';
import { someDecision } from '../../support/some-record.ts';
import { runVerifier } from '../../support/tampered-logs.ts';

let bench: Bench;
let running: Running;
let directory: string;
const ids: string[] = [];

const tailSchema = z.object({
  records: z.array(
    z.looseObject({
      id: z.string(),
      event: z.string(),
      who: z.string(),
      outcome: z.string(),
      why: z.string(),
      record: z.looseObject({ details: z.record(z.string(), z.unknown()).default({}) }).optional(),
    }),
  ),
});
const tail = async (...args: string[]) =>
  tailSchema.parse(JSON.parse((await bench.cli(['audit', 'tail', '--json', ...args])).out)).records;

beforeAll(async () => {
  bench = await makeBench();
  running = await startRunning(bench);
  directory = join(bench.home.dir, 'state/audit');
  for (const path of ['/hello', '/hello', '/nowhere']) await curl(running.status, [`${bench.plain}${path}`]);
  const seen = await until('the decisions to be under a checkpoint', async () => {
    const shown = await bench.cli(['audit', 'verify', '--json']);
    const report: unknown = shown.out === '' ? {} : JSON.parse(shown.out);
    const parsed = z
      .looseObject({ size: z.number(), content: z.object({ waiting: z.number() }) })
      .safeParse(report);
    return parsed.success && parsed.data.size >= 3 && parsed.data.content.waiting === 0 ? report : undefined;
  });
  expect(seen).toMatchObject({ problems: [] });
  for (const { id } of await tail('--event', 'egress_attempted')) ids.push(id);
}, 60_000);
afterAll(() => bench.close());

it('shows the newest records last, and those that a filter names', async () => {
  expect(ids.length).toBeGreaterThanOrEqual(3);
  const denied = await tail('--outcome', 'Denied', '--agent', 'tester', '--what', 'GET', '--since', '1h');
  expect(denied.map(({ who }) => who)).toEqual(['spiffe://sallyport.test/agent/tester']);
  expect(denied[0]).toMatchObject({ event: 'egress_attempted', outcome: 'Denied' });
  expect(await tail('--resource', testHost, '--limit', '2')).toHaveLength(2);
  expect(await tail('--until', '2020-01-01')).toEqual([]);
  const text = await bench.cli(['audit', 'tail', '--limit', '1']);
  expect(text.out).toMatch(/:\d\d\.\d{3} UTC {2}.* {2}\w+ {2}.*\n$/);
  const wrong = await bench.cli(['audit', 'tail', '--outcome', 'Fine']);
  expect([wrong.code, wrong.err]).toEqual([2, expect.stringContaining('Success, Failure, Denied, Timeout')]);
});

it('shows a record by its id and by its leaf, with its place in the log', async () => {
  const [id = ''] = ids;
  const shown = await bench.cli(['audit', 'show', id, '--json']);
  const { records } = z
    .object({
      records: z.array(z.looseObject({ index: z.number(), entry: z.looseObject({ id: z.string() }) })),
    })
    .parse(JSON.parse(shown.out));
  expect(records[0]).toMatchObject({ entry: { id }, leaf: { type: 'decision', v: 1 } });
  const byLeaf = await bench.cli(['audit', 'show', String(records[0]?.index)]);
  expect(byLeaf.out).toContain(id);
  // As an answer's header has it, of a lease; and the beginning of it.
  for (const text of [`${id}#1`, id.slice(0, -2), id.slice(0, -1).toLowerCase()]) {
    expect((await bench.cli(['audit', 'show', text])).out).toContain(id);
    expect((await bench.cli(['audit', 'prove', text])).out).toMatch(/^c2sp\.org\/tlog-proof@v1\n/);
  }
  const several = await bench.cli(['audit', 'show', 'dec_0']);
  expect([several.code, several.err]).toEqual([2, expect.stringContaining('the beginning of several ids')]);
  const nothing = await bench.cli(['audit', 'show', 'dec_00000000000000000000000000']);
  expect([nothing.code, nothing.err]).toEqual([1, expect.stringContaining('nothing is on record under')]);
});

it('shows who did what no agent did, and why', async () => {
  await bench.cli(['lockdown', '--reason', 'odd traffic', '--by', 'dana']);
  await bench.cli(['lockdown', '--lift', '--by', 'lee']);
  const { out } = await bench.cli(['audit', 'tail', '--limit', '20']);
  expect(out).toMatch(/lockdown_locked +dana +lockdown \(odd traffic\) +lock_/);
  expect(out).toMatch(/lockdown_lifted +lee +lockdown \(odd traffic\) +lock_/);
});

it('gives receipts that it and anybody else can check', async () => {
  const [id = ''] = ids;
  const proof = await bench.cli(['audit', 'prove', id, '--content']);
  expect(proof.out).toMatch(/^c2sp\.org\/tlog-proof@v1\nextra \S+\nindex \d+\n/);
  const good = await bench.cli(['audit', 'verify', '-'], { input: proof.out });
  expect([good.code, good.out]).toEqual([0, expect.stringContaining(id)]);
  const bad = await bench.cli(['audit', 'verify', '-'], { input: proof.out.replace(/index \d+/, 'index 2') });
  expect([bad.code, bad.err]).toEqual([1, expect.stringContaining('does not lead to the root')]);
  const none = await bench.cli(['audit', 'verify', '-'], { input: 'no receipt' });
  expect([none.code, none.err]).toEqual([1, expect.stringMatching(/^sallyport: this is no receipt: .*\n$/)]);
});

it('verifies the log by keys and an earlier checkpoint that were kept elsewhere, and so does the separate verifier', async () => {
  const keys = join(bench.home.dir, 'kept.vkeys');
  const old = join(bench.home.dir, 'kept.checkpoint');
  writeFileSync(keys, readFileSync(join(directory, 'vkeys')));
  writeFileSync(old, readFileSync(join(directory, 'checkpoint')));
  const size = Number(readFileSync(old, 'utf8').split('\n')[1]);
  await curl(running.status, [`${bench.plain}/hello`]);
  await until('the log to grow', () =>
    Number(readFileSync(join(directory, 'checkpoint'), 'utf8').split('\n')[1]) > size ? true : undefined,
  );
  const shown = await bench.cli(['audit', 'verify', '--keys', keys, '--against', old]);
  expect([shown.code, shown.out]).toEqual([0, expect.stringContaining('all is well')]);
  expect(await runVerifier(directory, ['--keys', keys, '--old', old])).toMatchObject({ accepted: true });
  writeFileSync(old, readFileSync(old, 'utf8').replace(/\n\d+\n/, '\n999999\n'));
  expect((await bench.cli(['audit', 'verify', '--against', old])).code).toBe(1);
});

it('exports OCSF and CloudEvents, a line each', async () => {
  for (const [format, wanted] of [
    ['ocsf', { class_uid: 6_003, category_uid: 6 }],
    ['cloudevents', { specversion: '1.0', datacontenttype: 'application/json' }],
  ] as const) {
    const { out } = await bench.cli(['audit', 'export', '--format', format, '--event', 'egress_attempted']);
    const events = out
      .trimEnd()
      .split('\n')
      .map((line): unknown => JSON.parse(line));
    expect(events.length).toBeGreaterThanOrEqual(3);
    for (const event of events) expect(event).toMatchObject(wanted);
  }
});

it('ends an export whose reader has left, and says nothing of it', async () => {
  const home = makeHome();
  onTestFinished(() => home.remove());
  const journal = openJournal(join(home.dir, 'state'), { clock: movingClock() });
  for (let n = 0; n < 5_000; n += 1) journal.append(someDecision());
  journal.close();
  const child = spawnCli(['audit', 'export', '--format', 'ocsf'], { env: home.env });
  const { ended } = collect(child);
  child.stdout?.once('data', () => child.stdout?.destroy());
  expect(await ended).toMatchObject({ code: 0, err: '' });
});

it('erases what a record says, and every proof of it stays', async () => {
  const [id = ''] = ids;
  const receipt = await bench.cli(['audit', 'prove', id]);
  const erased = await bench.cli(['audit', 'erase', id, '--why', 'asked for', '--by', 'dana']);
  expect([erased.code, erased.out]).toEqual([0, expect.stringContaining('is erased')]);
  expect((await bench.cli(['audit', 'show', id])).out).not.toContain('/hello');
  const [act] = await tail('--event', 'content_erased');
  const leaves = z.string().parse(act?.record?.details['leaves']);
  const shown = (await bench.cli(['audit', 'show', id])).out;
  expect(shown).toMatch(/who {7}dana, record \d+ without an agent\n/);
  expect(shown).toContain(`leaves: ${leaves}`);
  const traced = await bench.cli(['trace', `${id}#1`]);
  expect([traced.code, traced.err]).toEqual([1, expect.stringContaining(`erased, by dana (asked for); lea`)]);
  expect(traced.err).toContain(` ${leaves} `);
  expect(act).toMatchObject({ why: 'asked for', record: { by: 'dana', resource: id } });
  expect((await bench.cli(['audit', 'verify', '-'], { input: receipt.out })).code).toBe(0);
  expect((await bench.cli(['audit', 'verify'])).out).toMatch(/[1-9]\d* erased.*\n.*all is well/);
  const again = await bench.cli(['audit', 'erase', id, '--why', 'asked for']);
  expect(again.code).toBe(1);
});

it('works without a sidecar, and everything of a stopped one is under its last checkpoint', async () => {
  await bench.cli(['stop']);
  const report = await bench.cli(['audit', 'verify', '--json']);
  expect(JSON.parse(report.out)).toMatchObject({
    ...{ problems: [], minimum_index: 0 },
    content: { waiting: 0, pruned: 0 },
  });
  expect((await tail()).length).toBeGreaterThan(3);
  const nowhere = await bench.cli(['audit', 'tail', '--state-dir', join(bench.home.dir, 'nothing')]);
  expect([nowhere.code, nowhere.err]).toEqual([1, expect.stringContaining('there is no record in')]);
});
