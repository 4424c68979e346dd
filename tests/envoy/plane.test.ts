import { createServer as createHttp } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import {
  closed,
  http2On,
  http2Request,
  type Reply,
  readAll,
  secureTunnel,
  send,
  sendOn,
  tlsOn,
  tunnel,
  until,
  within,
} from './clients.ts';
import { startUpstreams, type Upstreams } from './upstreams.ts';
import { allow, type Decide, deny, openDir, startWorld, type World } from './world.ts';

let upstreams: Upstreams;
let world: World;

/** Allows everything to the upstream that speaks what the stage is about. */
const friendly: Decide = (call) => {
  if (call.stage === 'tunnel') return allow(upstreams.secure, 'sni');
  if (call.method === 'CONNECT') {
    if (call.authority.startsWith('opaque.test')) return allow(upstreams.secure, 'sni');
    if (call.authority.startsWith('mail.test')) return allow(upstreams.speaksFirst, 'tunnel');
    return allow();
  }
  if (call.scheme === 'https') return allow(upstreams.secure);
  return allow(
    call.headers['content-type']?.startsWith('application/grpc') ? upstreams.h2c : upstreams.plain,
  );
};

beforeAll(async () => {
  const dir = openDir();
  upstreams = await startUpstreams(dir);
  world = await startWorld({
    decide: friendly,
    dir,
    upstreamCaPem: upstreams.caPem,
  });
});
afterAll(async () => {
  await world?.stop();
  await upstreams?.stop();
});
beforeEach(() => {
  world.calls.length = 0;
  world.decideBy(friendly);
});

const get = (url: string, headers = ''): Promise<Reply> =>
  send(world.port, `GET ${url} HTTP/1.1\nHost: ${new URL(url).host}\n${headers}`);
const lastCall = () => world.calls.at(-1);
const secured = (host: string, alpn = ['http/1.1']) =>
  secureTunnel(world.port, `${host}:443`, { servername: host, ca: world.caPem, ALPNProtocols: alpn });

test('a plain request in absolute form goes to the pinned address, whatever the name resolves to', async () => {
  const reply = await get('http://api.test/a?b=c');
  expect(reply.status).toBe(200);
  expect(JSON.parse(reply.body)).toMatchObject({ url: '/a?b=c', authority: 'api.test' });
  expect(lastCall()).toMatchObject({
    stage: 'request',
    method: 'GET',
    scheme: 'http',
    authority: 'api.test',
    path: '/a?b=c',
  });
  expect(reply.headers['x-sallyport-decision']).toMatch(/^dec_/);
});

test('a denial reaches the agent as the sidecar wrote it', async () => {
  world.decideBy(() => deny('Forbidden', 'not on my watch'));
  const reply = await get('http://api.test/a');
  expect(reply.status).toBe(403);
  expect(JSON.parse(reply.body)).toMatchObject({ code: 'Forbidden', detail: 'not on my watch' });
});

test('headers that only the data plane may write cannot be forged, and none of them goes upstream', async () => {
  const forged = [
    'X-Sallyport-Source: 203.0.113.1:1',
    'X-Sallyport-Connection: forged',
    'X-Sallyport-Connect: evil.test:443',
    'X-Sallyport-Agent: root',
    'X-Sallyport-Proof: pod',
    'X-Sallyport-Else: 1',
    'X-Envoy-Original-Dst-Host: 127.0.0.1:1',
    'X-Envoy-Retry-On: 5xx',
    'Proxy-Authorization: Basic c2VjcmV0',
    'Proxy-Connection: keep-alive',
  ].join('\n');
  const reply = await get('http://api.test/a', forged);
  expect(reply.status).toBe(200);
  expect(lastCall()?.connection).toMatchObject({
    sourceAddress: '127.0.0.1',
    tunnelAgent: '',
    tunnelAuthority: '',
  });
  expect(lastCall()?.connection.connectionId).toMatch(/^[0-9a-f]{12}-\d+$/);
  expect(lastCall()?.headers['proxy-authorization']).toBe('Basic c2VjcmV0');
  const names = Object.keys(JSON.parse(reply.body).headers);
  expect(names.filter((name) => /^(x-sallyport|x-envoy|proxy-|x-forwarded|x-request-id)/.test(name))).toEqual(
    [],
  );
});

