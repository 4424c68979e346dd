/** What a request may look like under a lease: nothing passes by one that the check would refuse. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { afterEach, expect, test } from 'vitest';
import { http2On, http2Request, secureTunnel, tlsOn, tunnel, until } from '../envoy/clients.ts';
import { heat, host, isLeased, keepAlive, type LeasedWorld, startLeased } from './leased-world.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
async function open(...args: Parameters<typeof startLeased>): Promise<LeasedWorld> {
  const world = await startLeased(...args);
  closing.push(world.close);
  return world;
}
const connection = (): ReturnType<typeof keepAlive> => {
  const agent = keepAlive(1);
  closing.push(() => agent.destroy());
  return agent;
};

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const told =
  (session: ClientHttp2Session, authority: string) =>
  async (path: string, headers: Readonly<Record<string, string>> = {}): Promise<Told> => {
    const answer = await http2Request(session, {
      ...{ ':method': 'GET', ':scheme': 'http', ':authority': authority, ':path': path },
      ...headers,
    });
    return { status: answer.status, decision: answer.headers['x-sallyport-decision'] ?? '' };
  };

const policy = (port: number): string => `version: 1
agents: { robot: { identity: spiffe://example.org/robot } }
rules:
  - { name: pass, to: { hosts: [${host}], ports: [${port}], methods: [GET, POST], internal: true }, allow: {} }
  - { name: never, to: { hosts: [${host}], ports: [${port}], paths: [/secret/**] }, forbid: {} }
`;

test('a credential that looks like none is one, and a wrong one', async () => {
  const world = await open(policy);
  const agent = connection();
  const found: [string, number, string][] = [];
  for (const credential of ['-', '--', '- x', 'GE', '-GE', '']) {
    // Known by now at first sight.
    for (let leased = 0; leased < 3; ) if (isLeased(await heat(world, '/a', { agent }))) leased += 1;
    const answer = await world.ask('/a', { agent, headers: { 'proxy-authorization': credential } });
    found.push([credential, answer.status, isLeased(answer) ? 'leased' : 'checked']);
  }
  expect(found.filter(([, status]) => status !== 401)).toEqual([]);
});

/** One request after another on one connection, HTTP/1.1; status and decision of each. */
function oneByOne(
  stream: Duplex,
  authority: string,
): (path: string, lines?: readonly string[]) => Promise<Told> {
  let answered: ((told: Told) => void) | undefined;
  let got = '';
  stream.on('data', (part: Buffer) => {
    got += part.toString('latin1');
    const at = got.indexOf('\r\n\r\n');
    const length = Number(
      /content-length: (\d+)/i.exec(got)?.[1] ?? (/^transfer-encoding: chunked/im.test(got) ? Number.NaN : 0),
    );
    if (at === -1 || (Number.isNaN(length) ? !got.endsWith('0\r\n\r\n') : got.length < at + 4 + length))
      return;
    const told = {
      status: Number(got.split(' ')[1]),
      decision: /^x-sallyport-decision: (\S+)/im.exec(got)?.[1] ?? '',
    };
    got = '';
    answered?.(told);
  });
  stream.resume();
  return (path, lines = []) =>
    new Promise((resolve) => {
      answered = resolve;
      stream.write([`GET ${path} HTTP/1.1`, `Host: ${authority}`, ...lines, '', ''].join('\r\n'));
    });
}
type Told = Readonly<{ status: number; decision: string }>;
const isUnderLease = ({ decision }: Told): boolean => decision.includes('#');

/** Asks until an answer came by a lease, and once more, so that the path is known at first sight. */
async function warm(ask: () => Promise<Told>): Promise<void> {
  for (let asking = 0; asking < 300; asking += 1)
    if (isUnderLease(await ask()) && isUnderLease(await ask())) return;
  throw new Error('never leased');
}

const inTunnels = (port: number, securePort: number): string => `version: 1
agents:
  robot: { identity: spiffe://example.org/robot }
  clerk: { identity: spiffe://example.org/clerk, credentials: ["sha256:${sha256('pass of the clerk')}"] }
rules:
  - { name: pass, agents: [robot], to: { hosts: [${host}, other.test], ports: [${port}, ${securePort}], methods: [GET], internal: true }, allow: {} }
  - { name: clerks, agents: [clerk], to: { hosts: [${host}], ports: [${securePort}], methods: [GET], paths: [/open/**], internal: true }, allow: {} }
  - { name: never, to: { hosts: ["**"], paths: [/secret/**] }, forbid: {} }
`;

