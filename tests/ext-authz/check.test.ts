import { expect, test } from 'vitest';
import { SallyportError } from '../../config/errors.ts';
import type { Decision } from '../../filters/decision.ts';
import type { Hold } from '../../filters/oversight/holds.ts';
import { world } from './check-world.ts';

const policy = (rules: string, rest = ''): string => `version: 1
agents: { robot: { identity: spiffe://example.org/robot } }
approvers: { people: { members: [dana, lee] } }
rules:
${rules}
${rest}`;

const readable = policy('  - { name: read, to: { hosts: [api.example.com], methods: [GET] }, allow: {} }');
const orders = (wait: string): string =>
  policy(
    `  - { name: order, to: { hosts: [api.example.com], methods: [POST] }, hold: { approvers: people, wait: ${wait} } }`,
  );
const order = {
  method: 'POST',
  path: '/orders',
  body: { kind: 'whole', bytes: new TextEncoder().encode('{"n":1}') },
} as const;

const codeOf = (decision: Decision): string => (decision.kind === 'Deny' ? decision.code : decision.kind);
const onlyHold = (holds: readonly Hold[]): Hold => {
  const [hold] = holds;
  if (hold === undefined || holds.length !== 1) throw new Error(`expected one hold, found ${holds.length}`);
  return hold;
};

test('an allowed call gets the pinned address, and everything a record needs', async () => {
  const { check, journal } = world(readable);
  const decision = await check({ path: '/a?token=hidden' });
  expect(decision).toMatchObject({
    kind: 'Allow',
    rule: 'read',
    pin: { address: '93.184.215.14', port: 443, class: 'public' },
    agent: { name: 'robot', by: 'pod' },
    chain: ['spiffe://example.org/robot'],
  });
  expect(journal.find(decision.id)).toMatchObject({
    type: 'decision',
    kind: 'Allow',
    rule: 'read',
    agent: 'spiffe://example.org/robot',
    delegation_chain: ['spiffe://example.org/robot'],
    resource: 'https://api.example.com:443/a',
    outcome: 'Success',
    at: { logical: expect.any(Number), physical_ns: expect.stringMatching(/^\d{19}$/) },
  });
  expect(JSON.stringify(journal.tail(10))).not.toContain('hidden');
});

test('what no rule allows is denied before its name is resolved', async () => {
  const { check } = world(readable);
  // Nobody answers DNS here, so a look-up would end as ResolutionFailed.
  expect(codeOf(await check({ authority: 'secrets.attacker.example' }))).toBe('EgressDenied');
});

test('an allowed name that resolves to an internal address is denied', async () => {
  const { check } = world(policy('  - { name: in, to: { hosts: [inside.example.com] }, allow: {} }'));
  expect(codeOf(await check({ authority: 'inside.example.com' }))).toBe('AddressDenied');
});

test('a resolver that cannot be reached is a denial', async () => {
  const { check } = world(policy('  - { name: any, to: { hosts: [gone.example.com] }, allow: {} }'));
  expect(codeOf(await check({ authority: 'gone.example.com' }))).toBe('ResolutionFailed');
});

test('a caller that is no agent of the policy is denied without an agent on record', async () => {
  const { check } = world(readable);
  const decision = await check({ connection: { peerSpiffeId: 'spiffe://example.org/stranger' } });
  expect(codeOf(decision)).toBe('InvalidAgent');
  expect(decision.agent).toBeUndefined();
});

test('a lockdown refuses whoever calls, and its record says who did', async () => {
  const { check, lock } = world(readable);
  lock('odd traffic');
  const decision = await check({});
  expect([codeOf(decision), decision.agent?.name]).toEqual(['Lockdown', 'robot']);
  const stranger = await check({ connection: { peerSpiffeId: 'spiffe://example.org/stranger' } });
  expect([codeOf(stranger), stranger.agent]).toEqual(['Lockdown', undefined]);
});

