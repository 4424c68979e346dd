import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { adminClient } from '../../envoy/admin-client.ts';
import { rotate } from '../../envoy/log-rotation.ts';
import { envoyPaths } from '../../envoy/paths.ts';
import { closed, secureTunnel, send, sendOn, tlsOn, tunnel, until, within } from './clients.ts';
import { startUpstreams, type Upstreams } from './upstreams.ts';
import { allow, openDir, policyOf, startWorld, type World } from './world.ts';

let dir: string;
let upstreams: Upstreams;
const endings: (() => unknown)[] = [];

beforeEach(async () => {
  dir = openDir();
  upstreams = await startUpstreams(dir);
});
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
  await upstreams.stop();
  rmSync(dir, { recursive: true, force: true });
});

async function world(options: Partial<Parameters<typeof startWorld>[0]> = {}): Promise<World> {
  const started = await startWorld({ decide: () => allow(upstreams.plain), dir, ...options });
  endings.push(started.stop);
  return started;
}

const get = (port: number, path = '/') => send(port, `GET http://api.test${path} HTTP/1.1\nHost: api.test`);

type Sidecar = Readonly<{ child: ChildProcess; port: number; envoy: number }>;

async function sidecar(upstreamPort: number): Promise<Sidecar> {
  const child = spawn(
    process.execPath,
    [join(import.meta.dirname, 'sidecar-process.ts'), dir, String(upstreamPort)],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  endings.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  });
  const lines = createInterface({ input: child.stdout });
  const [line] = await within(once(lines, 'line'), 'the sidecar’s first line');
  return { child, ...JSON.parse(String(line)) };
}

async function kill({ child }: Sidecar): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

const isAlive = (pid: number): boolean =>
  existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));

test('without the sidecar nothing new passes and open tunnels end; a new sidecar adopts the living Envoy', async () => {
  const first = await sidecar(upstreams.speaksFirst);
  const { reply, socket } = await tunnel(first.port, 'mail.test:25');
  expect(reply.status).toBe(200);
  const ended = closed(socket);
  const { socket: opaque } = await tunnel(first.port, 'opaque.test:443');
  const opaqueEnded = closed(opaque);
  opaque.write('hello, neither TLS nor HTTP\r\n');

  await kill(first);
  const killedAt = performance.now();
  const refused = await get(first.port);
  expect(refused.status).toBe(503);
  expect(JSON.parse(refused.body)).toMatchObject({ code: 'ServiceUnavailable' });
  expect((await tunnel(first.port, 'mail.test:25')).reply.status).toBe(503);
  await within(
    Promise.all([ended, opaqueEnded]),
    'the end of the tunnels',
    limits.tunnelsEndAfterSidecarLossMs,
  );
  expect(performance.now() - killedAt).toBeLessThan(limits.tunnelsEndAfterSidecarLossMs);
  expect(isAlive(first.envoy)).toBe(true);

  const second = await sidecar(upstreams.plain);
  expect(second).toMatchObject({ port: first.port, envoy: first.envoy });
  await until(async () => (await get(second.port)).status === 200, 'a request after the sidecar is back');
  await until(async () => {
    const again = await tunnel(second.port, 'mail.test:25');
    again.socket.destroy();
    return again.reply.status === 200;
  }, 'a tunnel after the sidecar is back');

  const { envoy, child } = second;
  child.kill('SIGTERM');
  await once(child, 'exit');
  expect(isAlive(envoy)).toBe(false);
}, 60_000);