test('an intercepted connection carries HTTP/1.1 and HTTP/2, each request checked', async () => {
  const h1 = await sendOn(
    await secured('api.test'),
    'GET /one HTTP/1.1\nHost: api.test\nX-Sallyport-Agent: root',
  );
  expect(h1.status).toBe(200);
  expect(JSON.parse(h1.body)).toMatchObject({ url: '/one', authority: 'api.test' });
  expect(lastCall()).toMatchObject({
    stage: 'request',
    scheme: 'https',
    path: '/one',
    connection: {
      sni: 'api.test',
      tunnelAuthority: 'api.test:443',
      tunnelAgent: 'tester',
      sourceAddress: '127.0.0.1',
    },
  });
  const socket = await secured('api.test', ['h2']);
  expect(socket.alpnProtocol).toBe('h2');
  const session = http2On(socket, 'api.test');
  const replies = await Promise.all(
    ['/two', '/three'].map((path) => http2Request(session, { ':path': path })),
  );
  expect(replies.map((reply) => reply.status)).toEqual([200, 200]);
  expect(replies.map((reply) => JSON.parse(reply.body).version)).toEqual(['2.0', '2.0']);
  session.destroy();
  expect(world.calls.map((call) => call.path).sort()).toEqual(['', '', '/one', '/three', '/two']);
  const tunnelIds = new Set(
    world.calls.filter((call) => call.scheme === 'https').map((call) => call.connection.connectionId),
  );
  expect(tunnelIds.size).toBe(2);
});

test('plain HTTP inside a CONNECT is checked with the authority of the CONNECT', async () => {
  const { socket } = await tunnel(world.port, 'api.test:80');
  const reply = await sendOn(socket, 'GET /in HTTP/1.1\nHost: api.test');
  expect(reply.status).toBe(200);
  expect(lastCall()).toMatchObject({
    scheme: 'http',
    connection: { tunnelAuthority: 'api.test:80', tunnelAgent: 'tester' },
  });
});

test('a name that policy does not inspect gets no certificate', async () => {
  await expect(
    secureTunnel(world.port, 'api.example:443', { servername: 'api.example', ca: world.caPem }),
  ).rejects.toThrow();
});

test('an upstream that proves another name is refused, and told as that', async () => {
  const reply = await sendOn(await secured('wrong.test'), 'GET / HTTP/1.1\nHost: wrong.test');
  expect(reply.status).toBe(502);
  expect(reply.headers['content-type']).toBe('application/problem+json');
  expect(JSON.parse(reply.body)).toMatchObject({ code: 'UpstreamCertificateInvalid', status: 502 });
});

test('an upstream that is not there is told as unreachable', async () => {
  world.decideBy(() => allow(1));
  const reply = await get('http://api.test/');
  expect(reply.status).toBe(502);
  expect(JSON.parse(reply.body)).toMatchObject({ code: 'UpstreamUnreachable', retry: { can_help: true } });
});

test('unread TLS reaches the upstream itself, and is checked by its server name', async () => {
  const socket = await secureTunnel(world.port, 'opaque.test:443', {
    servername: 'opaque.test',
    ca: upstreams.caPem,
  });
  const reply = await sendOn(socket, 'GET /o HTTP/1.1\nHost: opaque.test');
  expect(reply.status).toBe(200);
  expect(lastCall()).toMatchObject({
    stage: 'tunnel',
    connection: {
      sni: 'opaque.test',
      tunnelAuthority: 'opaque.test:443',
      tunnelAgent: 'tester',
      sourceAddress: '127.0.0.1',
    },
  });
});

test('unread TLS with another server name than the CONNECT is closed when the check says no', async () => {
  world.decideBy((call, signal) =>
    call.stage === 'tunnel' && call.connection.sni !== 'opaque.test'
      ? deny('DestinationMismatch')
      : friendly(call, signal),
  );
  const { socket } = await tunnel(world.port, 'opaque.test:443');
  await expect(tlsOn(socket, { servername: 'other.test', ca: upstreams.caPem })).rejects.toThrow();
  expect(lastCall()).toMatchObject({ stage: 'tunnel', connection: { sni: 'other.test' } });
});

test('a tunnel lets the server speak first', async () => {
  const { reply, socket } = await tunnel(world.port, 'mail.test:25');
  expect(reply.status).toBe(200);
  const banner = await within(
    new Promise((resolve) => {
      socket.once('data', (part) => resolve(String(part)));
      socket.resume();
    }),
    'a banner',
  );
  expect(banner).toBe('220 ready\r\n');
  socket.destroy();
});

test('an answer without a mode opens nothing', async () => {
  world.decideBy(() => allow(undefined, 'tls'));
  const { socket } = await tunnel(world.port, 'api.test:443');
  socket.write('\x00\x01 neither TLS nor HTTP\r\n');
  await within(closed(socket), 'the end of the connection');
});

test('a WebSocket passes in the clear and inside TLS, also where the upstream could do HTTP/2', async () => {
  const ask =
    'GET /ws HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n';
  const { socket: clear } = await tunnel(world.port, 'api.test:80');
  for (const socket of [clear, await secured('api.test')]) {
    let text = '';
    socket.on('data', (part: Buffer) => {
      text += part.toString('latin1');
    });
    socket.resume();
    socket.write(ask);
    await until(() => text.endsWith('hello'), 'the greeting');
    expect(text).toMatch(/^HTTP\/1.1 101/);
    socket.write('frame');
    await until(() => text.endsWith('helloframe'), 'the echo');
    socket.destroy();
  }
});