test('a thousand callers at once never pass more than the quota', async () => {
  const { check } = world(
    policy(
      '  - { name: read, to: { hosts: [api.example.com] }, allow: {} }',
      'quotas: [{ name: few, key: [agent], limit: 10, window: 1m }]',
    ),
  );
  const decisions = await Promise.all(Array.from({ length: 1_000 }, () => check({})));
  const count = (kind: Decision['kind']): number =>
    decisions.filter((decision) => decision.kind === kind).length;
  expect([count('Allow'), count('QuotaExceeded')]).toEqual([10, 990]);
  const refused = decisions.find((decision) => decision.kind === 'QuotaExceeded');
  expect(refused).toMatchObject({ quota: 'few', limit: 10, used: 10 });
});

test('a rate refuses with RateLimited, a quota with QuotaExceeded', async () => {
  const { check } = world(
    policy(
      '  - { name: read, to: { hosts: [api.example.com] }, allow: {} }',
      'quotas: [{ name: slow, key: [], limit: 1, window: 1s, kind: rate }]',
    ),
  );
  await check({});
  expect(await check({})).toMatchObject({
    kind: 'RateLimited',
    quota: 'slow',
    retry_after: expect.any(Number),
  });
});

test('a call that provably did not leave is given back to its quota', async () => {
  const { check, checker } = world(
    policy(
      '  - { name: read, to: { hosts: [api.example.com] }, allow: {} }',
      'quotas: [{ name: one, key: [agent], limit: 1, window: 1m }]',
    ),
  );
  checker.settle(await check({}), 'NotSent');
  expect((await check({})).kind).toBe('Allow');
  expect((await check({})).kind).toBe('QuotaExceeded');
});

test('a decision that cannot be written down is a denial, and takes nothing', async () => {
  let full = true;
  const { check } = world(
    policy(
      '  - { name: read, to: { hosts: [api.example.com] }, allow: {} }',
      'quotas: [{ name: one, key: [agent], limit: 1, window: 1m }]',
    ),
    {
      journal: (real) => ({
        append: (record) => {
          if (full) throw new SallyportError('StateUnavailable', 'the disk is full');
          real.append(record);
        },
        tail: (limit) => real.tail(limit),
        find: (id) => real.find(id),
        close: () => real.close(),
      }),
    },
  );
  expect(codeOf(await check({}))).toBe('StateUnavailable');
  full = false;
  expect((await check({})).kind).toBe('Allow');
});

test('a held call is told to come back, and goes out once after approval', async () => {
  const { check, holds } = world(orders('0s'));
  const first = await check(order);
  expect(first).toMatchObject({ kind: 'RequiresOversight', policy_id: 'order', retryAfterMs: 5_000 });
  const again = await check(order);
  const hold = onlyHold(holds.list({ limit: 10 }));
  expect(again).toMatchObject({ kind: 'RequiresOversight', hold: hold.id });
  holds.approve(hold.id, 'dana', '');
  expect(await check(order)).toMatchObject({ kind: 'Allow', hold: hold.id });
  const next = await check(order);
  expect(next.kind).toBe('RequiresOversight');
  expect(next).not.toMatchObject({ hold: hold.id });
});

test('a waiting call goes out as soon as it is approved', async () => {
  const { check, holds } = world(orders('60s'));
  const waiting = check(order);
  await expect.poll(() => holds.list({ limit: 10 }).length).toBe(1);
  holds.approve(onlyHold(holds.list({ limit: 10 })).id, 'dana', '');
  expect((await waiting).kind).toBe('Allow');
});

test('of many identical calls that wait, one approval lets one out', async () => {
  const { check, holds } = world(orders('60s'));
  const waiting = Array.from({ length: 5 }, () => check(order));
  await expect.poll(() => holds.list({ limit: 10 }).length).toBe(1);
  holds.approve(onlyHold(holds.list({ limit: 10 })).id, 'dana', '');
  const kinds = (await Promise.all(waiting)).map((decision) => decision.kind).sort();
  expect(kinds).toEqual([
    'Allow',
    'RequiresOversight',
    'RequiresOversight',
    'RequiresOversight',
    'RequiresOversight',
  ]);
});

test.each([
  ['body', { body: { kind: 'whole', bytes: new TextEncoder().encode('{"n":2}') } }],
  ['path', { path: '/orders/2' }],
  ['query', { path: '/orders?n=2' }],
] as const)('an approval does not cover another %s', async (_, change) => {
  const { check, holds } = world(orders('0s'));
  await check(order);
  holds.approve(onlyHold(holds.list({ limit: 10 })).id, 'dana', '');
  expect((await check({ ...order, ...change })).kind).toBe('RequiresOversight');
});