test('tunnels stay open while the sidecar lives', async () => {
  const { port } = await world({ decide: () => allow(upstreams.speaksFirst, 'tunnel') });
  const { socket } = await tunnel(port, 'mail.test:25');
  let text = '';
  socket.on('data', (part: Buffer) => {
    text += part.toString();
  });
  socket.resume();
  await until(() => text.includes('220'), 'the banner');
  // Over several of Envoy's questions whether the sidecar lives.
  for (let round = 0; round < 12; round++) {
    socket.write(`round ${round};`);
    await until(() => text.includes(`round ${round};`), 'the echo');
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  socket.destroy();
}, 30_000);

test('a tunnel ends after proxy.tunnel_duration_ms_max', async () => {
  const { port } = await world({
    decide: () => allow(upstreams.speaksFirst, 'tunnel'),
    settings: { proxy: { tunnel_duration_ms_max: 1_000 } },
  });
  const { socket } = await tunnel(port, 'mail.test:25');
  await within(closed(socket), 'the end of the tunnel', 10_000);
});

test('Envoy is started again when it ends, on the same port', async () => {
  const { plane, port } = await world();
  const { pid } = await plane.health();
  process.kill(pid, 'SIGKILL');
  await until(async () => {
    const health = await plane.health();
    return health.healthy && health.pid !== pid;
  }, 'another Envoy');
  expect((await get(port)).status).toBe(200);
});

test('a change of policy drops no request and holds for every request after it', async () => {
  const { plane, port, calls } = await world();
  let stop = false;
  let sent = 0;
  const statuses = new Set<number>();
  const load = Promise.all(
    Array.from({ length: 4 }, async () => {
      while (!stop) {
        statuses.add((await get(port)).status);
        sent += 1;
      }
    }),
  );
  for (let round = 0; round < 6; round++) {
    const body = round % 2 === 0;
    await plane.apply(
      policyOf({
        needs: [
          { host: 'api.test', body, mcpPaths: [] },
          { host: `n${round}.test`, body: true, mcpPaths: ['/**'] },
        ],
      }),
    );
    const path = `/round-${round}`;
    await get(port, path);
    expect(calls.find((call) => call.path === path)?.body.kind).toBe(body ? 'whole' : 'unread');
  }
  stop = true;
  await load;
  expect([...statuses]).toEqual([200]);
  expect(sent).toBeGreaterThan(0);
});

test('a policy that makes no valid configuration is refused and the old one holds', async () => {
  const { plane, port, calls } = await world({
    policy: policyOf({ needs: [{ host: 'api.test', body: true, mcpPaths: [] }] }),
  });
  const twice = policyOf({
    needs: [{ host: '.test', body: false, mcpPaths: [] }],
    routes: new Map([['bad', { scheme: 'http', host: 'x\n', port: 80, basePath: '' }]]),
  });
  await expect(plane.apply(twice)).rejects.toMatchObject({ code: 'SettingsInvalid' });
  expect((await get(port)).status).toBe(200);
  expect(calls.at(-1)?.body.kind).toBe('whole');
});

test('certificates are withdrawn when a new policy no longer inspects the name', async () => {
  const started = await world({
    decide: (call) => (call.method === 'CONNECT' ? allow() : allow(upstreams.secure)),
    upstreamCaPem: upstreams.caPem,
  });
  const shake = () =>
    secureTunnel(started.port, 'api.test:443', { servername: 'api.test', ca: started.caPem });
  (await shake()).destroy();
  await started.plane.apply(policyOf({ inspectable: () => false }));
  await until(
    () =>
      shake().then(
        (socket) => {
          socket.destroy();
          return false;
        },
        () => true,
      ),
    'a refused handshake',
  );
});

test('a port in use is passed over for the next free one', async () => {
  const blocker = createServer();
  blocker.listen(0, '127.0.0.1');
  await once(blocker, 'listening');
  endings.push(() => blocker.close());
  const address = blocker.address();
  const port = address !== null && typeof address === 'object' ? address.port : 0;
  const started = await world({ settings: { proxy: { port } } });
  expect(started.port).toBeGreaterThan(port);
  expect((await get(started.port)).status).toBe(200);
});

test('the TLS port knows agents by client certificate, and refuses those without', async () => {
  const { authorityIn } = await import('../support/keys.ts');
  const { createClock } = await import('../../filters/common/time.ts');
  const { writeFileSync } = await import('node:fs');
  const clients = await authorityIn(join(dir, 'clients'), createClock());
  const trust = join(dir, 'trust.pem');
  writeFileSync(trust, clients.caPem);
  const started = await world({
    settings: { proxy: { tls_port: 0 }, identity: { trust_bundle_file: trust } },
  });
  const tlsPort = Number(new URL(started.plane.proxyTlsUrl ?? '').port);
  const { connect } = await import('node:net');
  const { clientCertificate } = await import('./client-certificate.ts');
  const shake = async (own: object) => {
    const socket = connect(tlsPort, '127.0.0.1');
    return tlsOn(socket, {
      ca: started.caPem,
      checkServerIdentity: () => undefined,
      servername: 'localhost',
      ...own,
    });
  };
  const mine = await clientCertificate(join(dir, 'clients'), 'spiffe://test/agent-one');
  const reply = await sendOn(await shake(mine), 'GET http://api.test/ HTTP/1.1\nHost: api.test');
  expect(reply.status).toBe(200);
  expect(started.calls.at(-1)?.connection.peerSpiffeId).toBe('spiffe://test/agent-one');
  await authorityIn(join(dir, 'strangers'), createClock());
  const stranger = await clientCertificate(join(dir, 'strangers'), 'spiffe://test/x');
  for (const own of [{}, stranger]) {
    const count = started.calls.length;
    const outcome = await shake(own).then(
      (socket) => sendOn(socket, 'GET http://api.test/ HTTP/1.1\nHost: api.test'),
      () => undefined,
    );
    expect(outcome?.status ?? 0).toBe(0);
    expect(started.calls.length).toBe(count);
  }
});

test('the access log has one line for each request, without its query, and only Envoy reads it', async () => {
  const { port, deps } = await world();
  await get(port, '/path?secret=1');
  const file = join(deps.stateDir, 'envoy', 'access.jsonl');
  await until(() => existsSync(file) && readFileSync(file, 'utf8').includes('/path'), 'the line');
  const [line = ''] = readFileSync(file, 'utf8').split('\n');
  expect(JSON.parse(line)).toMatchObject({
    stage: 'explicit',
    method: 'GET',
    authority: 'api.test',
    path: '/path',
    status: 200,
    upstream: `127.0.0.1:${upstreams.plain}`,
    decision: expect.stringMatching(/^dec_/),
    connection: expect.stringMatching(/^[0-9a-f]{12}-\d+$/),
  });
  expect(line).not.toContain('secret');
  expect(statSync(join(deps.stateDir, 'envoy')).mode & 0o077).toBe(0);
});

test('what Envoy and the sidecar share is closed to every other user', async () => {
  const { deps } = await world();
  const room = join(deps.runDir, 'envoy');
  for (const socket of ['authz.sock', 'sds.sock', 'health.sock', 'a/admin.sock'])
    expect([socket, statSync(join(room, socket)).mode & 0o077]).toEqual([socket, 0]);
  expect(statSync(room).mode & 0o007).toBe(0);
  expect(statSync(join(room, 'a')).mode & 0o077).toBe(0);
});

test('TLS to an address that the policy names is read too, though its clients name no server', async () => {
  const source = { ...policyOf().source, hosts: { box: ['127.0.0.1', '[::1]', 'x.test'] } };
  const reads = policyOf({ source, inspectable: (host) => host === '127.0.0.1' });
  const started = await world({
    decide: (call) => (call.method === 'CONNECT' ? allow() : allow(upstreams.secure)),
    upstreamCaPem: upstreams.caPem,
    policy: reads,
  });
  const socket = await secureTunnel(started.port, '127.0.0.1:443', { ca: started.caPem, host: '127.0.0.1' });
  const reply = await sendOn(socket, 'GET /ip HTTP/1.1\nHost: 127.0.0.1');
  expect(reply.status).toBe(200);
  expect(started.calls.at(-1)).toMatchObject({
    authority: '127.0.0.1',
    path: '/ip',
    connection: { sni: '' },
  });
  await expect(
    secureTunnel(started.port, '127.0.0.2:443', { ca: started.caPem, host: '127.0.0.2' }),
  ).rejects.toThrow();
});

test('putting the access log aside while requests are made loses no line', async () => {
  const { port, deps } = await world();
  const { accessLog, adminSocket } = envoyPaths(deps.runDir, deps.stateDir, '');
  const admin = adminClient(adminSocket);
  const total = 60;
  for (let number = 0; number < total; number++) {
    await get(port, `/n${number}`);
    if (number % 20 === 10) {
      await until(() => existsSync(accessLog) && statSync(accessLog).size > 0, 'a line');
      expect(await rotate([accessLog], { reopen: admin.reopenLogs, bytesMax: 0 })).toBe(true);
    }
  }
  const seen = (): number =>
    [accessLog, ...[1, 2, 3].map((number) => `${accessLog}.${number}`)]
      .filter((file) => existsSync(file))
      .flatMap((file) => readFileSync(file, 'utf8').trim().split('\n'))
      .filter((line) => line.includes('"/n')).length;
  await until(() => seen() === total, 'every line');
});
