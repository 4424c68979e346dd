/** What flows: server-sent events, WebSocket, large bodies, trailers, and clients that go away. */
import type { Duplex } from 'node:stream';
import { ProxyAgent, request } from 'undici';
import { expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { closed, open, secureTunnel, until, within } from '../../envoy/clients.ts';
import { askPlain, trust } from '../ask.ts';
import type { Harness } from '../harness.ts';

/** Resolves with the bytes once `text` is among them. */
const firstWith = (stream: Duplex, text: string): Promise<string> =>
  within(
    new Promise((resolve) => {
      let got = '';
      stream.on('data', (chunk: Buffer) => {
        got += chunk.toString();
        if (got.includes(text)) resolve(got);
      });
    }),
    text,
  );

const echoOver = async (client: WebSocket): Promise<string> => {
  const answer = within(
    new Promise<string>((resolve, reject) => {
      client.on('message', (data) => resolve(String(data)));
      client.on('error', reject);
      client.on('open', () => client.send('ping over the proxy'));
    }),
    'the echo',
  );
  return answer.finally(() => client.terminate());
};

export function streamCases(harness: () => Harness): void {
  test('the first event arrives while the stream is open', async () => {
    const h = harness();
    const socket = await open(h.port);
    const base = `http://api.test:${h.ports.http}`;
    socket.write(`GET ${base}/stream?ticks=1000&ms=60000 HTTP/1.1\r\nHost: api.test\r\n\r\n`);
    const got = await firstWith(socket, 'tick 1');
    expect(got).toContain('text/event-stream');
    expect(got).not.toContain('tick 2');
    socket.destroy();
  });

  test('a WebSocket passes in the clear, after a check', async () => {
    const h = harness();
    const socket = await open(h.port);
    const base = `api.test:${h.ports.http}`;
    const client = new WebSocket(`ws://${base}/ws`, {
      createConnection: () => absolute(socket, base),
    });
    expect(await echoOver(client)).toBe('ping over the proxy');
    expect(h.decisions.at(-1)).toMatchObject({ decision: { kind: 'Allow' }, call: { path: '/ws' } });
  });

  test('a WebSocket passes inside TLS', async () => {
    const h = harness();
    const authority = `api.test:${h.ports.https}`;
    const secure = await secureTunnel(h.port, authority, {
      ...trust(h, 'api.test'),
      ALPNProtocols: ['http/1.1'],
    });
    const client = new WebSocket(`ws://${authority}/ws`, { createConnection: () => secure });
    expect(await echoOver(client)).toBe('ping over the proxy');
  });

  test('a WebSocket that is denied, or that the destination refuses, gets an ordinary answer', async () => {
    const h = harness();
    const statusOf = async (path: string): Promise<number> => {
      const authority = `api.test:${h.ports.https}`;
      const secure = await secureTunnel(h.port, authority, {
        ...trust(h, 'api.test'),
        ALPNProtocols: ['http/1.1'],
      });
      const client = new WebSocket(`ws://${authority}${path}`, { createConnection: () => secure });
      return within(
        new Promise<number>((resolve, reject) => {
          client.on('unexpected-response', (_, response) => resolve(response.statusCode ?? 0));
          client.on('open', () => reject(new Error('it was opened')));
          client.on('error', () => undefined);
        }),
        'an answer',
      ).finally(() => client.terminate());
    };
    expect(await statusOf('/admin/ws')).toBe(403);
    expect(await statusOf('/nothing')).toBe(404);
  });

  test('large bodies pass whole in both directions', async () => {
    const h = harness();
    const agent = new ProxyAgent({ uri: h.plane.proxyUrl, requestTls: { ca: h.caPem } });
    try {
      const origin = `https://api.test:${h.ports.https}`;
      const size = 8 * 1024 * 1024;
      const down = await request(`${origin}/bytes?n=${size}`, { dispatcher: agent });
      expect((await down.body.bytes()).length).toBe(size);
      const up = await request(`${origin}/orders`, {
        dispatcher: agent,
        method: 'POST',
        body: Buffer.alloc(size, 0x62),
      });
      expect(await up.body.json()).toMatchObject({ bytes: size });
    } finally {
      await agent.destroy();
    }
  });

  test('a client that does not read slows its destination down; nothing piles up on the way', async () => {
    const h = harness();
    const socket = await open(h.port);
    socket.pause();
    const size = 64 * 1024 * 1024;
    socket.write(
      `GET http://api.test:${h.ports.http}/bytes?n=${size} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
    );
    await until(() => h.upstream.requests().some(({ path }) => path === `/bytes?n=${size}`), 'the request');
    const before = process.memoryUsage.rss();
    let last = -1;
    // Until the kernel's buffers are full and nothing moves any more.
    await until(() => {
      const now = socket.bytesRead;
      const still = now === last;
      last = now;
      return still;
    }, 'standstill');
    expect(process.memoryUsage.rss() - before).toBeLessThan(size);
    socket.resume();
    await within(closed(socket), 'the end of the answer');
    expect(socket.bytesRead).toBeGreaterThan(size);
  });

  test('a client that goes away takes its upstream request with it', async () => {
    const h = harness();
    const socket = await open(h.port);
    const path = '/orders?cut';
    socket.write(
      `POST http://api.test:${h.ports.http}${path} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n${'a'.repeat(1_000)}`,
    );
    const cut = () => h.upstream.requests().filter((request) => request.path === path);
    await until(() => h.decisions.some(({ call }) => call.path === path), 'the check');
    socket.destroy();
    await until(() => cut().length === 1, 'the end of the upstream request');
    expect(cut()[0]?.complete).toBe(false);
  });

  test('many requests in parallel each get their own answer', async () => {
    const h = harness();
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, index) => askPlain(h, 'api.test', `/echo?n=${index}`)),
    );
    expect(answers.map((reply) => JSON.parse(reply.body).path)).toEqual(
      answers.map((_, index) => `/echo?n=${index}`),
    );
  });
}

/** The WebSocket client writes its request in origin form; over a proxy in the clear it is absolute. */
function absolute<T extends Duplex>(socket: T, base: string): T {
  const write = socket.write.bind(socket);
  let first = true;
  socket.write = (chunk: unknown, ...rest: unknown[]): boolean => {
    if (!first) return Reflect.apply(write, socket, [chunk, ...rest]);
    first = false;
    return Reflect.apply(write, socket, [String(chunk).replace(/^GET \//, `GET http://${base}/`), ...rest]);
  };
  return socket;
}