test('inside intercepted TLS, over HTTP/1.1: leased, by its own connection, host and path alone', async () => {
  const world = await open(inTunnels, {}, { secure: true });
  const authority = `${host}:${world.securePort}`;
  const socket = await secureTunnel(world.port, authority, { servername: host, ca: world.caPem });
  closing.push(() => socket.destroy());
  const ask = oneByOne(socket, authority);
  await warm(() => ask('/a'));
  expect((await ask('/secret/x')).status).toBe(403);
  // For the destination, not for the proxy: who speaks in a tunnel is who opened it.
  const own = await ask('/a', ['Proxy-Authorization: Basic eDp5']);
  expect(own.status).toBe(200);
  const found = world.seen.at(-1);
  expect(found?.headers).not.toHaveProperty('x-sallyport-class');
  expect(found?.headers).not.toHaveProperty('proxy-authorization');
  const other = oneByOne(socket, `other.test:${world.securePort}`);
  for (let asking = 0; asking < 20; asking += 1) expect((await other('/a')).status).toBe(421);
  expect(world.seen.filter(({ url }) => url.includes('secret'))).toEqual([]);
});

test('inside intercepted TLS, over HTTP/2: every stream has its own place in a lease, and its own authority', async () => {
  const world = await open(inTunnels, {}, { secure: true });
  const authority = `${host}:${world.securePort}`;
  const options = { servername: host, ca: world.caPem, ALPNProtocols: ['h2'] };
  const session = http2On(await secureTunnel(world.port, authority, options), authority);
  closing.push(() => session.destroy());
  const ask = told(session, authority);
  await warm(() => ask('/a'));
  const many = await Promise.all(Array.from({ length: 90 }, () => ask('/a')));
  expect(many.map(({ status }) => status)).toEqual(many.map(() => 200));
  expect(many.filter(isUnderLease).length).toBeGreaterThan(10);
  expect(new Set(many.map(({ decision }) => decision)).size).toBe(many.length);
  const elsewhere = told(session, `other.test:${world.securePort}`);
  for (let asking = 0; asking < 20; asking += 1) expect((await elsewhere('/a')).status).toBe(421);
  expect((await ask('/secret/x')).status).toBe(403);
  expect(world.seen.every(({ url }) => url === '/a')).toBe(true);
});

test('another agent through the same proxy to the same host has its own leases', async () => {
  const world = await open(inTunnels, {}, { secure: true });
  const authority = `${host}:${world.securePort}`;
  const tls = { servername: host, ca: world.caPem };
  const robot = oneByOne(await secureTunnel(world.port, authority, tls), authority);
  const credential = Buffer.from('clerk:pass of the clerk').toString('base64');
  const opened = await tunnel(world.port, authority, `Proxy-Authorization: Basic ${credential}`);
  const clerk = oneByOne(await tlsOn(opened.socket, tls), authority);
  await warm(() => robot('/a'));
  await warm(() => clerk('/open/a'));
  for (let asking = 0; asking < 30; asking += 1) {
    expect((await clerk('/a')).status).toBe(403);
    expect((await robot('/a')).status).toBe(200);
    expect((await clerk('/open/a')).status).toBe(200);
  }
});

test('a withdrawn credential ends the leases of its tunnels: once one request is refused, none passes', async () => {
  const withPasswords =
    (...known: readonly string[]) =>
    (port: number, securePort: number): string =>
      inTunnels(port, securePort).replace(
        /credentials: \[.*\]/,
        `credentials: [${known.map((password) => `"sha256:${sha256(password)}"`).join(', ')}]`,
      );
  const world = await open(withPasswords('stolen', 'kept'), {}, { secure: true });
  const authority = `${host}:${world.securePort}`;
  const through = async (password: string) => {
    const credential = Buffer.from(`clerk:${password}`).toString('base64');
    const opened = await tunnel(world.port, authority, `Proxy-Authorization: Basic ${credential}`);
    return oneByOne(await tlsOn(opened.socket, { servername: host, ca: world.caPem }), authority);
  };
  const [stolen, kept] = [await through('stolen'), await through('kept')];
  await warm(() => stolen('/open/a'));
  await warm(() => kept('/open/a'));
  world.write(withPasswords('kept')(world.upstreamPort, world.securePort));
  await until(async () => {
    // Its neighbour, whose lease is of the same class, keeps that class busy.
    expect((await kept('/open/a')).status).toBe(200);
    return (await stolen('/open/a')).status === 401;
  }, 'a refusal');
  // Workers share nothing: the other one's lease, were there one, ends within its life.
  await new Promise((resolve) => setTimeout(resolve, 600));
  await warm(() => kept('/open/a'));
  for (let asking = 0; asking < 30; asking += 1) {
    expect((await stolen('/open/a')).status).toBe(401);
    expect((await kept('/open/a')).status).toBe(200);
  }
});

