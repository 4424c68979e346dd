/** Connections shared out among agents, and what a caller that is none of them gets. */
import { writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { startEmbeddedPlane } from '../../../sidecar/embedded/plane.ts';
import { askPlain, codeOf } from '../../data-plane/ask.ts';
import { type Harness, type HarnessOptions, startHarness } from '../../data-plane/harness.ts';
import { clerkPassword, holdPolicy, sharedPolicy } from '../../data-plane/policies.ts';
import { closed, open, parseReply, tlsOn, tunnel, until, within } from '../../envoy/clients.ts';

async function own(options: Partial<HarnessOptions>): Promise<Harness> {
  const h = await startHarness(startEmbeddedPlane, { policy: sharedPolicy, ...options });
  onTestFinished(() => h.close());
  return h;
}

test('connections past the limit are closed', async () => {
  const h = await own({ proxy: { connections_max: 1 } });
  const kept = await connectionOf(h, '');
  const second = await open(h.port);
  await within(closed(second), 'the end of the second connection');
  kept.destroy();
  await until(
    async () => (await askPlain(h, 'other.test', '/hello').catch(() => undefined))?.status === 200,
    'room',
  );
});

const clerk = `Proxy-Authorization: Basic ${Buffer.from(`clerk:${clerkPassword}`).toString('base64')}\r\n`;

/** The head of the answer to one request; the connection stays open. */
async function ask(h: Harness, stream: Duplex, credential = ''): Promise<string> {
  const answer = within(new Promise((resolve) => stream.once('data', resolve)), 'the answer');
  stream.write(`GET http://other.test:${h.ports.http}/hello HTTP/1.1\r\nHost: a\r\n${credential}\r\n`);
  return String(await answer);
}

async function connectionOf(h: Harness, credential: string): Promise<Socket> {
  const socket = await open(h.port);
  expect(await ask(h, socket, credential)).toMatch(/^HTTP\/1\.1 200 /);
  return socket;
}

test('an agent has its share of the connections, and leaves the others theirs', async () => {
  const h = await own({ proxy: { connections_max: 8 } });
  const [first, second] = [await connectionOf(h, ''), await connectionOf(h, '')];
  // The share counts connections: more requests on one of its own are no more.
  expect(await ask(h, second)).toMatch(/^HTTP\/1\.1 200 /);
  const third = await askPlain(h, 'other.test', '/hello');
  expect([third.status, codeOf(third), third.headers['connection']]).toEqual([503, 'Overloaded', 'close']);
  expect(h.refusals.at(-1)).toMatchObject({
    deny: { code: 'Overloaded', agent: { name: 'tester' } },
    request: { method: 'GET', authority: `other.test:${h.ports.http}`, path: '/hello', via: 'embedded' },
  });
  const { reply } = await tunnel(h.port, `opaque.test:${h.ports.https}`);
  expect([reply.status, codeOf(reply)]).toEqual([503, 'Overloaded']);
  const other = await connectionOf(h, clerk);
  first.destroy();
  await until(async () => (await askPlain(h, 'other.test', '/hello')).status === 200, 'room');
  for (const socket of [second, other]) socket.destroy();
});

test('callers that name no agent lose their oldest connections, and keep no agent out', async () => {
  const h = await own({ proxy: { connections_max: 8 } });
  const agent = await connectionOf(h, '');
  const idle: Socket[] = [];
  for (let count = 0; count < 12; count += 1) idle.push(await open(h.port));
  const ends = idle.slice(0, 10).map((socket) => closed(socket));
  await within(Promise.all(ends), 'the end of all but two');
  expect(idle.slice(10).map(({ destroyed }) => destroyed)).toEqual([false, false]);
  expect((await askPlain(h, 'other.test', '/hello', { headers: [clerk.trim()] })).status).toBe(200);
  expect(agent.destroyed).toBe(false);
  for (const socket of [agent, ...idle]) socket.destroy();
});

test('of a caller that is nobody no body is read', async () => {
  const h = await own({ policy: holdPolicy('20s'), podAgent: '' });
  const socket = await open(h.port);
  const answer = within(new Promise((resolve) => socket.once('data', resolve)), 'an answer before the body');
  socket.write(
    `POST http://hold.test:${h.ports.http}/orders HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx`,
  );
  expect(String(await answer)).toMatch(/^HTTP\/1\.1 401 /);
  expect(h.decisions.at(-1)).toMatchObject({
    decision: { code: 'InvalidAgent' },
    call: { body: { kind: 'unread' } },
  });
  socket.destroy();
});

test('connections over TLS are shared out like those in the clear', async () => {
  const h = await own({
    podAgent: '',
    proxy: { connections_max: 8, tls_port: 0 },
    identity: async (authority, dir) => {
      const file = join(dir, 'trust.pem');
      writeFileSync(file, authority.caPem);
      return { trust_bundle_file: file };
    },
  });
  const port = Number(new URL(h.plane.proxyTlsUrl ?? '').port);
  const pair = await h.upstreamAuthority.issue(['agent'], ['spiffe://sallyport.test/tester']);
  const shake = async () =>
    tlsOn(await open(port), {
      ca: h.caPem,
      host: '127.0.0.1',
      cert: pair.certificatePem,
      key: pair.privateKeyPem,
    });
  const [first, second] = [await shake(), await shake()];
  for (const stream of [first, second]) expect(await ask(h, stream)).toMatch(/^HTTP\/1\.1 200 /);
  expect(codeOf(parseReply(Buffer.from(await ask(h, await shake()))))).toBe('Overloaded');
  first.destroy();
  await until(async () => (await ask(h, await shake())).startsWith('HTTP/1.1 200 '), 'room');
  second.destroy();
});
