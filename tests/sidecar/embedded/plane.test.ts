/** What only the embedded plane promises, or what only it can be asked to show. */

import { writeFileSync } from 'node:fs';
import { connect as connectHttp2, createServer as createHttp2, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { startEmbeddedPlane } from '../../../sidecar/embedded/plane.ts';
import { askPlain, codeOf, seen } from '../../data-plane/ask.ts';
import { type Harness, type HarnessOptions, startHarness } from '../../data-plane/harness.ts';
import { holdPolicy, sharedPolicy } from '../../data-plane/policies.ts';
import { closed, open, readAll, send, sendOn, tlsOn, tunnel, until, within } from '../../envoy/clients.ts';

let shared: Harness;
beforeAll(async () => {
  shared = await startHarness(startEmbeddedPlane, { policy: sharedPolicy });
});
afterAll(() => shared.close());

async function own(options: Partial<HarnessOptions>): Promise<Harness> {
  const h = await startHarness(startEmbeddedPlane, { policy: sharedPolicy, ...options });
  onTestFinished(() => h.close());
  return h;
}

test('early hints pass before the answer', async () => {
  const socket = await open(shared.port);
  const read = readAll(socket);
  socket.write(
    `GET http://api.test:${shared.ports.http}/hints HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
  );
  const got = (await read).toString();
  expect(got).toMatch(/^HTTP\/1\.1 103 Early Hints\r\nLink: <\/style\.css>; rel=preload\r\n/i);
  expect(got).toContain('HTTP/1.1 200 OK');
});

test('a header that Connection names is neither checked nor sent', async () => {
  const reply = await askPlain(shared, 'api.test', '/hello?named', {
    headers: [
      'Connection: X-Safe, Content-Type',
      'X-Safe: yes',
      'Content-Type: text/plain',
      'X-Other: 1',
      'TE: x',
    ],
  });
  expect(reply.status).toBe(200);
  const headers = shared.decisions.at(-1)?.call.headers ?? {};
  expect(Object.keys(headers)).toEqual(['x-other']);
});

test('an SNI that is not the host of the CONNECT makes no certificate', async () => {
  const { socket } = await tunnel(shared.port, `api.test:${shared.ports.https}`);
  const client = await tlsOn(socket, { servername: 'other.test', rejectUnauthorized: false });
  expect(client.getPeerCertificate().subjectaltname).toBe('DNS:api.test');
  const reply = await sendOn(client, `GET /sni HTTP/1.1\nHost: api.test:${shared.ports.https}`);
  expect([reply.status, codeOf(reply)]).toEqual([421, 'DestinationMismatch']);
});

test('a message of gRPC is answered while its stream is still open', async () => {
  const upstream = createHttp2();
  upstream.on('stream', (stream: ServerHttp2Stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.on('data', (chunk: Buffer) => stream.write(chunk));
    stream.on('end', () => stream.end());
  });
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void upstream.close());
  const { port } = upstream.address() as AddressInfo;
  const h = await own({
    policy: (ports) => sharedPolicy({ ...ports, dead: port }),
  });
  const { socket } = await tunnel(h.port, `api.test:${port}`);
  const session = connectHttp2(`http://api.test:${port}`, { createConnection: () => socket });
  onTestFinished(() => session.destroy());
  const stream = session.request({
    ':method': 'POST',
    ':path': '/echo.Echo/Stream',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  const next = () =>
    within(
      new Promise<string>((resolve) => stream.once('data', (chunk) => resolve(String(chunk)))),
      'an echo',
    );
  for (const word of ['one', 'two', 'three']) {
    const answer = next();
    stream.write(word);
    expect(await answer).toBe(word);
  }
  const trailers = within(new Promise((resolve) => stream.once('trailers', resolve)), 'the trailers');
  stream.end();
  expect(await trailers).toMatchObject({ 'grpc-status': '0' });
});

test('a connection may not have more requests under way than the limit', async () => {
  const h = await own({ policy: holdPolicy('20s') });
  const socket = await open(h.port);
  const one = `POST http://hold.test:${h.ports.http}/orders HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx`;
  socket.write(one.repeat(limits.requestsPipelinedMax + 50));
  await until(() => h.holds.list({ states: ['Pending'], limit: 10 }).length === 1, 'the hold');
  await until(() => socket.writableLength === 0, 'all requests to be sent');
  // The client leaves: nobody waits any more, also not those whose answer is behind others.
  socket.destroy();
  await until(() => h.decisions.length === limits.requestsPipelinedMax, 'the end of every check');
  const [hold] = h.holds.list({ states: ['Pending'], limit: 10 });
  if (hold === undefined) throw new Error('no hold');
  h.holds.approve(hold.id, 'dana', '');
  expect(h.holds.get(hold.id)?.state).toBe('Approved');
  expect(seen(h, '/orders')).toBe(0);
});

test('agents are known by their certificate on the TLS port, and strangers get nowhere', async () => {
  const h = await own({
    podAgent: '',
    proxy: { tls_port: 0 },
    identity: async (authority, dir) => {
      const file = join(dir, 'trust.pem');
      writeFileSync(file, authority.caPem);
      return { trust_bundle_file: file };
    },
  });
  const port = Number(new URL(h.plane.proxyTlsUrl ?? '').port);
  const shake = async (client: { cert?: string; key?: string }) => {
    const socket = await open(port);
    return tlsOn(socket, { ca: h.caPem, host: '127.0.0.1', ...client });
  };
  const certificateOf = async (uris: readonly string[]) => {
    const pair = await h.upstreamAuthority.issue(['agent'], uris);
    return { cert: pair.certificatePem, key: pair.privateKeyPem };
  };
  const ask = async (client: { cert?: string; key?: string }) =>
    sendOn(await shake(client), `GET http://other.test:${h.ports.http}/hello HTTP/1.1\nHost: a`).catch(
      () => undefined,
    );
  expect((await ask(await certificateOf(['spiffe://sallyport.test/tester'])))?.status).toBe(200);
  expect(h.decisions.at(-1)?.decision.agent).toMatchObject({ name: 'tester', by: 'certificate' });
  expect((await ask(await certificateOf(['spiffe://sallyport.test/nobody'])))?.status).toBe(401);
  const two = ['spiffe://sallyport.test/tester', 'spiffe://sallyport.test/clerk'];
  expect((await ask(await certificateOf(two)))?.status).toBe(401);
  expect((await ask({}))?.status ?? 0).toBe(0);

  // CONNECT and interception work inside the outer TLS.
  const outer = await shake(await certificateOf(['spiffe://sallyport.test/tester']));
  const authority = `other.test:${h.ports.https}`;
  const established = within(new Promise((resolve) => outer.once('data', resolve)), 'the answer to CONNECT');
  outer.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  expect(String(await established)).toMatch(/^HTTP\/1\.1 200 /);
  const inner = await tlsOn(outer, { servername: 'other.test', ca: h.caPem });
  expect((await sendOn(inner, `GET /hello HTTP/1.1\nHost: ${authority}`)).status).toBe(200);
  expect(h.decisions.at(-1)?.decision.agent).toMatchObject({ name: 'tester', by: 'tunnel' });
});

test('a TLS port without the authorities that its clients need is no start', async () => {
  await expect(own({ proxy: { tls_port: 0 } })).rejects.toMatchObject({ code: 'SettingsInvalid' });
});

test('a port in use is passed over for the next free one', async () => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void taken.close());
  const { port } = taken.address() as AddressInfo;
  const h = await own({ proxy: { port } });
  expect(h.port).toBeGreaterThan(port);
  expect((await askPlain(h, 'api.test', '/hello')).status).toBe(200);
});

test('stopping ends every connection: tunnels, intercepted TLS, streams and idle ones', async () => {
  const h = await own({});
  const secure = await tunnel(h.port, `api.test:${h.ports.https}`);
  const tls = await tlsOn(secure.socket, { servername: 'api.test', ca: h.caPem, ALPNProtocols: ['h2'] });
  const raw = await tunnel(h.port, `tunnel.test:${h.ports.raw}`);
  const idle = await open(h.port);
  const stream = await open(h.port);
  stream.write(`GET http://api.test:${h.ports.http}/stream?ticks=1000 HTTP/1.1\r\nHost: a\r\n\r\n`);
  await within(new Promise((resolve) => stream.once('data', resolve)), 'the first event');
  const ends = [tls, raw.socket, idle, stream].map((socket) => closed(socket));
  await h.plane.stop();
  await within(Promise.all(ends), 'the end of every connection');
  await expect(open(h.port)).rejects.toThrow();
  expect(await h.plane.health()).toMatchObject({ healthy: false });
});

test('a hello that stops half-way ends its tunnel when the client leaves, and no certificate is made for it', async () => {
  const { socket } = await tunnel(shared.port, `api.test:${shared.ports.https}`);
  socket.end(Buffer.from([22, 3, 1, 1, 0, 1, 0, 0]));
  await within(closed(socket), 'the end of the tunnel');
});

test('a client that breaks the TLS handshake ends its own tunnel only', async () => {
  const { socket } = await tunnel(shared.port, `api.test:${shared.ports.https}`);
  const client = connectTls({ socket, servername: 'api.test' });
  await within(
    new Promise((resolve) => client.once('error', resolve)),
    'the client to distrust the authority',
  );
  await within(closed(client), 'the end of the tunnel');
  expect((await askPlain(shared, 'api.test', '/hello')).status).toBe(200);
});

test('a destination that dies in the middle of its answer ends the client’s answer too, never whole', async () => {
  const upstream = createServer((socket: Socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf');
      setImmediate(() => socket.destroy());
    });
  });
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void upstream.close());
  const { port } = upstream.address() as AddressInfo;
  const h = await own({ policy: (ports) => sharedPolicy({ ...ports, dead: port }) });
  const socket = await open(h.port);
  const got = readAll(socket);
  socket.write(`GET http://api.test:${port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  const text = (await got).toString();
  expect(text).not.toContain('transfer-encoding');
  expect(text.endsWith('half') || text.startsWith('HTTP/1.1 502')).toBe(true);
});

test.each([
  ['an answer that is no HTTP', 'SSH-2.0-OpenSSH\r\n'],
  ['a second answer before a request', 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n'],
  ['two lengths', 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab'],
  [
    'a switch nobody asked for',
    'HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n',
  ],
  ['headers past the limit', `HTTP/1.1 200 OK\r\nx: ${'a'.repeat(limits.requestHeaderBytesMax)}\r\n\r\n`],
])('%s from a destination harms nobody else', async (_, answer) => {
  const upstream = createServer((socket: Socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.end(answer));
  });
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void upstream.close());
  const { port } = upstream.address() as AddressInfo;
  const h = await own({ policy: (ports) => sharedPolicy({ ...ports, dead: port }) });
  const reply = await send(h.port, `GET http://api.test:${port}/ HTTP/1.1\nHost: a`);
  expect([200, 502]).toContain(reply.status);
  expect((await askPlain(h, 'api.test', '/hello')).status).toBe(200);
});
