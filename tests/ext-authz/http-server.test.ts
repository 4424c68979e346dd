import { existsSync } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { Agent, type IncomingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { type ErrorCode, errors } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { type HttpOptions, serveHttp } from '../../ext-authz/http-server.ts';
import type { Decision } from '../../filters/decision.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { checkerThat, silent, someAllow, someDeny, until } from './support.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function serve(options: Partial<HttpOptions> = {}) {
  const dir = await mkdtemp(join(tmpdir(), 'sp-'));
  closers.push(() => rm(dir, { recursive: true }));
  const socketPath = join(dir, 'h.sock');
  const checker = checkerThat(() => someAllow());
  const server = await serveHttp({
    ...{ checker, log: silent, onRefusal: () => undefined, listen: { socketPath } },
    ...options,
  });
  closers.push(server.stop);
  return { server, checker, socketPath };
}

type Reply = Readonly<{ status: number; headers: IncomingHttpHeaders; body: string }>;
type Sent = Readonly<{
  method?: string;
  path?: string;
  headers?: Record<string, string | string[]>;
  body?: string | Buffer;
}>;

const send = (to: { socketPath: string } | { port: number }, sent: Sent = {}): Promise<Reply> =>
  new Promise((resolve, reject) => {
    const out = request(
      {
        ...to,
        agent: false,
        method: sent.method ?? 'GET',
        path: sent.path ?? '/check/v1/things?a=1',
        headers: { host: 'api.example.com', ...sent.headers },
      },
      (reply) => {
        const chunks: Buffer[] = [];
        reply.on('data', (chunk: Buffer) => chunks.push(chunk));
        reply.on('end', () =>
          resolve({
            status: reply.statusCode ?? 0,
            headers: reply.headers,
            body: Buffer.concat(chunks).toString(),
          }),
        );
      },
    );
    out.on('error', reject);
    out.end(sent.body);
  });

/** Bytes as they are; resolves with what came back once the server closed. */
const sendRaw = (socketPath: string, bytes: string | Uint8Array): Promise<string> =>
  new Promise((resolve) => {
    let got = '';
    const socket = connect(socketPath, () => socket.end(bytes));
    socket.on('data', (chunk) => (got += chunk.toString('latin1')));
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(got));
  });