test('over mutual TLS a lease is for the name in the client certificate', async () => {
  const world = await open(inTunnels, {}, { secure: true, mutual: true });
  const authority = `${host}:${world.securePort}`;
  const plain = `http://${host}:${world.upstreamPort}`;
  const client = async (name: string) => {
    const { certificatePem: cert, privateKeyPem: key } = await world.authority.issue(
      [],
      [`spiffe://example.org/${name}`],
    );
    const socket = connectTls({
      ...{ port: world.tlsPort, host: '127.0.0.1', cert, key, ca: world.caPem },
      checkServerIdentity: () => undefined,
    });
    closing.push(() => socket.destroy());
    await once(socket, 'secureConnect');
    const ask = oneByOne(socket, authority.replace(/\d+$/, String(world.upstreamPort)));
    return () => ask(`${plain}/a`);
  };
  const [robot, clerk] = [await client('robot'), await client('clerk')];
  await warm(robot);
  for (let asking = 0; asking < 30; asking += 1) {
    expect((await clerk()).status).toBe(403);
    expect((await robot()).status).toBe(200);
  }
});

test('clear HTTP inside a tunnel is leased, for the host of its CONNECT alone', async () => {
  const world = await open(inTunnels, {}, { secure: true });
  const authority = `${host}:${world.upstreamPort}`;
  const { reply, socket } = await tunnel(world.port, authority);
  expect(reply.status).toBe(200);
  closing.push(() => socket.destroy());
  const ask = oneByOne(socket, authority);
  await warm(() => ask('/a'));
  const other = oneByOne(socket, `other.test:${world.upstreamPort}`);
  for (let asking = 0; asking < 20; asking += 1) expect((await other('/a')).status).toBe(421);
  expect((await ask('/secret/x')).status).toBe(403);
});

test('over HTTP/2 in the clear: leased, and what is spelt oddly is refused as it is without a lease', async () => {
  const world = await open(policy);
  const authority = `${host}:${world.upstreamPort}`;
  const session = connectHttp2(`http://127.0.0.1:${world.port}`);
  closing.push(() => session.destroy());
  const ask = told(session, authority);
  await warm(() => ask('/a'));
  const many = await Promise.all(Array.from({ length: 90 }, () => ask('/a')));
  expect(many.map(({ status }) => status)).toEqual(many.map(() => 200));
  expect(new Set(many.map(({ decision }) => decision)).size).toBe(many.length);
  const odd: [Record<string, string>, number][] = [
    [{ ':path': '/secret/x' }, 403],
    [{ ':path': '/a/../secret/x' }, 403],
    [{ ':path': '/%73ecret/x' }, 403],
    [{ ':authority': `${authority},x` }, 400],
    [{ ':method': 'get' }, 400],
    [{ ':method': 'DELETE' }, 403],
    [{ 'proxy-authorization': '-' }, 401],
    [{ 'proxy-authorization': '' }, 401],
    // Beside the authority it is nobody's.
    [{ host: 'other.test' }, 200],
  ];
  for (const [headers, status] of odd) {
    await warm(() => ask('/a'));
    expect([headers, (await ask('/a', headers)).status]).toEqual([headers, status]);
  }
  expect(world.seen.filter(({ headers }) => headers.host !== authority)).toEqual([]);
});

test('an upgrade is asked about each time, whatever its method', async () => {
  const world = await open(policy);
  const agent = connection();
  for (const method of ['GET', 'POST']) {
    const post = { agent, method, body: '' };
    for (let leased = 0; leased < 3; ) if (isLeased(await heat(world, '/a', post))) leased += 1;
    const answer = await new Promise<Told>((resolve, reject) => {
      const sent = request({
        ...{ host: '127.0.0.1', port: world.port, method, agent },
        path: `http://${host}:${world.upstreamPort}/a`,
        headers: { host: `${host}:${world.upstreamPort}`, connection: 'Upgrade', upgrade: 'websocket' },
      });
      sent.on('response', (response) => {
        response.resume();
        const { 'x-sallyport-decision': decision = '' } = response.headers;
        response.on('end', () => resolve({ status: response.statusCode ?? 0, decision: String(decision) }));
      });
      sent.on('error', reject);
      sent.end();
    });
    expect([method, answer.status, isUnderLease(answer)]).toEqual([method, 200, false]);
  }
});

test('a route that comes to lead elsewhere carries nothing there by a lease of the time before', async () => {
  const leading = (base: string) => (port: number) =>
    `version: 1
agents: { robot: { identity: spiffe://example.org/robot } }
routes: { /api: { upstream: "http://${host}:${port}${base}" } }
rules:
  - { name: pass, to: { hosts: [${host}], ports: [${port}], methods: [GET], paths: [/open/**], internal: true }, allow: {} }
`;
  const world = await open(leading('/open'));
  const agent = connection();
  const ask = () =>
    world.ask('', { agent, target: '/api/things', headers: { host: `127.0.0.1:${world.port}` } });
  await warm(ask);
  world.write(leading('/closed')(world.upstreamPort));
  for (let refused = 0; refused < 20; ) if ((await ask()).status === 403) refused += 1;
  expect(new Set(world.seen.map(({ url }) => url))).toEqual(new Set(['/open/things']));
});
