/** Ends of a sidecar that nobody planned: what was promised still holds after. */
import { once } from 'node:events';
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { isRunning } from '../../sidecar/run-file.ts';
import { until } from '../support/cli.ts';
import { type Bench, curl, makeBench, policyText, startRunning } from '../support/sidecar.ts';

let bench: Bench;
beforeEach(async () => {
  bench = await makeBench();
});
afterEach(async () => bench.close());

const holds = async (state: string): Promise<{ id: string; state: string }[]> => {
  const { out } = await bench.cli(['holds', 'list', '--state', state, '--json']);
  return (JSON.parse(out) as { holds: { id: string; state: string }[] }).holds;
};
const order = ['-d', '{"item":"book"}'];

test('a hold outlives the kill of the sidecar, and its approval lets the same request out once', async () => {
  const first = await startRunning(bench);
  const cut = curl(first.status, [...order, `${bench.plain}/orders`]).catch(() => undefined);
  const [pending] = await until('a pending hold', async () => {
    const found = await holds('Pending');
    return found.length === 0 ? undefined : found;
  });
  first.child.kill('SIGKILL');
  await first.ended;
  await cut;
  expect(bench.upstream.requests().filter((request) => request.path === '/orders')).toHaveLength(0);

  const second = await startRunning(bench);
  expect(await holds('Pending')).toMatchObject([{ id: pending?.id }]);
  expect(await bench.cli(['holds', 'approve', pending?.id ?? '', '--by', 'dana'])).toMatchObject({ code: 0 });
  expect((await curl(second.status, [...order, `${bench.plain}/orders`])).code).toBeLessThan(300);
  expect(bench.upstream.requests().filter((request) => request.path === '/orders')).toHaveLength(1);
});

test('a quota that was used up is still used up after a kill', async () => {
  const first = await startRunning(bench);
  for (let i = 0; i < 3; i += 1) await curl(first.status, [`${bench.plain}/limited`]);
  first.child.kill('SIGKILL');
  await first.ended;
  const second = await startRunning(bench);
  expect((await curl(second.status, [`${bench.plain}/limited`])).code).toBe(429);
});

test('after a kill, stop finds nothing of the dead sidecar and a start takes over', async () => {
  const first = await startRunning(bench);
  first.child.kill('SIGKILL');
  await first.ended;
  expect(await bench.cli(['status'])).toMatchObject({ code: 1 });
  expect(await bench.cli(['stop'])).toMatchObject({ code: 0, out: 'nothing runs here\n' });
  const second = await startRunning(bench);
  expect((await curl(second.status, [`${bench.plain}/hello`])).code).toBe(200);
});

test('what a killed sidecar left running is ended by stop', async () => {
  const first = await startRunning(bench, ['--demo']);
  const [told] = first.status.processes.filter(({ name }) => name === 'demo upstream');
  const demo = told && { name: told.name, pid: told.pid, startTicks: told.start_ticks };
  first.child.kill('SIGKILL');
  // Not `ended`: what was left running still holds the pipes.
  await once(first.child, 'exit');
  expect(demo === undefined || isRunning(demo)).toBe(true);
  const { code, out } = await bench.cli(['stop']);
  expect([code, out]).toEqual([0, `ended: demo upstream (pid ${demo?.pid})\n`]);
  expect(demo !== undefined && isRunning(demo)).toBe(false);
});

test('SIGTERM ends it with status 0', async () => {
  const first = await startRunning(bench);
  first.child.kill('SIGTERM');
  expect((await first.ended).code).toBe(0);
});

test('a new policy holds once it is written; a wrong one is refused, told, and changes nothing', async () => {
  const ports = `[${bench.upstream.httpPort}, ${bench.upstream.httpsPort}]`;
  const running = await startRunning(bench);
  expect((await curl(running.status, [`${bench.plain}/hello`])).code).toBe(200);

  writeFileSync(bench.policyFile, policyText(ports).replace('/hello, ', ''));
  await until('the new policy', async () =>
    (await curl(running.status, [`${bench.plain}/hello`])).code === 403 ? true : undefined,
  );
  writeFileSync(bench.policyFile, policyText(ports, 'surprise: true\n'));
  const refused = await bench.cli(['reload']);
  expect([refused.code, refused.err]).toEqual([1, expect.stringMatching(/policy\.yaml:\d+:\d+/)]);
  expect((await curl(running.status, [`${bench.plain}/hello`])).code).toBe(403);
  const { out } = await bench.cli(['status', '--json']);
  expect(JSON.parse(out)).toMatchObject({ health: { status: 'Degraded' } });
});

test('a backup taken while it runs brings the holds back on another state directory', async () => {
  const first = await startRunning(bench);
  const asked = curl(first.status, [...order, `${bench.plain}/orders`]).catch(() => undefined);
  const [pending] = await until('a pending hold', async () => {
    const found = await holds('Pending');
    return found.length === 0 ? undefined : found;
  });
  const file = join(bench.home.dir, 'state.backup');
  expect(await bench.cli(['backup', file])).toMatchObject({ code: 0 });
  expect(await bench.cli(['restore', file])).toMatchObject({ code: 1, err: expect.stringContaining('pid') });
  await bench.cli(['stop']);
  await asked;
  const elsewhere = { SALLYPORT_STATE_DIR: join(bench.home.dir, 'other') };
  expect(await bench.cli(['restore', file], { env: elsewhere })).toMatchObject({ code: 0 });
  // What seals the keys is not in the backup: it is brought along.
  copyFileSync(join(bench.home.dir, 'state.kek'), join(bench.home.dir, 'other.kek'));
  const second = await startRunning(bench, [], elsewhere);
  const { out } = await bench.cli(['holds', 'list', '--state', 'Pending', '--json'], { env: elsewhere });
  expect(JSON.parse(out)).toMatchObject({ holds: [{ id: pending?.id }] });
  expect(await bench.cli(['stop'], { env: elsewhere })).toMatchObject({ code: 0 });
  expect((await second.ended).code).toBe(0);
});