test('events arrive as they are sent, while the stream is open', async () => {
  const socket = await secured('api.test');
  let text = '';
  socket.on('data', (part: Buffer) => {
    text += part.toString('utf8');
  });
  socket.write('GET /events HTTP/1.1\r\nHost: api.test\r\n\r\n');
  await until(() => text.includes('data: one'), 'the first event');
  expect(text).toContain('text/event-stream');
  socket.destroy();
});

test('gRPC passes with its trailers, over TLS and in the clear', async () => {
  const grpc = { ':method': 'POST', ':path': '/s.S/M', 'content-type': 'application/grpc', te: 'trailers' };
  const { socket: clear } = await tunnel(world.port, 'grpc.test:80');
  for (const socket of [clear, await secured('grpc.test', ['h2'])]) {
    const session = http2On(socket, 'grpc.test');
    const reply = await http2Request(session, grpc, Buffer.from([0, 0, 0, 0, 0]));
    expect(reply).toMatchObject({ status: 200, body: '5 over 2.0', trailers: { 'grpc-status': '0' } });
    session.destroy();
  }
});

test('one HTTP/2 connection to the proxy carries requests and tunnels that know nothing of each other', async () => {
  const { connect } = await import('node:http2');
  const session = connect(`http://127.0.0.1:${world.port}`);
  const open = (authority: string) => {
    const stream = session.request({ ':method': 'CONNECT', ':authority': authority });
    return within(
      new Promise<typeof stream>((resolve, reject) => {
        stream.once('response', (headers) =>
          headers[':status'] === 200 ? resolve(stream) : reject(new Error(String(headers[':status']))),
        );
        stream.once('error', reject);
      }),
      'an answer to CONNECT',
    );
  };
  const plain = await http2Request(session, { ':scheme': 'http', ':authority': 'api.test', ':path': '/h2c' });
  expect(JSON.parse(plain.body)).toMatchObject({ url: '/h2c', authority: 'api.test' });
  const [one, two] = await Promise.all([open('one.test:443'), open('two.test:443')]);
  for (const [stream, host] of [
    [one, 'one.test'],
    [two, 'two.test'],
  ] as const) {
    const secure = await tlsOn(stream, { servername: host, ca: world.caPem });
    const reply = await sendOn(secure, `GET /${host} HTTP/1.1\nHost: ${host}`);
    expect(reply.status).toBe(200);
    expect(lastCall()?.connection).toMatchObject({ sni: host, tunnelAuthority: `${host}:443` });
  }
  const ids = world.calls
    .filter((call) => call.scheme === 'https')
    .map((call) => call.connection.connectionId);
  expect(new Set(ids).size).toBe(2);
  session.destroy();
});

test('a tunnel over HTTP/2 passes the end of the client’s half: what ends the whole one is HTTP/1.1 at Envoy', async () => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    socket.resume();
    socket.once('end', () => socket.end('after the end'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  world.decideBy(() => allow(port, 'tunnel'));
  const { connect } = await import('node:http2');
  const session = connect(`http://127.0.0.1:${world.port}`);
  try {
    const stream = session.request(
      { ':method': 'CONNECT', ':authority': 'mail.test:25' },
      { endStream: false },
    );
    const over2 = readAll(stream);
    stream.end('hello');
    expect((await over2).toString()).toBe('after the end');
    const { socket } = await tunnel(world.port, 'mail.test:25');
    const over1 = readAll(socket);
    socket.end('hello');
    expect((await over1).toString()).toBe('');
  } finally {
    session.destroy();
    server.close();
  }
});

test('headers of a destination’s answer that only we may send do not pass as ours', async () => {
  const server = createHttp((request, response) => {
    request.resume();
    response.writeHead(200, {
      'x-sallyport-decision': 'forged',
      'x-sallyport-hold': 'forged',
      'x-sallyport-error': 'forged',
      'proxy-authenticate': 'Basic',
      'x-kept': 'yes',
    });
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  world.decideBy(() => allow(port));
  try {
    const { headers } = await get('http://api.test/');
    expect(headers).toMatchObject({
      'x-kept': 'yes',
      'x-sallyport-decision': expect.stringMatching(/^dec_/),
    });
    const ours = Object.keys(headers).filter((name) => /^(x-sallyport-|proxy-)/.test(name));
    expect(ours).toEqual(['x-sallyport-decision']);
    world.decideBy(() => deny('Forbidden'));
    expect((await get('http://api.test/')).headers).toMatchObject({ 'x-sallyport-error': 'Forbidden' });
  } finally {
    server.close();
  }
});
