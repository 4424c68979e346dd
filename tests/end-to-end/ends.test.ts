/** Ends of a sidecar that somebody asked for, or that took its window away: nothing is left, and nobody is left hanging. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { isRunning } from '../../sidecar/run-file.ts';
import { type Status, statusSchema } from '../../sidecar/status.ts';
import { cli, collect, repository, spawnCli, until } from '../support/cli.ts';
import { envoyBinary } from '../support/envoy.ts';
import { type Bench, curl, makeBench, startRunning } from '../support/sidecar.ts';

// Several commands each, and each of them a process of its own.
vi.setConfig({ testTimeout: 60_000 });

let bench: Bench;
beforeEach(async () => {
  bench = await makeBench();
});
afterEach(async () => bench.close());

const leftOf = (status: Status): readonly string[] =>
  status.processes
    .filter(({ name, pid, start_ticks: startTicks }) => isRunning({ name, pid, startTicks }))
    .map(({ name }) => name);

const planes = [
  ['embedded', async () => ({})],
  ['envoy', async () => ({ SALLYPORT_DATA_PLANE: 'envoy', SALLYPORT_ENVOY_BINARY: await envoyBinary() })],
] as const;

describe.each(planes)('on the data plane %s', (_name, settings) => {
  test('a caller that waits for a person is told at a stop how to go on, and its hold goes on', async () => {
    const env = await settings();
    const first = await startRunning(bench, [], env);
    const asked = curl(first.status, ['-d', '{"item":"book"}', '-i', `${bench.plain}/orders`]);
    const id = await until('a pending hold', async () => {
      const { out } = await bench.cli(['holds', 'list', '--json']);
      return (JSON.parse(out) as { holds: { id: string }[] }).holds[0]?.id;
    });
    expect(await bench.cli(['stop'])).toMatchObject({ code: 0 });
    const { code, body } = await asked;
    expect(code).toBe(403);
    expect(body).toContain(`x-sallyport-hold: ${id}`);
    expect(body).toMatch(/^retry-after: \d+/m);
    expect(body).toContain('"code":"HoldPending"');
    expect(leftOf(first.status)).toEqual([]);

    const second = await startRunning(bench, [], env);
    await bench.cli(['holds', 'approve', id, '--by', 'dana']);
    const again = await curl(second.status, ['-d', '{"item":"book"}', `${bench.plain}/orders`]);
    expect(again.code).toBeLessThan(300);
    expect(bench.upstream.requests().filter((request) => request.path === '/orders')).toHaveLength(1);
  });

  test('without a reader of its log it ends cleanly, and leaves nothing running', async () => {
    const running = await startRunning(bench, ['--demo'], await settings());
    expect(leftOf(running.status)).toContain('demo upstream');
    running.child.stderr?.destroy();
    // The line of this decision is what nobody reads.
    await curl(running.status, [`${bench.plain}/hello`]);
    const [code] = await once(running.child, 'exit');
    expect(code).toBe(0);
    expect(leftOf(running.status)).toEqual([]);
    expect(await bench.cli(['stop'])).toMatchObject({ out: 'nothing runs here\n' });
  });
});

test('whoever ends `npm start` ends the sidecar with it', async () => {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(SALLYPORT_|NODE_|VITEST|npm_)/.test(name),
  );
  const child = spawn('npm', ['start', '--silent', '--', '--json', '--demo'], {
    cwd: repository,
    env: { ...Object.fromEntries(inherited), ...bench.home.env },
  });
  const seen = collect(child);
  const line = await until('the sidecar to be ready', () =>
    seen.out().includes('\n') ? seen.out() : undefined,
  );
  const status = statusSchema.parse(JSON.parse(line));
  expect(leftOf(status)).toEqual(['sidecar', 'demo upstream']);
  child.kill('SIGTERM');
  // npm itself does not wait for what it started.
  await until('the end of all', () => (leftOf(status).length === 0 ? true : undefined));
  await seen.ended;
});

test('several signals for one end do not cut it short', async () => {
  const running = await startRunning(bench, ['--demo']);
  for (const name of ['SIGINT', 'SIGTERM', 'SIGINT'] as const) running.child.kill(name);
  expect((await running.ended).code).toBe(0);
  expect(leftOf(running.status)).toEqual([]);
});

test('a signal that comes again while `run` ends what it started leaves nothing', async () => {
  const child = spawnCli(['run', '--', 'sh', '-c', 'echo up; exec sleep 60'], {
    cwd: join(bench.home.dir, 'work'),
    env: { ...bench.home.env, SALLYPORT_DEMO: 'true' },
  });
  const seen = collect(child);
  await until('the command', () => (seen.out().includes('up') ? true : undefined));
  const status = JSON.parse((await bench.cli(['status', '--json'])).out) as Status;
  // Until it has ended: before the forwarder stands, to the command, and while the sidecar is being ended.
  const again = setInterval(() => child.kill('SIGTERM'), 5);
  const { code } = await seen.ended;
  clearInterval(again);
  // Null: the last one met the process when all was done and Node had taken its handlers down.
  expect([143, null]).toContain(code);
  expect(leftOf(status)).toEqual([]);
});

test('a reader that leaves does not turn a failed check into a passed one', async () => {
  const child = spawnCli(['check', join(bench.home.dir, 'none.yaml')]);
  child.stdout?.destroy();
  child.stderr?.destroy();
  const [code] = await once(child, 'exit');
  expect(code).toBe(2);
});

test('what it decided is read from the journal once it has ended', async () => {
  const running = await startRunning(bench);
  await curl(running.status, [`${bench.plain}/hello`]);
  await curl(running.status, [`${bench.secure}/hello`]);
  const before = await bench.cli(['decisions', '--json']);
  await bench.cli(['stop']);
  const after = await bench.cli(['decisions', '--json']);
  expect(after).toMatchObject({ code: 0, err: expect.stringContaining('from the journal') });
  expect(JSON.parse(after.out)).toEqual(JSON.parse(before.out));
  expect((await bench.cli(['decisions'])).out).toContain('opened to be read; each request is decided');
  const nowhere = { ...bench.home.env, SALLYPORT_STATE_DIR: join(bench.home.dir, 'nowhere') };
  expect(await cli(['decisions'], { env: nowhere })).toMatchObject({
    code: 1,
    err: expect.stringContaining('there is no journal'),
  });
});

test('a restore makes no run directory, takes a directory that holds none of the state, and says what is in its way', async () => {
  const running = await startRunning(bench);
  const file = join(bench.home.dir, 'state.backup');
  expect(await bench.cli(['backup', file])).toMatchObject({ code: 0 });
  const exists = await bench.cli(['backup', file]);
  expect([exists.code, exists.err]).toEqual([
    1,
    expect.stringContaining('it exists already\n  Name a new file'),
  ]);
  const state = join(bench.home.dir, 'fresh');
  // As it is without root: the run directory lies in the state directory.
  const env = { SALLYPORT_STATE_DIR: state, SALLYPORT_RUN_DIR: join(state, 'run') };
  mkdirSync(join(state, 'run'), { recursive: true, mode: 0o700 });
  expect(await bench.cli(['restore', file], { env })).toMatchObject({ code: 0 });
  const again = await bench.cli(['restore', file], { env });
  expect([again.code, again.err]).toEqual([
    1,
    expect.stringMatching(
      /it holds state already \(.*holds\.db.*\)\n {2}Restore a whole backup to where no state is/,
    ),
  ]);
  const bad = await bench.cli(['restore', bench.policyFile], {
    env: { SALLYPORT_STATE_DIR: join(bench.home.dir, 'never') },
  });
  expect([bad.code, bad.err]).toEqual([1, expect.stringContaining('this is no whole backup')]);
  expect(await bench.cli(['restore', file])).toMatchObject({
    code: 1,
    err: expect.stringContaining(`pid ${running.child.pid}`),
  });
});
