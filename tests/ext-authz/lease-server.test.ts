import { Agent, request } from 'node:http';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { LeaseGrant, LeaseWish, Lessor } from '../../ext-authz/lease.ts';
import { createLeaseProof } from '../../ext-authz/lease-proof.ts';
import { decodeLeaseQuestion, regionOnWire, serveLeases } from '../../ext-authz/lease-server.ts';
import type { WireRequest } from '../../ext-authz/wire-request.ts';
import type { Call } from '../../filters/facts.ts';
import type { LeaseRegion } from '../../filters/policy/lease-region.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { movingClock } from '../support/moving-clock.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { silent, someAllow, until } from './support.ts';

const question = {
  'x-lease-vm': 'worker-1',
  'x-lease-stage': 'absolute',
  'x-lease-method': 'GET',
  'x-lease-authority': 'api.example.com',
  'x-lease-path': '/v1/things?page=2',
  'x-sallyport-source': '127.0.0.1:40000',
  'x-sallyport-connection': 'abc-1',
};
const clock = movingClock();
const idleMs = 2_000;
const id = `dec_${'0'.repeat(26)}`;

type Reply = Readonly<{ status: number; headers: Readonly<Record<string, unknown>> }>;

function lessorThat(grant: (call: Call, wish: LeaseWish) => LeaseGrant | Promise<LeaseGrant>) {
  const reports: [string, number][] = [];
  const lessor: Lessor = {
    grant: async (call, wish) => grant(call, wish),
    report: (lease, left) => void reports.push([lease, left]),
    sequence: () => 7,
    pause: () => () => undefined,
    proof: createLeaseProof(clock),
  };
  return { lessor, reports };
}

async function serve(lessor: Lessor) {
  const socketPath = join(temporaryDirectory(), 'l.sock');
  const server = await serveLeases({ lessor, log: silent, clock, idleMs, listen: { socketPath } });
  onTestFinished(server.stop);
  const ask = (headers: Record<string, string>, options: object = {}): Promise<Reply> =>
    new Promise((resolve, reject) => {
      const sent = request(
        { socketPath, method: 'POST', path: '/lease', headers, agent: false, ...options },
        (reply) => {
          reply.resume();
          reply.on('end', () => resolve({ status: reply.statusCode ?? 0, headers: reply.headers }));
        },
      );
      sent.on('error', reject);
      sent.end();
    });
  return { ask };
}

const lease = (region: LeaseRegion): LeaseGrant => ({
  kind: 'lease',
  principal: 'robot user api.example.com:443 api.example.com',
  region,
  allow: someAllow(),
  pin: { address: '2001:db8::1', port: 443, class: 'public' },
  lease: { calls: 32, lifeMs: 500, path: '/v1/', exact: false },
});

test('a lease is answered with everything that the filter needs to use it', async () => {
  const asked: { call: Call; wish: LeaseWish }[] = [];
  const { lessor, reports } = lessorThat((call, wish) => {
    asked.push({ call, wish });
    return lease({ methods: 'this', prefix: '/v1/', exact: false });
  });
  const { ask } = await serve(lessor);
  const renews = { 'x-lease-renews': `${id}=3`, 'x-lease-ended': `${id}=5,dec_${'1'.repeat(26)}=0` };
  const { status, headers } = await ask({ ...question, ...renews });
  expect(status).toBe(200);
  expect(headers).toMatchObject({
    'x-lease-sequence': '7',
    'x-lease-for': 'robot%20user%20api.example.com%3A443%20api.example.com',
    'x-lease-path': '/v1/',
    'x-lease-exact': '0',
    'x-lease-calls': '32',
    'x-lease-ms': '500',
    'x-lease-dst': '[2001:db8::1]:443',
  });
  expect(headers['x-lease-id']).toMatch(/^dec_/);
  expect(asked).toMatchObject([
    {
      call: {
        stage: 'request',
        scheme: 'http',
        method: 'GET',
        authority: 'api.example.com',
        path: '/v1/things?page=2',
        connection: { sourceAddress: '127.0.0.1', sourcePort: 40_000, connectionId: 'abc-1' },
        body: { kind: 'unread' },
      },
      wish: { vm: 'worker-1', renews: { id, left: 3 } },
    },
  ]);
  expect(reports).toEqual([
    [id, 5],
    [`dec_${'1'.repeat(26)}`, 0],
  ]);
});

test('no lease is answered with how long to be quiet, and a known one with what it is for', async () => {
  let grant: LeaseGrant = { kind: 'none', why: 'a person decides' };
  const { ask } = await serve(lessorThat(() => grant).lessor);
  const none = await ask(question);
  expect(none.status).toBe(200);
  expect(none.headers).toMatchObject({ 'x-lease-quiet-ms': String(limits.leaseQuietMs) });
  expect(none.headers).not.toHaveProperty('x-lease-for');
  grant = { kind: 'known', principal: 'robot', region: { methods: 'this', prefix: '/a', exact: true } };
  const known = await ask(question);
  expect(known.headers).toMatchObject({ 'x-lease-for': 'robot', 'x-lease-path': '/a', 'x-lease-exact': '1' });
  expect(known.headers).not.toHaveProperty('x-lease-id');
});

