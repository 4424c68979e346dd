/** What is under way when nothing is heard of it is spent: no silence of a stalled process gives it back. */
import { renameSync, rmSync, symlinkSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { dirname, join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { adminClient } from '../../envoy/admin-client.ts';
import { http2Request, until } from '../envoy/clients.ts';
import { heat, host, keepAlive, type LeasedWorld, startLeased } from './leased-world.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const policy = (port: number): string => `version: 1
agents: { robot: { identity: spiffe://example.org/robot } }
rules:
  - { name: pass, to: { hosts: [${host}], ports: [${port}], methods: [GET], internal: true }, allow: {} }
quotas: [{ name: hundred, rules: [pass], limit: 100, window: 1h, key: [agent] }]
`;

async function envoyPid(world: LeasedWorld): Promise<number> {
  const { processes } = await world.sidecar.status();
  return processes.find(({ name }) => name === 'envoy')?.pid ?? 0;
}

/** How many calls the quota counts, as the answer to a checked request tells. */
async function counted(world: LeasedWorld): Promise<number> {
  for (;;) {
    const { headers } = await world.ask('/a', { headers: { connection: 'close' } });
    const room = /;r=(\d+)/.exec(String(headers['ratelimit'] ?? ''))?.[1];
    if (room !== undefined) return 100 - Number(room);
  }
}

/** Looked for seldom: each look is a call. */
async function flownBack(world: LeasedWorld): Promise<void> {
  for (let looks = 0; looks < 30; looks += 1) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    if ((await counted(world)) <= world.seen.length) return;
  }
  throw new Error('nothing flowed back');
}

test.each([1, 2])(
  'of %i workers: what a class that fell silent did not use flows back by itself',
  async (concurrency) => {
    const world = await startLeased(policy, { envoy: { concurrency } });
    closing.push(world.close);
    const agent = keepAlive(1);
    closing.push(() => agent.destroy());
    await heat(world, '/a', { agent });
    expect(await counted(world)).toBeGreaterThan(world.seen.length);
    await flownBack(world);
    expect(await counted(world)).toBe(world.seen.length);
  },
);

/** One connection with a lease, over which so many calls that the upstream holds are under way. */
async function underWay(world: LeasedWorld, count: number): Promise<Promise<boolean>[]> {
  const session = connectHttp2(`http://127.0.0.1:${world.port}`);
  session.on('error', () => undefined);
  closing.push(() => session.destroy());
  const authority = `${host}:${world.upstreamPort}`;
  const isLeased = async (path: string): Promise<boolean> => {
    const answer = await http2Request(session, {
      ...{ ':method': 'GET', ':scheme': 'http', ':authority': authority, ':path': path },
    });
    return (answer.headers['x-sallyport-decision'] ?? '').includes('#');
  };
  for (let asking = 0; !(await isLeased('/a')); asking += 1)
    if (asking > 300) throw new Error('never leased');
  const before = world.seen.length;
  const slow = Array.from({ length: count }, () => isLeased('/slow'));
  while (world.seen.length < before + count) await new Promise((resolve) => setTimeout(resolve, 1));
  return slow;
}

test('calls that go on for longer than anything is waited for are not given back', async () => {
  const world = await startLeased(policy, {}, { hold: (url) => url === '/slow' });
  closing.push(world.close);
  const slow = await underWay(world, 6);
  // What was not used of the same lease flows back; nothing more does after that.
  await flownBack(world);
  await new Promise((resolve) => setTimeout(resolve, limits.ledgerInterimMs));
  expect(await counted(world)).toBe(world.seen.length);
  world.release();
  expect((await Promise.all(slow)).filter((leased) => leased).length).toBeGreaterThan(3);
});

test('calls that were under way when Envoy stalled are not given back, however long it was silent', async () => {
  const world = await startLeased(policy, {}, { hold: (url) => url === '/slow' });
  closing.push(world.close);
  const pid = await envoyPid(world);
  const slow = await underWay(world, 7);
  process.kill(pid, 'SIGSTOP');
  try {
    await new Promise((resolve) => setTimeout(resolve, 3_000));
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  const agent = keepAlive(8);
  closing.push(() => agent.destroy());
  for (let refused = 0; refused < 2; ) if ((await world.ask('/a', { agent })).status === 429) refused += 1;
  expect(world.seen.length).toBe(100);
  world.release();
  expect((await Promise.all(slow)).filter((leased) => leased).length).toBeGreaterThan(3);
}, 60_000);

test('nor are calls that were checked one by one', async () => {
  const world = await startLeased(policy, { leases: { enabled: false } }, { hold: (url) => url === '/slow' });
  closing.push(world.close);
  const agent = keepAlive(100);
  closing.push(() => agent.destroy());
  const pid = await envoyPid(world);
  const slow = Array.from({ length: 30 }, () => world.ask('/slow', { agent }));
  while (world.seen.length < slow.length) await new Promise((resolve) => setTimeout(resolve, 1));
  process.kill(pid, 'SIGSTOP');
  try {
    const toldMs = limits.ledgerInterimMs + limits.ledgerFlushMs + limits.leaseSettleSlackMs;
    await new Promise((resolve) => setTimeout(resolve, toldMs + limits.ledgerLateMs + 1_500));
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  for (let asking = 0; asking < 100; asking += 1) await world.ask('/a', { agent });
  expect(world.seen.length).toBe(100);
  world.release();
  await Promise.all(slow);
}, 60_000);

test('where Envoy could not write what it had to tell, its silence gives nothing back', async () => {
  const world = await startLeased(policy);
  closing.push(world.close);
  const file = join(world.stateDir, 'envoy', 'access.jsonl');
  const admin = adminClient(join(dirname(world.stateDir), 'r', 'envoy', 'a', 'admin.sock'));
  const agent = keepAlive(1);
  closing.push(() => agent.destroy());
  await heat(world, '/a', { agent });
  // As on a full disk: every write fails, and what it held is lost.
  renameSync(file, `${file}.1`);
  symlinkSync('/dev/full', file);
  await admin.reopenLogs();
  for (let asking = 0; asking < 5; asking += 1) await world.ask('/a', { agent });
  await until(async () => ((await admin.logState(file))?.failures ?? 0) > 0, 'writes fail');
  rmSync(file);
  await admin.reopenLogs();
  await new Promise((resolve) => setTimeout(resolve, 2 * limits.leaseFlowBackMsMax));
  expect(await counted(world)).toBeGreaterThanOrEqual(world.seen.length);
});
