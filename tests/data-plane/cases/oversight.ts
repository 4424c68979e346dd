/** Holds and quotas: what they promise holds whatever carries the bytes. */
import { request as httpRequest } from 'node:http';
import { expect, test } from 'vitest';
import { until } from '../../envoy/clients.ts';
import { askPlain, askSecure, codeOf, seen } from '../ask.ts';
import { type Harness, type HarnessOptions, type StartPlane, startHarness } from '../harness.ts';
import { holdPolicy, quotaPolicy, sharedPolicy } from '../policies.ts';
import { exactCases } from './oversight-exact.ts';

const order = { method: 'POST', body: 'ten books' } as const;

export function oversightCases(start: StartPlane): void {
  exactCases(start);

  const withHarness = async (options: HarnessOptions, run: (h: Harness) => Promise<void>): Promise<void> => {
    const h = await startHarness(start, options);
    try {
      await run(h);
    } finally {
      await h.close();
    }
  };
  const pendingOf = async (h: Harness) => {
    await until(() => h.holds.list({ states: ['Pending'], limit: 10 }).length === 1, 'the hold');
    const [hold] = h.holds.list({ states: ['Pending'], limit: 10 });
    if (hold === undefined) throw new Error('no hold');
    return hold;
  };

  test('a name that leads to the proxy itself is refused once, and never goes round', async () => {
    await withHarness({ policy: sharedPolicy, proxy: { connections_max: 64 } }, async (h) => {
      await h.apply((ports) => sharedPolicy({ ...ports, dead: h.port }));
      const reply = await askPlain(h, 'api.test', '/hello', {}, h.port);
      expect([reply.status, codeOf(reply)]).toEqual([403, 'AddressDenied']);
      expect(h.decisions).toHaveLength(1);
    });
  });

  test('a held call waits, goes out once it is approved, and only once', async () => {
    await withHarness({ policy: holdPolicy('20s') }, async (h) => {
      const waiting = askSecure(h, 'hold.test', '/orders', order);
      const hold = await pendingOf(h);
      expect(hold.request).toMatchObject({ method: 'POST', bodyBytes: 9 });
      expect(seen(h, '/orders')).toBe(0);
      h.holds.approve(hold.id, 'dana', 'fine');
      const reply = await waiting;
      expect(reply.status).toBe(201);
      expect(seen(h, '/orders')).toBe(1);
      await until(() => {
        h.followOutcomes();
        return h.holds.get(hold.id)?.state === 'Sent';
      }, 'the outcome of the hold');
    });
  });

  test('a held call that a person denies never goes out', async () => {
    await withHarness({ policy: holdPolicy('20s') }, async (h) => {
      const waiting = askPlain(h, 'hold.test', '/orders', order);
      const hold = await pendingOf(h);
      h.holds.deny(hold.id, 'dana', 'no');
      const reply = await waiting;
      expect([reply.status, codeOf(reply)]).toEqual([403, 'HoldDenied']);
      expect(seen(h, '/orders')).toBe(0);
    });
  });

  test('without a decision in time the caller is told to retry; the retry uses the approval up', async () => {
    await withHarness({ policy: holdPolicy('0s') }, async (h) => {
      const first = await askPlain(h, 'hold.test', '/orders', order);
      expect([first.status, codeOf(first)]).toEqual([403, 'HoldPending']);
      expect(Number(first.headers['retry-after'])).toBeGreaterThan(0);
      const hold = await pendingOf(h);
      expect(first.headers['x-sallyport-hold']).toBe(hold.id);
      h.holds.approve(hold.id, 'dana', '');
      const other = await askPlain(h, 'hold.test', '/orders', { ...order, body: 'eleven books' });
      expect(codeOf(other)).toBe('HoldPending');
      expect((await askPlain(h, 'hold.test', '/orders', order)).status).toBe(201);
      const again = await askPlain(h, 'hold.test', '/orders', order);
      expect(codeOf(again)).toBe('HoldPending');
      expect(seen(h, '/orders')).toBe(1);
    });
  });

  test('of many retries of one approval exactly one goes out', async () => {
    await withHarness({ policy: holdPolicy('0s') }, async (h) => {
      await askPlain(h, 'hold.test', '/orders', order);
      h.holds.approve((await pendingOf(h)).id, 'dana', '');
      const replies = await Promise.all(
        Array.from({ length: 20 }, () => askPlain(h, 'hold.test', '/orders', order)),
      );
      expect(replies.filter((reply) => reply.status === 201).length).toBe(1);
      expect(seen(h, '/orders')).toBe(1);
    });
  });

  test('a caller that leaves while it waits leaves the hold open and sends nothing', async () => {
    await withHarness({ policy: holdPolicy('20s') }, async (h) => {
      const asked = httpRequest({
        host: '127.0.0.1',
        port: h.port,
        method: 'POST',
        path: `http://hold.test:${h.ports.http}/orders`,
      });
      asked.on('error', () => undefined);
      asked.end(order.body);
      const hold = await pendingOf(h);
      asked.destroy();
      await until(() => h.decisions.length === 1, 'the end of the check');
      h.holds.approve(hold.id, 'dana', '');
      expect(h.holds.get(hold.id)?.state).toBe('Approved');
      expect(seen(h, '/orders')).toBe(0);
    });
  });

  test('of 2,000 calls at once exactly the quota of 100 reaches the destination', async () => {
    await withHarness({ policy: quotaPolicy(100) }, async (h) => {
      const statuses = await Promise.all(
        Array.from({ length: 20 }, async () => {
          const got: number[] = [];
          // 20 connections with 100 pipelined requests each: all under way at once, few sockets.
          const { open, readAll } = await import('../../envoy/clients.ts');
          const socket = await open(h.port);
          const read = readAll(socket);
          const one = `GET http://api.test:${h.ports.http}/limited HTTP/1.1\r\nHost: a\r\n`;
          for (let sent = 0; sent < 99; sent += 1) socket.write(`${one}\r\n`);
          socket.write(`${one}Connection: close\r\n\r\n`);
          for (const found of (await read).toString().matchAll(/HTTP\/1\.1 (\d+)/g))
            got.push(Number(found[1]));
          return got;
        }),
      );
      const flat = statuses.flat();
      expect(flat.length).toBe(2_000);
      expect(flat.filter((status) => status === 200).length).toBe(100);
      expect(flat.filter((status) => status === 429).length).toBe(1_900);
      expect(seen(h, '/limited')).toBe(100);
      const refused = await askPlain(h, 'api.test', '/limited');
      expect(codeOf(refused)).toBe('QuotaExceeded');
      expect(refused.headers['ratelimit']).toContain('r=0');
      expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    });
  });

  test('an allowed call tells what is left, and a call that never left is given back', async () => {
    const policy = ({ http, dead }: { http: number; dead: number }): string =>
      quotaPolicy(3)({ http, dead, https: 0, wrong: 0, raw: 0 }).replace(`[${http}]`, `[${http}, ${dead}]`);
    await withHarness({ policy }, async (h) => {
      const first = await askPlain(h, 'api.test', '/limited');
      expect(first.headers['ratelimit']).toMatch(/"hundred";r=2;t=\d+/);
      const gone = await askPlain(h, 'api.test', '/limited', {}, h.ports.dead);
      expect(gone.status).toBe(502);
      if (h.plane.kind === 'embedded')
        expect((await askPlain(h, 'api.test', '/limited')).headers['ratelimit']).toMatch(/r=1;/);
    });
  });

  test('a new policy holds for every request after it and drops none under way', async () => {
    const withPath =
      (path: string) =>
      ({ http }: { http: number }): string =>
        `version: 1
agents: { tester: { identity: "spiffe://sallyport.test/tester" } }
rules:
  - name: only
    to: { hosts: [api.test], ports: [${http}], paths: [/stream, ${path}], internal: true }
    allow: {}
`;
    await withHarness({ policy: withPath('/hello') }, async (h) => {
      const streaming = askPlain(h, 'api.test', '/stream?ticks=10&ms=100');
      let running = true;
      const failed: number[] = [];
      const load = Promise.all(
        Array.from({ length: 4 }, async () => {
          while (running) {
            const { status } = await askPlain(h, 'api.test', '/stream?ticks=1');
            if (status !== 200) failed.push(status);
          }
        }),
      );
      expect((await askPlain(h, 'api.test', '/limited')).status).toBe(403);
      await h.apply(withPath('/limited'));
      expect((await askPlain(h, 'api.test', '/limited')).status).toBe(200);
      expect((await askPlain(h, 'api.test', '/hello')).status).toBe(403);
      running = false;
      await load;
      expect(failed).toEqual([]);
      expect((await streaming).body).toContain('tick 10');
    });
  });

  test('without an agent of the pod an unknown caller gets nothing', async () => {
    await withHarness({ policy: quotaPolicy(10), podAgent: '' }, async (h) => {
      const reply = await askPlain(h, 'api.test', '/hello');
      expect([reply.status, codeOf(reply)]).toEqual([401, 'InvalidAgent']);
    });
  });
}
