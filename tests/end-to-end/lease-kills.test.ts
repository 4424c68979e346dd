/** Leases through kills and stalls of either process: what is lost is forfeited, never spent twice. */
import { writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Status, statusSchema } from '../../sidecar/status.ts';
import { envoyBinary } from '../support/envoy.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { type Bench, makeBench, startRunning, testHost } from '../support/sidecar.ts';

const limit = 400;

let bench: Bench;
beforeEach(async () => {
  bench = await makeBench();
});
afterEach(async () => bench.close());

const policy = (port: number): string => `version: 1
agents: { tester: { identity: spiffe://sallyport.test/agent/tester, users: [${process.getuid?.() ?? 0}] } }
rules:
  - { name: read, to: { hosts: [${testHost}], ports: [${port}], methods: [GET], internal: true }, allow: {} }
quotas: [{ name: hundred, rules: [read], limit: ${limit}, window: 1h, key: [agent] }]
`;

/** mulberry32: the order of kills repeats with the seed that the suite prints. */
function random(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const ask = (status: Status, agent: Agent): Promise<number> =>
  new Promise((resolve) => {
    const proxy = new URL(status.data_plane.proxy);
    const sent = request(
      {
        host: proxy.hostname,
        port: proxy.port,
        path: `${bench.plain}/hello`,
        headers: { host: testHost },
        agent,
      },
      (response) => {
        response.resume();
        response.on('end', () => resolve(response.statusCode ?? 0));
        response.on('error', () => resolve(0));
      },
    );
    sent.on('error', () => resolve(0));
    sent.end();
  });

/** The process of now: an earlier one of this test may be gone. 0 while none runs. */
async function envoyPid(): Promise<number> {
  const { out } = await bench.cli(['status', '--json']);
  const parsed = statusSchema.safeParse(JSON.parse(out));
  return parsed.data?.processes.find(({ name }) => name === 'envoy')?.pid ?? 0;
}

test.each([1, 2])(
  'with %i workers, random kills and stalls of sidecar and Envoy let no more pass than the limit',
  async (workers) => {
    writeFileSync(bench.policyFile, policy(bench.upstream.httpPort));
    const env = {
      SALLYPORT_DATA_PLANE: 'envoy',
      SALLYPORT_ENVOY_BINARY: await envoyBinary(),
      SALLYPORT_ENVOY_CONCURRENCY: String(workers),
    };
    const next = random(fuzzRuns.seed + workers);
    const reached = (): number => bench.upstream.requests().filter(({ path }) => path === '/hello').length;
    let running = await startRunning(bench, [], env);
    const agent = new Agent({ keepAlive: true, maxSockets: 8 });
    let going = true;
    const load = async (): Promise<void> => {
      while (going) {
        const code = await ask(running.status, agent);
        // The calls last for all of what happens; what is refused or cut is asked again, not at once.
        await new Promise((resolve) => setTimeout(resolve, code === 200 ? 15 : 5));
      }
    };
    const clients = Array.from({ length: 8 }, load);
    const troubles: string[] = [];
    const signalled = (pid: number, signal: NodeJS.Signals): void => {
      try {
        if (pid !== 0) process.kill(pid, signal);
      } catch {
        // Another Envoy runs by now.
      }
    };
    const stalled = async (pid: number): Promise<void> => {
      signalled(pid, 'SIGSTOP');
      await new Promise((resolve) => setTimeout(resolve, 500 + next() * 2_500));
      signalled(pid, 'SIGCONT');
    };
    for (let trouble = 0; trouble < 4; trouble += 1) {
      await new Promise((resolve) => setTimeout(resolve, 20 + next() * 300));
      const kind = Math.floor(next() * 4);
      troubles.push(['Envoy killed', 'sidecar killed', 'Envoy stalled', 'sidecar stalled'][kind] ?? '');
      if (kind === 0) signalled(await envoyPid(), 'SIGKILL');
      else if (kind === 2) await stalled(await envoyPid());
      else if (kind === 3) await stalled(running.child.pid ?? 0);
      else {
        running.child.kill('SIGKILL');
        await running.ended;
        running = await startRunning(bench, [], env);
      }
    }
    // Until everything that can still pass has passed.
    let last = -1;
    while (last !== reached()) {
      last = reached();
      await new Promise((resolve) => setTimeout(resolve, 2_500));
    }
    going = false;
    await Promise.all(clients);
    agent.destroy();
    expect(reached()).toBeLessThanOrEqual(limit);
    expect(reached()).toBeGreaterThan(0);
    console.info(
      `${troubles.join(', ')}: ${reached()} of ${limit} calls reached the upstream, ${limit - reached()} forfeited`,
    );
  },
  90_000,
);
