/** `sallyport lockdown` as an operator uses it. */
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { closed, within } from '../envoy/clients.ts';
import { until } from '../support/cli.ts';
import { type Bench, curl, makeBench, startRunning } from '../support/sidecar.ts';

let bench: Bench;
beforeEach(async () => {
  bench = await makeBench();
});
afterEach(async () => bench.close());

const statusOf = async () => JSON.parse((await bench.cli(['status', '--json'])).out);

test('a lockdown refuses everything, ends what is open, outlives a kill, and is lifted by an operator only', async () => {
  const first = await startRunning(bench);
  expect((await curl(first.status, [`${bench.plain}/hello`])).code).toBe(200);
  const proxy = new URL(first.status.data_plane.proxy);
  const stream = connect(Number(proxy.port), proxy.hostname);
  stream.write(
    `GET ${bench.plain}/stream?ticks=1000&ms=50 HTTP/1.1\r\nHost: ${new URL(bench.plain).host}\r\n\r\n`,
  );
  await within(once(stream, 'data'), 'the first event');
  const end = closed(stream);

  const locked = await bench.cli(['lockdown', '--reason', 'odd traffic', '--by', 'dana']);
  expect([locked.code, locked.out]).toEqual([
    0,
    expect.stringMatching(/^locked since .* by dana \(odd traffic\)/),
  ]);
  await within(end, 'the end of the open stream');
  const refused = await curl(first.status, [`${bench.plain}/hello`]);
  expect([refused.code, JSON.parse(refused.body)]).toMatchObject([
    503,
    { code: 'Lockdown', detail: 'odd traffic' },
  ]);
  expect(await statusOf()).toMatchObject({ lockdown: { by: 'dana', reason: 'odd traffic' } });
  expect((await bench.cli(['status'])).out).toContain('LOCKED since');

  first.child.kill('SIGKILL');
  await first.ended;
  const second = await startRunning(bench);
  expect(second.status.lockdown).toMatchObject({ by: 'dana', reason: 'odd traffic' });
  expect((await curl(second.status, [`${bench.plain}/hello`])).code).toBe(503);

  const again = await bench.cli(['lockdown', '--reason', 'another', '--by', 'lee']);
  expect([again.code, again.out]).toEqual([
    0,
    expect.stringMatching(
      /^a lockdown holds already, .*: locked since .* by dana \(odd traffic\): everything/,
    ),
  ]);
  const lift = async () => (await bench.cli(['lockdown', '--lift', '--by', 'lee'])).out;
  expect(await lift()).toMatch(/^lifted: it was locked since .* by dana \(odd traffic\)\n$/);
  expect(await lift()).toBe('no lockdown holds\n');
  expect((await curl(second.status, [`${bench.plain}/hello`])).code).toBe(200);
  expect((await statusOf()).lockdown).toBeUndefined();
}, 60_000);

test('without a sidecar it is written down, and the next one starts locked', async () => {
  const state = bench.home.env['SALLYPORT_STATE_DIR'] ?? '';
  // A directory that is mistyped is not made, and not told to be locked.
  const nowhere = await bench.cli(['lockdown', '--by', 'dana']);
  expect([nowhere.code, nowhere.err]).toEqual([1, expect.stringContaining(`no state directory ${state}`)]);
  expect(existsSync(state)).toBe(false);
  mkdirSync(state, { mode: 0o700 });
  const locked = await bench.cli(['lockdown', '--reason', 'stolen laptop', '--by', 'dana', '--json']);
  expect([locked.code, JSON.parse(locked.out)]).toMatchObject([0, { locked: { reason: 'stolen laptop' } }]);
  const status = await bench.cli(['status']);
  expect([status.code, status.err]).toEqual([
    1,
    expect.stringMatching(/LOCKED since .* by dana: stolen laptop; the next sidecar starts locked/),
  ]);
  expect((await bench.cli(['lockdown', '--by', 'lee'])).out).toMatch(/holds already.*no sidecar runs/);
  const running = await startRunning(bench);
  expect((await curl(running.status, [`${bench.plain}/hello`])).code).toBe(503);
});

test('the admin API refuses a lockdown by nobody, or with a reason that is too long', async () => {
  const running = await startRunning(bench);
  const post = (body: unknown): Promise<number> =>
    new Promise((resolve, reject) => {
      const sent = request(
        {
          socketPath: running.status.admin.socket,
          ...{ method: 'POST', path: '/v1/lockdown', headers: { 'content-type': 'application/json' } },
        },
        (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        },
      );
      sent.once('error', reject);
      sent.end(JSON.stringify(body));
    });
  expect(await post({ by: ' ' })).toBe(400);
  expect(await post({ by: 'dana', reason: 'x'.repeat(501) })).toBe(400);
  expect(await post({ by: 'dana', lift: true })).toBe(400);
  expect((await statusOf()).lockdown).toBeUndefined();
  expect((await bench.cli(['lockdown', '--lift', '--reason', 'x'])).code).toBe(2);
  await until('an answer', async () =>
    (await curl(running.status, [`${bench.plain}/hello`])).code === 200 ? true : undefined,
  );
});