describe('a check over HTTP', () => {
  it('is the request itself under /check, and an Allow is told in headers', async () => {
    const { checker, socketPath } = await serve();
    const reply = await send(
      { socketPath },
      { headers: { 'x-forwarded-proto': 'https', accept: 'a', 'proxy-authorization': 'Basic eA==' } },
    );
    expect(reply.status).toBe(200);
    expect(reply.headers).toMatchObject({
      'x-sallyport-dst': '203.0.113.10:443',
      'x-sallyport-agent': 'demo',
      'x-sallyport-decision': 'dec_01ARZ3NDEKTSV4RRFFQ69G5FAV',
      'x-envoy-auth-headers-to-remove': expect.stringContaining('proxy-authorization'),
      ratelimit: '"demo";r=2;t=60',
    });
    expect(checker.calls[0]).toMatchObject({
      stage: 'request',
      method: 'GET',
      scheme: 'https',
      authority: 'api.example.com',
      path: '/v1/things?a=1',
      body: { kind: 'unread' },
      connection: { sourceAddress: '', tunnelAgent: '' },
    });
    expect(checker.calls[0]?.headers).toMatchObject({ accept: 'a', 'proxy-authorization': 'Basic eA==' });
  });

  it('takes the stage and what goes with it only where our configuration says the stage', async () => {
    const { checker, socketPath } = await serve();
    const ours = { 'x-sallyport-connect': 'api.example.com:443', 'x-sallyport-agent': 'demo' };
    await send({ socketPath }, { headers: ours });
    await send({ socketPath }, { headers: { ...ours, 'x-sallyport-stage': 'mitm' } });
    expect((await send({ socketPath }, { headers: { 'x-sallyport-stage': 'connect' } })).status).toBe(400);
    expect(checker.calls.map(({ scheme, connection }) => [scheme, connection.tunnelAgent])).toEqual([
      ['http', ''],
      ['https', 'demo'],
    ]);
  });

  it('reads the MCP message out of the body where it is told to', async () => {
    const { checker, socketPath } = await serve();
    const body = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"fetch"}}';
    const post = (headers: Record<string, string>) =>
      send(
        { socketPath },
        { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body },
      );
    await post({ 'x-sallyport-body': 'read', 'x-sallyport-mcp': 'required' });
    await post({ 'x-sallyport-body': 'read' });
    expect((await post({ 'x-sallyport-mcp': 'wanted' })).status).toBe(400);
    expect(checker.calls.map(({ mcp }) => mcp)).toEqual([
      { kind: 'call', method: 'tools/call', tool: 'fetch' },
      { kind: 'none' },
    ]);
  });

  it('takes the body where it was sent', async () => {
    const { checker, socketPath } = await serve();
    await send({ socketPath }, { method: 'POST', body: 'abc', headers: { 'transfer-encoding': 'chunked' } });
    await send(
      { socketPath },
      { method: 'POST', headers: { 'content-length': '0', 'x-sallyport-body': 'read' } },
    );
    await send({ socketPath }, { method: 'POST', headers: { 'content-length': '0' } });
    expect(
      checker.calls.map(({ body }) =>
        body.kind === 'whole' ? Buffer.from(body.bytes).toString() : body.kind,
      ),
    ).toEqual(['abc', '', 'unread']);
  });

  it('is denied with the status of the denial, but never with one that Envoy passes on or takes for a failure', async () => {
    let decision: Decision = someAllow();
    const { socketPath } = await serve({ checker: checkerThat(() => decision) });
    for (const code of Object.keys(errors) as ErrorCode[]) {
      decision = someDeny(code);
      const { status } = await send({ socketPath });
      expect(status).toBe(errors[code].status >= 500 ? 403 : errors[code].status);
    }
    const rpc = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'x' });
    decision = someDeny();
    const reply = await send(
      { socketPath },
      { method: 'POST', body: rpc, headers: { 'content-type': 'application/json' } },
    );
    expect([reply.status, JSON.parse(reply.body)]).toMatchObject([403, { id: 1 }]);
  });

  it('fails into a denial', async () => {
    const throws = checkerThat(() => {
      throw new Error('secret inner cause');
    });
    const { socketPath } = await serve({ checker: throws });
    const reply = await send({ socketPath });
    expect([reply.status, JSON.parse(reply.body)['code']]).toEqual([403, 'Internal']);
    expect(reply.body).not.toContain('secret inner cause');
    const bare = checkerThat(() => someAllow({ pin: undefined }));
    const second = await serve({ checker: bare });
    expect((await send(second)).status).toBe(403);
    expect(bare.settled).toHaveLength(1);
  });

  it('is aborted when its caller goes, and an Allow that comes later is settled as not sent', async () => {
    let decide: (decision: Decision) => void = () => undefined;
    const checker = checkerThat(() => new Promise((resolve) => (decide = resolve)));
    const { socketPath } = await serve({ checker });
    const out = request({ socketPath, path: '/check/', headers: { host: 'a.test' }, agent: false });
    out.on('error', () => undefined);
    out.end();
    await until(() => checker.calls.length === 1);
    out.destroy();
    await until(() => checker.signals[0]?.aborted === true);
    decide(someAllow());
    await until(() => checker.settled.length === 1);
  });
});

