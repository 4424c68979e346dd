import { expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import type { LeaseGrant, LeaseWish } from '../../ext-authz/lease.ts';
import { certificateProof } from '../../filters/identity/proof.ts';
import { someCall } from '../support/call.ts';
import { type World, world } from './check-world.ts';

const policy = (rules: string, rest = ''): string => `version: 1
agents:
  robot: { identity: spiffe://example.org/robot }
  clerk: { identity: spiffe://example.org/clerk }
approvers: { people: { members: [dana] } }
rules:
${rules}
${rest}`;
const readable = '  - { name: read, to: { hosts: [api.example.com], methods: [GET] }, allow: {} }';
const quota = (limit: number): string =>
  `quotas: [{ name: few, rules: [read], limit: ${limit}, window: 1h, key: [agent] }]`;

const wish = (changes: Partial<LeaseWish> = {}): LeaseWish => ({
  vm: 'worker-1',
  renews: undefined,
  onWire: (region) => region,
  ...changes,
});

const grant = (
  { checker }: World,
  changes: Parameters<typeof someCall>[0] = {},
  wished = wish(),
): Promise<LeaseGrant> => {
  if (checker.lessor === undefined) throw new Error('no leases here');
  return checker.lessor.grant(someCall(changes), wished);
};

const leased = (found: LeaseGrant): Extract<LeaseGrant, { kind: 'lease' }> => {
  if (found.kind !== 'lease') throw new Error(`expected a lease, found ${JSON.stringify(found)}`);
  return found;
};

test('a lease is a decision of its own: written down with its calls, paid in advance, told with its pin', async () => {
  const here = world(policy(readable, quota(100_000)));
  const { allow, lease, pin } = leased(await grant(here));
  expect(lease).toEqual({ calls: limits.leaseFirstCallsMax, lifeMs: 500, path: '/', exact: false });
  expect(pin).toMatchObject({ address: '93.184.215.14', port: 443 });
  expect(here.journal.find(allow.id)).toMatchObject({
    kind: 'Allow',
    rule: 'read',
    calls: limits.leaseFirstCallsMax,
    lease_ms: 500,
    resource: 'https://api.example.com:443/**',
    why: `lease of ${limits.leaseFirstCallsMax} calls for 500 ms`,
  });
  expect(allow.quotas).toMatchObject([{ used: limits.leaseFirstCallsMax }]);
});

test('one lease is out for a class and a worker; the next is for who had it, or once it has ended', async () => {
  const here = world(policy(readable));
  const first = leased(await grant(here));
  expect(await grant(here)).toMatchObject({ kind: 'known', principal: first.principal });
  leased(await grant(here, {}, wish({ vm: 'worker-2' })));
  const second = leased(await grant(here, {}, wish({ renews: { id: first.allow.id, left: 0 } })));
  expect(await grant(here)).toMatchObject({ kind: 'known' });
  here.checker.lessor?.report(second.allow.id, 0);
  leased(await grant(here));
  here.clock.pass(500);
  leased(await grant(here));
});

test('two questions at once get one lease', async () => {
  const here = world(policy(readable));
  const kinds = (await Promise.all([grant(here), grant(here), grant(here)])).map(({ kind }) => kind);
  expect(kinds.sort()).toEqual(['known', 'known', 'lease']);
});

test('a lease is as large as the class is busy, and shrinks with it', async () => {
  const here = world(policy(readable));
  let { allow, lease } = leased(await grant(here));
  const next = async (ms: number, left: number): Promise<number> => {
    here.clock.pass(ms);
    ({ allow, lease } = leased(await grant(here, {}, wish({ renews: { id: allow.id, left } }))));
    return lease.calls;
  };
  // 512 in 10 ms would be 38,400 in half as long again as a lease lives; it grows eightfold at most.
  expect(await next(10, 0)).toBe(4_096);
  expect(await next(20, 0)).toBe(10_000);
  expect(await next(400, 8_000)).toBe(3_750);
  here.clock.pass(limits.leaseRateKeptMs + 1_000);
  expect(leased(await grant(here)).lease.calls).toBe(limits.leaseFirstCallsMax);
});

test('no lease takes more than a part of the room, and none is granted where little is left', async () => {
  const here = world(policy(readable, quota(100)));
  let found = await grant(here);
  let out = 0;
  for (let worker = 0; found.kind === 'lease'; worker += 1) {
    expect(found.lease.calls).toBeLessThanOrEqual((100 - out) / limits.leaseRoomPartsMin);
    out += found.lease.calls;
    found = await grant(here, {}, wish({ vm: `worker-${worker + 10}` }));
  }
  expect(found).toEqual({ kind: 'none', why: 'a lease would be too small' });
  expect(100 - out).toBeLessThan(limits.leaseRoomPartsMin * limits.leaseCallsMin);
  expect(100 - out).toBeGreaterThan(0);
});

test.each([
  [
    'a rule that asks a person',
    '  - { name: read, to: { hosts: [api.example.com] }, hold: { approvers: people } }',
  ],
  ['a rule that forbids', '  - { name: read, to: { hosts: [api.example.com] }, forbid: { reason: no } }'],
  [
    'a condition that reads a header',
    readable.replace('allow: {}', `when: 'request.headers["x-a"] == "b"', allow: {}`),
  ],
  ['no rule', '  - { name: read, to: { hosts: [other.example.com] }, allow: {} }'],
])('%s gives no lease, costs nothing and writes nothing', async (_name, rules) => {
  const here = world(policy(rules));
  expect(await grant(here)).toMatchObject({ kind: 'none' });
  expect(here.journal.tail(10)).toEqual([]);
  expect(here.book.count()).toBe(0);
});

test('an unknown agent, a tunnel and a locked sidecar get none', async () => {
  const here = world(policy(readable));
  const { connection } = someCall();
  const stranger = { ...connection, peerSpiffeId: 'spiffe://example.org/nobody' };
  expect(await grant(here, { connection: stranger })).toMatchObject({ kind: 'none' });
  const tunnel = { stage: 'connect', method: 'CONNECT', scheme: '', path: '' } as const;
  expect(await grant(here, tunnel)).toMatchObject({ kind: 'none' });
  here.lock('an operator said so');
  expect(await grant(here)).toMatchObject({ kind: 'none' });
});

test('what a check refuses before it asks any rule gets no lease', async () => {
  const here = world(policy(readable));
  const { connection } = someCall();
  const refused = [
    { authority: 'api.example.com:0' },
    { path: '/a/%2e%2e/b' },
    {
      connection: {
        ...connection,
        tunnelAgent: 'robot',
        tunnelProof: 'pod',
        tunnelAuthority: 'other.example.com:443',
      },
    },
  ];
  for (const [at, changes] of refused.entries()) {
    const decision = await here.check(changes);
    if (decision.kind !== 'Deny') throw new Error(`${at} is checked as ${decision.kind}`);
    expect(['DestinationInvalid', 'DestinationMismatch']).toContain(decision.code);
    expect(await grant(here, changes)).toEqual({ kind: 'none', why: decision.reason });
  }
});

test('who a lease is for tells agents, tunnels and server names apart', async () => {
  const here = world(policy(readable));
  const { connection } = someCall();
  const others = [
    {},
    { peerSpiffeId: 'spiffe://example.org/clerk' },
    {
      tunnelAgent: 'robot',
      tunnelProof: 'pod',
      tunnelAuthority: 'api.example.com:443',
      sni: 'api.example.com',
    },
    {
      tunnelAgent: 'clerk',
      tunnelProof: certificateProof('spiffe://example.org/clerk'),
      tunnelAuthority: 'api.example.com:443',
      sni: 'api.example.com',
    },
  ];
  const seen = new Set<string>();
  for (const [index, other] of others.entries()) {
    const found = await grant(here, { connection: { ...connection, ...other } }, wish({ vm: `w${index}` }));
    seen.add(leased(found).principal);
  }
  expect(seen.size).toBe(others.length);
});

test('a tunnel whose agent the present policy does not know by what its CONNECT had gets none', async () => {
  const here = world(policy(readable));
  const { connection } = someCall();
  const inside = {
    ...connection,
    tunnelAgent: 'clerk',
    tunnelProof: certificateProof('spiffe://example.org/clerk'),
    tunnelAuthority: 'api.example.com:443',
    sni: 'api.example.com',
  };
  leased(await grant(here, { connection: inside }));
  here.load(policy(readable).replace('example.org/clerk', 'example.org/clerk-2'));
  expect(await grant(here, { connection: inside }, wish({ vm: 'worker-2' }))).toMatchObject({ kind: 'none' });
});

test('every change after which nothing granted may be used makes the sequence grow', () => {
  const here = world(policy(readable));
  const sequence = (): number => here.checker.lessor?.sequence() ?? Number.NaN;
  const first = sequence();
  expect(sequence()).toBe(first);
  here.load(policy(readable));
  expect(sequence()).toBe(first + 1);
  here.lock('an operator said so');
  expect(sequence()).toBe(first + 2);
  expect(sequence()).toBe(first + 2);
  here.lock(undefined);
  expect(sequence()).toBe(first + 3);
});

test('a request refused for a quota waits for leased calls that flow back, and takes one of them', async () => {
  const here = world(policy(readable, quota(40)));
  const { allow, lease } = leased(await grant(here));
  for (let used = lease.calls; used < 40; used += 1) expect((await here.check({})).kind).toBe('Allow');
  const waiting = [here.check({}), here.check({}), here.check({})];
  await new Promise((resolve) => setImmediate(resolve));
  here.checker.lessor?.report(allow.id, 2);
  const kinds = (await Promise.all(waiting)).map(({ kind }) => kind).sort();
  expect(kinds).toEqual(['Allow', 'Allow', 'QuotaExceeded']);
  expect((await here.check({})).kind).toBe('QuotaExceeded');
});

test('calls that provably never left are given back by the id of their decision, once', async () => {
  const here = world(policy(readable, quota(40)));
  const { allow, lease } = leased(await grant(here));
  const decision = await here.check({});
  const used = async (): Promise<number> => (await here.check({})).quotas[0]?.used ?? Number.NaN;
  expect(await used()).toBe(lease.calls + 2);
  here.checker.refundUnsent(decision.id, 1, 1);
  here.checker.refundUnsent(decision.id, 1, 1);
  expect(await used()).toBe(lease.calls + 2);
  here.checker.refundUnsent(allow.id, 2, 2);
  expect(await used()).toBe(lease.calls + 1);
});

test('a lockdown that comes while a request waits refuses it too, and what it took is given back', async () => {
  const here = world(policy(readable, quota(40)));
  const { allow, lease } = leased(await grant(here));
  for (let used = lease.calls; used < 40; used += 1) await here.check({});
  const waiting = here.check({});
  await new Promise((resolve) => setImmediate(resolve));
  here.lock('an operator said so');
  here.checker.lessor?.report(allow.id, 2);
  expect(await waiting).toMatchObject({ kind: 'Deny', code: 'Lockdown', reason: 'an operator said so' });
  here.lock(undefined);
  expect((await here.check({})).kind).toBe('Allow');
  expect((await here.check({})).kind).toBe('Allow');
});
