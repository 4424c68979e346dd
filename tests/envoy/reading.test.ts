import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { open, type Reply, readAll, send, tunnel, within } from './clients.ts';
import { startUpstreams, type Upstreams } from './upstreams.ts';
import { allow, type Decide, openDir, policyOf, startWorld, type World } from './world.ts';

let upstreams: Upstreams;
let world: World;

const friendly: Decide = (call) => allow(call.scheme === 'https' ? upstreams.secure : upstreams.plain);

const needs = [
  { host: 'body.test', body: true, mcpPaths: [] },
  { host: 'mcp.test', body: false, mcpPaths: ['/mcp'] },
  { host: '*.wild.test', body: true, mcpPaths: ['/tools/**'] },
];

beforeAll(async () => {
  const dir = openDir();
  upstreams = await startUpstreams(dir);
  world = await startWorld({
    decide: friendly,
    dir,
    upstreamCaPem: upstreams.caPem,
    policy: policyOf({
      needs,
      routes: new Map([
        ['/shop', { scheme: 'http', host: 'shop.test', port: 80, basePath: '/api' }],
        ['/model', { scheme: 'https', host: 'model.test', port: 443, basePath: '' }],
      ]),
    }),
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

const post = (url: string, body: string | Buffer, type = 'application/json', headers = '') =>
  send(
    world.port,
    `POST ${url} HTTP/1.1\nHost: ${new URL(url).host}\nContent-Type: ${type}\nContent-Length: ${Buffer.byteLength(body)}\n${headers}`,
    body,
  );

test('the body is read before the check exactly where policy needs it', async () => {
  const bytes = Buffer.from([0, 255, 254, 128, 10]);
  await post('http://body.test/', bytes, 'application/octet-stream');
  expect(lastCall()?.body).toEqual({ kind: 'whole', bytes });
  await post('http://body.test:8080/', 'x');
  expect(lastCall()?.body.kind).toBe('whole');
  await post('http://BODY.test./', 'x');
  expect(lastCall()?.body.kind).toBe('whole');
  await post('http://a.wild.test/', 'x');
  expect(lastCall()?.body.kind).toBe('whole');
  await post('http://a.b.wild.test/', 'x');
  expect(lastCall()?.body.kind).toBe('unread');
  await post('http://api.test/', 'x');
  expect(lastCall()?.body.kind).toBe('unread');
});

test('a body over the limit is refused without a check, where the body is read', async () => {
  const large = Buffer.alloc(1024 * 1024 + 1, 'a');
  const reply = await post('http://body.test/', large);
  expect(reply.status).toBe(413);
  expect(JSON.parse(reply.body)).toMatchObject({ code: 'RequestTooLarge' });
  expect(world.calls).toEqual([]);
  const whole = await post('http://body.test/', Buffer.alloc(1024 * 1024, 'a'));
  expect(JSON.parse(whole.body).bytes).toBe(1024 * 1024);
  expect((await post('http://api.test/', large)).status).toBe(200);
});

test('headers over the limit are refused', async () => {
  const reply = await get('http://api.test/', `X-Big: ${'a'.repeat(97 * 1024)}`);
  expect(reply.status).toBe(431);
  expect(JSON.parse(reply.body)).toMatchObject({ code: 'HeadersTooLarge' });
  const many = await get('http://api.test/', Array.from({ length: 101 }, (_, i) => `X-${i}: 1`).join('\n'));
  expect(many.status).toBe(431);
  expect(world.calls).toEqual([]);
});

test('MCP is read strictly, and only where policy asks for it', async () => {
  const call = { jsonrpc: '2.0', id: 7, method: 'tools/call', params: { name: 'search', arguments: {} } };
  for (const url of [
    'http://mcp.test/mcp',
    'http://x.wild.test/tools/a',
    'http://mcp.test//mcp',
    'http://mcp.test/m%63p',
  ]) {
    const reply = await post(url, JSON.stringify(call));
    expect([url, reply.status]).toEqual([url, 200]);
    expect(lastCall()?.mcp).toEqual({ kind: 'call', method: 'tools/call', tool: 'search' });
  }
  const strange = [
    JSON.stringify([call]),
    '{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{"name":"x"}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call","params":{"name":"x"}}',
    'not json',
    '{"hello":1}',
  ];
  for (const body of strange) {
    await post('http://mcp.test/mcp', body);
    expect([body, lastCall()?.mcp.kind]).toEqual([body, 'invalid']);
  }
  await post('http://mcp.test/mcp', JSON.stringify(call), 'text/plain');
  expect(lastCall()?.mcp.kind).toBe('invalid');
  expect((await post('http://mcp.test/other', JSON.stringify(call))).status).toBe(200);
  expect(lastCall()?.mcp.kind).toBe('none');
});

test('a method of MCP that carries no message is one with no body, however that is framed', async () => {
  expect((await get('http://mcp.test/mcp', 'Accept: text/event-stream')).status).toBe(200);
  expect(lastCall()?.mcp.kind).toBe('none');
  expect((await send(world.port, 'DELETE http://mcp.test/mcp HTTP/1.1\nHost: mcp.test')).status).toBe(200);
  expect(lastCall()?.mcp.kind).toBe('none');
  const message = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}';
  for (const [framing, body] of [
    [`Content-Length: ${message.length}`, message],
    ['Content-Length: 1', 'x'],
    ['Transfer-Encoding: chunked', `${message.length.toString(16)}\r\n${message}\r\n0\r\n\r\n`],
  ]) {
    await send(world.port, `GET http://mcp.test/mcp HTTP/1.1\nHost: mcp.test\n${framing}`, body);
    expect(lastCall()).toMatchObject({ method: 'GET', mcp: { kind: 'invalid' } });
  }
});

test('trailers hide no message of MCP, in HTTP/1.1 and in HTTP/2', async () => {
  const message = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}';
  const chunked = `${message.length.toString(16)}\r\n${message}\r\n0\r\nX-Odd: 1\r\n\r\n`;
  const head = 'POST http://mcp.test/mcp HTTP/1.1\nHost: mcp.test\nContent-Type: application/json';
  expect((await send(world.port, `${head}\nTransfer-Encoding: chunked`, chunked)).status).toBe(200);
  expect(lastCall()?.mcp).toEqual({ kind: 'call', method: 'tools/list', tool: '' });
  world.calls.length = 0;
  const { connect } = await import('node:http2');
  const session = connect(`http://127.0.0.1:${world.port}`);
  const stream = session.request(
    {
      ':method': 'POST',
      ':scheme': 'http',
      ':authority': 'mcp.test',
      ':path': '/mcp',
      'content-type': 'application/json',
    },
    { waitForTrailers: true },
  );
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-odd': '1' }));
  const status = new Promise((resolve, reject) => {
    stream.once('response', (headers) => resolve(headers[':status']));
    stream.once('error', reject);
  });
  stream.end(message);
  stream.resume();
  expect(await within(status, 'the answer')).toBe(200);
  expect(lastCall()?.mcp).toEqual({ kind: 'call', method: 'tools/list', tool: '' });
  session.destroy();
});

test('a base-URL route goes to its upstream with the rest of the path', async () => {
  const ask = (path: string) => send(world.port, `GET ${path} HTTP/1.1\nHost: localhost:${world.port}`);
  const plain = await ask('/shop/items?q=1');
  expect(JSON.parse(plain.body)).toMatchObject({ url: '/api/items?q=1', authority: 'shop.test' });
  expect(lastCall()).toMatchObject({ scheme: 'http', authority: 'shop.test', path: '/api/items?q=1' });
  for (const path of ['/model/v1/models', '/model', '/model/', '/model?x']) {
    const secure = JSON.parse((await ask(path)).body);
    expect(secure.authority).toBe('model.test');
    expect(secure.url).toBe(lastCall()?.path);
  }
  expect(lastCall()).toMatchObject({ scheme: 'https', authority: 'model.test' });
});

test('nothing else is at the proxy’s own address, and no request comes back to it', async () => {
  const before = world.calls.length;
  for (const head of ['GET /nothing HTTP/1.1', 'GET /modelled HTTP/1.1']) {
    const reply = await send(world.port, `${head}\nHost: 127.0.0.1:${world.port}`);
    expect(reply.status).toBe(404);
    expect(JSON.parse(reply.body)).toMatchObject({ code: 'NotFound' });
  }
  const { reply, socket } = await tunnel(world.port, `127.0.0.1:${world.port}`);
  expect(reply.status).toBe(404);
  socket.destroy();
  expect(world.calls.length).toBe(before);
});

test('an upgrade to h2c is not passed on, any other upgrade is refused', async () => {
  const h2c = await get(
    'http://api.test/',
    'Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__',
  );
  expect(h2c.status).toBe(200);
  const headers = JSON.parse(h2c.body).headers;
  expect(headers.upgrade).toBeUndefined();
  expect(headers['http2-settings']).toBeUndefined();
  const other = await get('http://api.test/', 'Connection: Upgrade\nUpgrade: other');
  expect(other.status).toBe(403);
  expect(JSON.parse(other.body)).toMatchObject({ code: 'ProtocolNotAllowed' });
});

test('requests with two lengths or two hosts are refused before the check', async () => {
  const smuggled = [
    'POST http://api.test/ HTTP/1.1\nHost: api.test\nContent-Length: 3\nTransfer-Encoding: chunked',
    'POST http://api.test/ HTTP/1.1\nHost: api.test\nContent-Length: 3\nContent-Length: 4',
    'GET / HTTP/1.1\nHost: api.test\nHost: other.test',
  ];
  for (const head of smuggled) {
    const reply = await send(world.port, head, 'abc');
    expect(reply.status).toBe(400);
  }
  expect(world.calls).toEqual([]);
});

test('garbage gets an error or the end of the connection, and Envoy lives on', async () => {
  for (const bytes of [
    '\x16\x03\x01\x00\x05hello',
    'GET\r\n\r\n',
    `GET ${'/'.repeat(1024 * 1024)} HTTP/1.1\r\n\r\n`,
  ]) {
    const socket = await open(world.port);
    const read = readAll(socket);
    socket.end(Buffer.from(bytes, 'latin1'));
    await read;
  }
  expect((await get('http://api.test/')).status).toBe(200);
  expect(await world.plane.health()).toMatchObject({ healthy: true });
});
