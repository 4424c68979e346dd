/** A whole sidecar with Envoy: kills change nothing of what the ledger says was sent. */
import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { until } from '../support/cli.ts';
import { envoyBinary } from '../support/envoy.ts';
import { journaled } from '../support/ledger.ts';
import { type Bench, makeBench, type Running, startRunning } from '../support/sidecar.ts';

let bench: Bench;
beforeEach(async () => {
  bench = await makeBench();
});
afterEach(async () => bench.close());

const start = async (): Promise<Running> =>
  startRunning(bench, ['--data-plane', 'envoy'], { SALLYPORT_ENVOY_BINARY: await envoyBinary() });

const agent = new Agent({ keepAlive: true, maxSockets: 4 });
/** Status of one call; 0 where the connection broke. */
const ask = ({ status }: Running, number: number): Promise<number> =>
  new Promise((resolve) => {
    const { hostname, port } = new URL(status.data_plane.proxy);
    const sent = request(
      {
        host: hostname,
        port,
        agent,
        path: `${bench.plain}/hello?n=${number}`,
        headers: { host: new URL(bench.plain).host },
      },
      (response) => {
        response.resume();
        response.once('close', () => resolve(response.statusCode ?? 0));
      },
    );
    sent.once('error', () => resolve(0));
    sent.end();
  });

test('a sidecar killed and started again in the middle of traffic has settled exactly what arrived', async () => {
  let running = await start();
  let stop = false;
  let asked = 0;
  const statuses = new Map<number, number>();
  const load = Promise.all(
    Array.from({ length: 4 }, async () => {
      while (!stop) {
        asked += 1;
        const status = await ask(running, asked);
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
    }),
  );
  for (let round = 0; round < 2; round += 1) {
    const before = asked;
    await until('some traffic', () => (asked - before > 200 ? true : undefined));
    running.child.kill('SIGKILL');
    await once(running.child, 'exit');
    running = await start();
  }
  const before = asked;
  await until('some traffic', () => (asked - before > 200 ? true : undefined));
  stop = true;
  await load;

  const stateDir = running.status.state_dir;
  const arrived = (): number => bench.upstream.requests().length;
  const sent = (): number =>
    journaled(stateDir, 'settlement')
      .filter(({ kind }) => kind === 'Sent')
      .reduce((sum, { calls }) => sum + calls, 0);
  await until('the settlement of what arrived', () => (sent() >= arrived() ? true : undefined));
  expect(await bench.cli(['stop'])).toMatchObject({ code: 0 });
  expect(statuses.get(200)).toBeGreaterThan(400);
  expect(sent()).toBe(arrived());
  const used = journaled(stateDir, 'usage').reduce((sum, { event }) => sum + event.data.calls, 0);
  expect(used).toBe(arrived());
  expect(journaled(stateDir, 'incident')).toEqual([]);
  // Whatever was decided has an end on record.
  const settled = new Set(journaled(stateDir, 'settlement').map(({ id }) => id));
  const open = journaled(stateDir, 'decision').filter(({ kind, id }) => kind === 'Allow' && !settled.has(id));
  expect(open).toEqual([]);
}, 120_000);