test('a denial is told once, and the next request asks anew', async () => {
  const { check, holds } = world(orders('0s'));
  await check(order);
  holds.deny(onlyHold(holds.list({ limit: 10 })).id, 'lee', 'not today');
  expect(await check(order)).toMatchObject({
    kind: 'Deny',
    code: 'HoldDenied',
    reason: expect.stringContaining('not today'),
  });
  expect((await check(order)).kind).toBe('RequiresOversight');
});

test('a time-out is its own outcome', async () => {
  const { check, holds, clock, journal } = world(orders('0s'));
  await check(order);
  clock.pass(3_600_001);
  holds.expire();
  const decision = await check(order);
  expect(codeOf(decision)).toBe('HoldTimedOut');
  expect(journal.find(decision.id)).toMatchObject({ outcome: 'Timeout' });
});

test('a caller that goes away leaves its hold pending', async () => {
  const { check, holds } = world(orders('60s'));
  const caller = new AbortController();
  const waiting = check(order, caller.signal);
  await expect.poll(() => holds.list({ limit: 10 }).length).toBe(1);
  caller.abort();
  expect((await waiting).kind).toBe('RequiresOversight');
  expect(onlyHold(holds.list({ limit: 10 })).state).toBe('Pending');
});

test('an approval survives a reload where the same rule still decides', async () => {
  const { check, holds, load } = world(orders('0s'));
  await check(order);
  holds.approve(onlyHold(holds.list({ limit: 10 })).id, 'dana', '');
  load(`${orders('0s')}\n# another version of the file\n`);
  expect((await check(order)).kind).toBe('Allow');
});

test('an approval is worth nothing once its rule says something else', async () => {
  const { check, holds, load } = world(orders('0s'));
  await check(order);
  holds.approve(onlyHold(holds.list({ limit: 10 })).id, 'dana', '');
  load(orders('0s').replace('methods: [POST]', 'methods: [POST, PUT]'));
  expect((await check(order)).kind).toBe('RequiresOversight');
});

test('a call that waits is refused when the new policy forbids it', async () => {
  const { check, holds, load } = world(orders('60s'));
  const waiting = check(order);
  await expect.poll(() => holds.list({ limit: 10 }).length).toBe(1);
  load(`${orders('60s').trimEnd()}\n  - { name: never, to: { hosts: [api.example.com] }, forbid: {} }\n`);
  holds.approve(onlyHold(holds.list({ limit: 10 })).id, 'dana', '');
  expect(await waiting).toMatchObject({ kind: 'Deny', code: 'Forbidden', rule: 'never' });
});

test('a call whose name is still looked up does not pass under a policy that was replaced meanwhile', async () => {
  const raw = policy(
    '  - { name: raw, to: { hosts: [api.example.com], ports: [5432], inspect: tunnel }, allow: {} }',
  );
  const never = '  - { name: never, to: { hosts: [api.example.com] }, forbid: {} }';
  const connect = { stage: 'connect', method: 'CONNECT', scheme: '', path: '' } as const;
  for (const [before, call] of [
    [readable, { path: '/a' }],
    [raw, { ...connect, authority: 'api.example.com:5432' }],
  ] as const) {
    const { check, load } = world(before);
    const asked = check(call);
    load(`${before.trimEnd()}\n${never}\n`);
    expect(await asked).toMatchObject({ kind: 'Deny', code: 'Forbidden', rule: 'never' });
  }
});

test('a caller who is nobody under the policy that came meanwhile does not pass', async () => {
  const { check, load } = world(readable);
  const asked = check({ path: '/a' });
  load(readable.replaceAll('robot', 'other'));
  expect(codeOf(await asked)).toBe('InvalidAgent');
});

test('a request that a crash hid is told as unknown and not sent again', async () => {
  const { check, holds } = world(orders('0s'));
  await check(order);
  const hold = onlyHold(holds.list({ limit: 10 }));
  holds.approve(hold.id, 'dana', '');
  await check(order);
  holds.recover();
  expect(codeOf(await check(order))).toBe('HoldOutcomeUnknown');
  holds.settle(hold.id, 'NotSent', 'operator');
  expect((await check(order)).kind).toBe('RequiresOversight');
});

