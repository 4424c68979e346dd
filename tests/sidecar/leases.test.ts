import { createHash } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import {
  type Answer,
  heat,
  host,
  isLeased,
  keepAlive,
  type LeasedWorld,
  startLeased,
} from './leased-world.ts';

const worlds: LeasedWorld[] = [];
const agents: ReturnType<typeof keepAlive>[] = [];
afterEach(async () => {
  for (const agent of agents.splice(0)) agent.destroy();
  for (const world of worlds.splice(0)) await world.close();
});

async function open(...args: Parameters<typeof startLeased>): Promise<LeasedWorld> {
  const world = await startLeased(...args);
  worlds.push(world);
  return world;
}
function connections(count: number): ReturnType<typeof keepAlive> {
  const agent = keepAlive(count);
  agents.push(agent);
  return agent;
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const basic = (name: string, password: string): string =>
  `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`;

const rule = (name: string, port: number, to: string, rest: string): string =>
  `  - { name: ${name}, to: { hosts: [${host}], ports: [${port}], schemes: [http], ${to}, internal: true }, ${rest} }`;

const policy =
  (limit = '') =>
  (port: number): string =>
    `version: 1
agents:
  robot: { identity: spiffe://example.org/robot }
  clerk: { identity: spiffe://example.org/clerk, credentials: ["sha256:${sha256('pass of the clerk')}"] }
routes:
  /api: { upstream: "http://${host}:${port}/base" }
approvers: { people: { members: [dana] } }
rules:
${rule('read', port, 'methods: [GET]', 'agents: [robot], allow: {}')}
${rule('write', port, 'methods: [POST], paths: [/orders]', 'hold: { approvers: people, wait: 0s }')}
${rule('never', port, 'paths: [/secret/**]', 'forbid: { reason: not for agents }').replace(', internal: true', '')}
${limit}`;

test('a busy class is leased: its requests pass without a check, and each names its place in a lease', async () => {
  const world = await open(policy());
  const agent = connections(4);
  const ask = () => world.ask('/things/1?page=2', { agent });
  const answers = [];
  for (let round = 0; round < 100; round += 1)
    answers.push(...(await Promise.all([ask(), ask(), ask(), ask()])));
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
  const leased = answers.filter(isLeased);
  expect(leased.length).toBeGreaterThan(200);
  expect(new Set(answers.map(({ decision }) => decision)).size).toBe(answers.length);
  expect(world.seen.length).toBe(answers.length);
  for (const { headers } of world.seen)
    expect(Object.keys(headers).filter((name) => /^(x-sallyport|x-lease|proxy-)/.test(name))).toEqual([]);
});

test('what a person, another rule or an odd path decides is checked each time, lease or not', async () => {
  const world = await open(policy());
  const agent = connections(1);
  await heat(world, '/a', { agent });
  for (const path of ['/secret/x', '/%73ecret/x', '/a/%2e%2e/secret/x', '//secret/x', '/./secret/x'])
    expect([403, 400], path).toContain((await world.ask(path, { agent })).status);
  expect((await world.ask('/orders', { agent, method: 'POST', body: '{}' })).status).toBe(403);
  const odd = await world.ask('/a%20b', { agent });
  expect(odd.status).toBe(200);
  expect(isLeased(odd)).toBe(false);
  expect(isLeased(await heat(world, '/a', { agent }))).toBe(true);
  const upstream = world.seen.map(({ url }) => url.toLowerCase());
  expect(upstream.filter((url) => url.includes('secret') || url.includes('orders'))).toEqual([]);
});

test('a lease is for its agent: another credential on the same connection is another agent, a wrong one is nobody', async () => {
  const world = await open(policy());
  const agent = connections(1);
  await heat(world, '/a', { agent });
  const as = (credential: string) =>
    world.ask('/a', { agent, headers: { 'proxy-authorization': credential } });
  for (let again = 0; again < 30; again += 1) {
    expect((await as(basic('clerk', 'pass of the clerk'))).status).toBe(403);
    expect((await as(basic('clerk', 'wrong'))).status).toBe(401);
    expect((await as('nonsense')).status).toBe(401);
    expect((await world.ask('/a', { agent })).status).toBe(200);
  }
});

test('nothing that a client sends forges, stretches or borrows a lease', async () => {
  const world = await open(policy());
  const agent = connections(1);
  const found = await heat(world, '/a', { agent });
  const forged = {
    'x-sallyport-class': `1 - GET ${host}:${world.upstreamPort} /a`,
    'x-sallyport-connection': 'another',
    'x-sallyport-agent': 'robot',
    'x-lease-id': found.decision,
    'x-lease-ended': `${found.decision.split('#')[0]}=60000`,
    'x-envoy-decision': found.decision,
  };
  expect((await world.ask('/secret/x', { agent, headers: forged })).status).toBe(403);
  const other = await world.ask('/a', {
    headers: { ...forged, 'proxy-authorization': basic('clerk', 'pass of the clerk') },
  });
  expect(other.status).toBe(403);
  // On a connection that nobody has asked about yet, it is checked like any other.
  const first = await world.ask('/b', { headers: forged });
  expect(first.status).toBe(200);
  for (const { headers } of world.seen) expect(headers).not.toHaveProperty('x-sallyport-class');
});

test('a base-URL route is leased in its own paths', async () => {
  const world = await open(policy());
  const agent = connections(1);
  const route = (path: string) => ({ agent, target: path, headers: { host: `127.0.0.1:${world.port}` } });
  await heat(world, '', route('/api/things'));
  expect(world.seen.at(-1)?.url).toBe('/base/things');
  const other = await heat(world, '', route('/api/others'));
  expect(world.seen.at(-1)?.url).toBe('/base/others');
  expect(other.status).toBe(200);
  expect((await world.ask('', route('/apix'))).status).toBe(404);
});

test('a policy that forbids ends every lease: once one request is refused, none passes', async () => {
  const world = await open(policy());
  const agent = connections(4);
  await heat(world, '/a', { agent });
  world.write(
    `version: 1\nagents: { robot: { identity: "spiffe://example.org/robot" } }\nrules:\n${rule('read', world.upstreamPort, 'methods: [GET], paths: [/other]', 'allow: {}')}\n`,
  );
  let refused = false;
  for (let asking = 0; asking < 20_000 && !refused; asking += 1)
    refused = (await world.ask('/a', { agent })).status === 403;
  expect(refused).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 600));
  const reached = world.seen.length;
  for (let asking = 0; asking < 50; asking += 1) expect((await world.ask('/a', { agent })).status).toBe(403);
  expect(world.seen.length).toBe(reached);
});

test.each([1, 2])(
  'with %i workers exactly 100 of 2,000 concurrent calls reach the upstream',
  async (concurrency) => {
    const quota = 'quotas: [{ name: hundred, rules: [read], limit: 100, window: 1h, key: [agent] }]';
    const world = await open(policy(quota), { envoy: { concurrency } });
    const agent = connections(400);
    const answers: Answer[] = [];
    // The class is busy by the time that the crowd comes.
    while (!answers.some(isLeased)) answers.push(await world.ask('/a', { agent }));
    answers.push(...(await Promise.all(Array.from({ length: 2_000 }, () => world.ask('/a', { agent })))));
    const passed = answers.filter(({ status }) => status === 200);
    expect(world.seen.length).toBe(100);
    expect(passed.length).toBe(100);
  },
  60_000,
);

test('without leases every request is checked by itself', async () => {
  const world = await open(policy(), { leases: { enabled: false } });
  const agent = connections(2);
  for (let asking = 0; asking < 60; asking += 1) {
    const answer = await world.ask('/a', { agent });
    expect(answer.status).toBe(200);
    expect(isLeased(answer)).toBe(false);
  }
});