describe('what is refused before the checker', () => {
  it.each<[string, Sent, number]>([
    ['another path', { path: '/v1/things' }, 400],
    ['a prefix that only begins the same', { path: '/checked/x' }, 400],
    ['a stage that nobody knows', { headers: { 'x-sallyport-stage': 'other' } }, 400],
    [
      'a forged second source',
      { headers: { 'x-sallyport-stage': 'absolute', 'x-sallyport-source': ['1.1.1.1:1', '2.2.2.2:2'] } },
      400,
    ],
    ['a scheme that is none', { headers: { 'x-forwarded-proto': 'gopher' } }, 400],
    [
      'too many headers',
      {
        headers: Object.fromEntries(
          Array.from({ length: limits.requestHeadersMax + 1 }, (_, i) => [`h${i}`, 'x']),
        ),
      },
      431,
    ],
    ['headers too heavy', { headers: { a: 'x'.repeat(limits.requestHeaderBytesMax) } }, 431],
    [
      'more headers than are read',
      { headers: { a: 'x'.repeat(limits.requestHeaderBytesMax + limits.pathBytesMax) } },
      431,
    ],
    ['a path past the limit', { path: `/check/${'a'.repeat(limits.pathBytesMax)}` }, 413],
    ['a body past the limit', { method: 'POST', body: Buffer.alloc(limits.inspectedBodyBytesMax + 1) }, 413],
  ])('%s', async (_name, sent, status) => {
    const { checker, socketPath } = await serve();
    expect((await send({ socketPath }, sent)).status).toBe(status);
    expect(checker.calls).toEqual([]);
  });

  it.each<[string, string]>([
    ['two hosts', 'GET /check/ HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n'],
    ['no host', 'GET /check/ HTTP/1.1\r\n\r\n'],
    ['two lengths', 'POST /check/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
    [
      'a length beside chunks',
      'POST /check/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    ],
    ['a space before the colon', 'GET /check/ HTTP/1.1\r\nHost : a\r\n\r\n'],
    ['CONNECT', 'CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n'],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ])('bytes of a smuggler: %s', async (_name, bytes) => {
    const { checker, socketPath } = await serve();
    const got = await sendRaw(socketPath, bytes);
    expect(got).not.toContain(' 200 ');
    expect(checker.calls).toEqual([]);
  });

  it('any bytes at all', async () => {
    const { checker, socketPath } = await serve();
    const pieces = fc.oneof(
      fc.constantFrom(
        'GET ',
        'POST ',
        '/check/',
        ' HTTP/1.1\r\n',
        'Host: ',
        'x-sallyport-stage: ',
        '\r\n',
        '\0',
        'Content-Length: 1\r\n',
      ),
      fc.string({ unit: 'binary', maxLength: 10 }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(pieces, { maxLength: 12 }), async (parts) => {
        const before = checker.calls.length;
        const got = await sendRaw(socketPath, parts.join(''));
        // A pass is only ever the checker's.
        if (got.includes(' 200 OK')) expect(checker.calls.length).toBeGreaterThan(before);
      }),
      fuzzRuns,
    );
  });
});

describe('TCP', () => {
  it('wants the token, in a header of its own or as bearer, which the call then does not hold', async () => {
    const token = 'a-token-of-enough-characters';
    const { server, checker } = await serve({ listen: { host: '127.0.0.1', port: 0, token } });
    const port = Number(server.address.split(':').at(-1));
    const as = async (headers: Record<string, string>) => (await send({ port }, { headers })).status;
    expect(await as({})).toBe(401);
    expect(await as({ authorization: 'Bearer wrong' })).toBe(401);
    expect(await as({ authorization: `Bearer ${token}`, 'x-sallyport-token': 'wrong' })).toBe(401);
    expect(checker.calls).toEqual([]);
    expect(await as({ authorization: `Bearer ${token}` })).toBe(200);
    expect(await as({ authorization: 'Basic own', 'x-sallyport-token': token })).toBe(200);
    expect(checker.calls.map(({ headers }) => headers['authorization'])).toEqual([undefined, 'Basic own']);
    expect(JSON.stringify(checker.calls)).not.toContain(token);
  });
});

describe('the server', () => {
  it('has a socket for its owner only, and removes it when it stops', async () => {
    const { server, socketPath } = await serve();
    expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
    await server.stop();
    await expect(stat(socketPath)).rejects.toThrow('ENOENT');
  });

  it('lets a check end that is about to, and its kept connection with it', async () => {
    let decide: (decision: Decision) => void = () => undefined;
    const checker = checkerThat(() => new Promise((resolve) => (decide = resolve)));
    const { server, socketPath } = await serve({ checker, stopTimeoutMs: 60_000 });
    const kept = new Agent({ keepAlive: true });
    closers.push(() => kept.destroy());
    const status = new Promise((resolve, reject) => {
      const out = request(
        { socketPath, path: '/check/', headers: { host: 'a.test' }, agent: kept },
        (reply) => {
          reply.resume();
          resolve(reply.statusCode);
        },
      );
      out.on('error', reject);
      out.end();
    });
    await until(() => checker.calls.length === 1);
    const stopped = server.stop();
    await until(() => !existsSync(socketPath));
    decide(someAllow());
    expect(await status).toBe(200);
    await stopped;
  });

  it('stops within its time whatever still runs', async () => {
    const checker = checkerThat(() => new Promise(() => undefined));
    const { server, socketPath } = await serve({ checker, stopTimeoutMs: 100 });
    const reply = send({ socketPath }).then(
      ({ status }) => status,
      () => 'cut',
    );
    await until(() => checker.calls.length === 1);
    await server.stop();
    expect(await reply).toBe('cut');
  });
});