test('a held call pays its quota when it goes out, not while it waits', async () => {
  const { check, holds } = world(
    `${orders('0s')}quotas: [{ name: one, key: [agent], limit: 1, window: 1h }]\n`,
  );
  await check(order);
  await check(order);
  holds.approve(onlyHold(holds.list({ limit: 10 })).id, 'dana', '');
  expect(await check(order)).toMatchObject({ kind: 'Allow', quotas: [{ name: 'one', used: 1 }] });
});

test('a held call past its quota keeps its approval', async () => {
  const { check, holds, clock } = world(
    `${orders('0s')}quotas: [{ name: one, key: [agent], limit: 1, window: 1m }]\n`,
  );
  const other = { ...order, path: '/orders/2' };
  for (const call of [order, other]) await check(call);
  for (const hold of holds.list({ limit: 10 })) holds.approve(hold.id, 'dana', '');
  expect((await check(order)).kind).toBe('Allow');
  expect((await check(other)).kind).toBe('QuotaExceeded');
  clock.pass(120_000);
  expect((await check(other)).kind).toBe('Allow');
});

test('a CONNECT is intercepted where a rule reads requests, and passed unread where a rule says so', async () => {
  const { check } = world(
    policy(`  - { name: read, to: { hosts: [api.example.com], methods: [GET] }, allow: {} }
  - { name: raw, to: { hosts: [api.example.com], ports: [5432], inspect: tunnel }, allow: {} }
  - { name: blind, to: { hosts: [api.example.com], ports: [8443], inspect: sni }, allow: {} }`),
  );
  const connect = (authority: string) =>
    check({ stage: 'connect', method: 'CONNECT', scheme: '', path: '', authority });
  expect(await connect('api.example.com:443')).toMatchObject({
    kind: 'Allow',
    inspect: 'tls',
    pin: undefined,
  });
  expect(await connect('api.example.com:5432')).toMatchObject({
    kind: 'Allow',
    inspect: 'tunnel',
    rule: 'raw',
    pin: { port: 5432 },
  });
  expect(await connect('api.example.com:8443')).toMatchObject({
    kind: 'Allow',
    inspect: 'sni',
    rule: 'blind',
  });
  expect(codeOf(await connect('api.example.com:22'))).toBe('EgressDenied');
  const hello = { stage: 'tunnel', method: '', scheme: '', path: '', authority: '' } as const;
  const tunnel = { tunnelAgent: 'robot', tunnelProof: 'pod', tunnelAuthority: 'api.example.com:8443' };
  expect(await check({ ...hello, connection: { ...tunnel, sni: 'api.example.com' } })).toMatchObject({
    kind: 'Allow',
    inspect: 'sni',
  });
  expect(codeOf(await check({ ...hello, connection: { ...tunnel, sni: 'other.example.com' } }))).toBe(
    'DestinationMismatch',
  );
});

test('a rule in shadow mode is recorded and has no effect', async () => {
  const { check, journal } = world(
    policy(`  - { name: read, to: { hosts: [api.example.com] }, allow: {} }
  - { name: would, to: { hosts: [api.example.com], paths: [/private/**] }, forbid: {}, mode: shadow }`),
  );
  const decision = await check({ path: '/private/x' });
  expect(decision).toMatchObject({ kind: 'Allow', shadow: [{ rule: 'would', would: 'forbid' }] });
  expect(journal.find(decision.id)).toMatchObject({ shadow: [{ rule: 'would', would: 'forbid' }] });
});

test('a message that should have been read as MCP and was not is no reason to let it pass', async () => {
  const { check } = world(
    policy(`  - { name: any, to: { hosts: [api.example.com] }, allow: {} }
  - { name: no-delete, to: { hosts: [api.example.com], mcp: { methods: [tools/call], tools: [delete_*] } }, forbid: {} }`),
  );
  expect(await check({ method: 'POST', path: '/mcp' })).toMatchObject({ kind: 'Deny', code: 'Forbidden' });
  expect((await check({ path: '/mcp' })).kind).toBe('Allow');
  const search = { kind: 'call', method: 'tools/call', tool: 'search_docs' } as const;
  expect((await check({ method: 'POST', path: '/mcp', mcp: search })).kind).toBe('Allow');
});