test('what is not a question of the filter is refused, and no lease is granted for it', async () => {
  const { lessor } = lessorThat(() => {
    throw new Error('asked');
  });
  const { ask } = await serve(lessor);
  const wrong: [Record<string, string>, object?][] = [
    [question, { method: 'GET' }],
    [question, { path: '/check' }],
    [{ ...question, 'x-lease-stage': 'connect' }],
    [{ ...question, 'x-lease-vm': '../x' }],
    [{ ...question, 'x-lease-path': 'no-slash' }],
    [{ ...question, 'x-lease-authority': '' }],
    [{ ...question, 'x-lease-ended': 'dec_1=2' }],
    [
      {
        ...question,
        'x-lease-ended': Array(limits.leaseReportsMax + 1)
          .fill(`${id}=1`)
          .join(','),
      },
    ],
    [{ ...question, 'x-lease-renews': `${id}=-1` }],
    [{ ...question, 'x-sallyport-source': 'somewhere' }],
    // Inside a tunnel the CONNECT has to be told.
    [{ ...question, 'x-lease-stage': 'mitm' }],
  ];
  for (const [headers, options] of wrong) expect((await ask(headers, options)).status).toBe(400);
});

test('a lease that nobody is there to take flows back whole', async () => {
  let answer: (grant: LeaseGrant) => void = () => undefined;
  const pending = new Promise<LeaseGrant>((resolve) => {
    answer = resolve;
  });
  const { lessor, reports } = lessorThat(() => pending);
  const { ask } = await serve(lessor);
  await expect(ask(question, { signal: AbortSignal.timeout(50) })).rejects.toThrow();
  // The server hears of the closed connection in a turn of its own.
  await new Promise((resolve) => setTimeout(resolve, 100));
  const granted = lease({ methods: 'this', prefix: '/v1/', exact: false });
  answer(granted);
  await until(() => reports.length === 1);
  expect(reports).toEqual([[granted.kind === 'lease' ? granted.allow.id : '', 32]]);
});

test('what a connection proves: a third question that the first answer was read in time, an idle end all of the time', async () => {
  let pending: Promise<LeaseGrant> = Promise.resolve({ kind: 'none', why: 'a person decides' });
  const { lessor } = lessorThat(() => pending);
  const { ask } = await serve(lessor);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  const ran = (): number => lessor.proof.ranUntilMs('worker-1');
  const startMs = clock.monotonicMs();
  const next = async (ms: number): Promise<void> => {
    clock.pass(ms);
    await ask(question, { agent });
  };
  await next(0);
  await next(100);
  expect(ran()).toBe(Number.NEGATIVE_INFINITY);
  await next(100);
  expect(ran()).toBe(startMs);
  await next(100);
  expect(ran()).toBe(startMs + 100);
  const closed = async (): Promise<void> => {
    agent.destroy();
    // The server hears of the closed connection in a turn of its own.
    await new Promise((resolve) => setTimeout(resolve, 50));
  };
  // Not by its timer: too early, or with a question under way.
  clock.pass(idleMs - limits.leaseTimerSlackMs - 1);
  await closed();
  expect(ran()).toBe(startMs + 100);
  await next(0);
  clock.pass(idleMs);
  pending = new Promise(() => undefined);
  const unanswered = ask(question, { agent }).catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 50));
  await closed();
  await unanswered;
  expect(ran()).toBe(startMs + 100);
  pending = Promise.resolve({ kind: 'none', why: 'a person decides' });
  await next(0);
  const answeredMs = clock.monotonicMs();
  clock.pass(idleMs - limits.leaseTimerSlackMs);
  await closed();
  expect(ran()).toBe(answeredMs + idleMs - limits.leaseTimerSlackMs);
});

const wire = (path: string, prefix = '/openai'): WireRequest => ({
  ...decodeLeaseQuestion({ ...question, 'x-lease-stage': 'base', 'x-lease-prefix': prefix }).wire,
  path,
});
const region = (prefix: string, exact = false): LeaseRegion => ({ methods: 'this', prefix, exact });

test.each([
  // Asked of the route, its path at the destination, the region there, and the same in paths of the route.
  ['/openai/v1/chat', '/v1/chat', region('/v1/'), region('/openai/v1/')],
  ['/openai/v1/chat', '/v1/chat', region('/'), region('/openai/')],
  ['/openai/v1/chat?x=1', '/v1/chat', region('/v1/chat', true), region('/openai/v1/chat', true)],
  ['/openai/chat', '/base/chat', region('/base/'), region('/openai/')],
  ['/openai/a/b', '/base/a/b', region('/base/a/'), region('/openai/a/')],
  ['/openai/chat', '/base/chat', region('/'), region('/openai/')],
  ['/openai', '/', region('/'), region('/openai', true)],
  ['/openai/%61', '/a', region('/'), undefined],
])('under a base route, %s at %s', (asked, path, given, expected) => {
  expect(regionOnWire(given, wire(asked), path)).toEqual(expected);
});

test('every set of headers is a question or a refusal that says why', () => {
  const value = fc.oneof(
    fc.string({ maxLength: 80 }),
    fc.constantFrom(...Object.values(question), `${id}=1`),
  );
  const names = [
    ...Object.keys(question),
    ...['x-lease-ended', 'x-lease-renews', 'x-lease-prefix', 'x-lease-sni', 'proxy-authorization'],
  ];
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...names), value), (headers) => {
      try {
        const { wish, ended } = decodeLeaseQuestion({ ...question, ...headers });
        expect(wish.vm).toMatch(/^[\w-]{1,64}$/);
        for (const { left } of ended) expect(left).toBeGreaterThanOrEqual(0);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(SallyportError);
      }
    }),
    fuzzRuns,
  );
});
