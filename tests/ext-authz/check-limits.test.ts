import { expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import type { Decision } from '../../filters/decision.ts';
import type { Hold } from '../../filters/oversight/holds.ts';
import { someCall } from '../support/call.ts';
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

test('a request that would come back to the proxy is denied, also one that a person would be asked about', async () => {
  const inside = policy('  - { name: read, to: { hosts: [api.example.com] }, allow: {} }');
  for (const text of [inside, orders('0s')]) {
    const { check, holds } = world(text, {
      isOwn: ({ address, port }) => `${address}:${port}` === '93.184.215.14:443',
    });
    expect(codeOf(await check(order))).toBe('AddressDenied');
    expect(holds.list({ limit: 1 })).toEqual([]);
  }
});

test('one agent’s checks past its share are refused, another’s are not', async () => {
  const two = `version: 1
agents:
  robot: { identity: spiffe://example.org/robot }
  clerk: { identity: spiffe://example.org/clerk }
approvers: { people: { members: [dana] } }
rules:
  - { name: order, to: { hosts: [api.example.com], methods: [POST] }, hold: { approvers: people, wait: 20s } }
  - { name: read, to: { hosts: [api.example.com], methods: [GET] }, allow: {} }
`;
  const { check } = world(two);
  const gone = new AbortController();
  const waiting = Array.from({ length: limits.checksConcurrentPerAgentMax }, () => check(order, gone.signal));
  const clerk = { connection: { ...someCall().connection, peerSpiffeId: 'spiffe://example.org/clerk' } };
  expect(codeOf(await check({}))).toBe('Overloaded');
  expect(codeOf(await check(clerk))).toBe('Allow');
  gone.abort();
  await Promise.all(waiting);
  expect(codeOf(await check({}))).toBe('Allow');
});

test('checks past what all agents together may have are refused', async () => {
  const names = Array.from(
    { length: limits.checksConcurrentMax / limits.checksConcurrentPerAgentMax },
    (_, at) => `robot-${at}`,
  );
  const { check } = world(`version: 1
agents:
${names.map((name) => `  ${name}: { identity: spiffe://example.org/${name} }`).join('\n')}
  clerk: { identity: spiffe://example.org/clerk }
rules: [{ name: read, to: { hosts: [api.example.com] }, allow: {} }]
`);
  const as = (name: string): Promise<Decision> =>
    check({ connection: { ...someCall().connection, peerSpiffeId: `spiffe://example.org/${name}` } });
  const running = names.flatMap((name) =>
    Array.from({ length: limits.checksConcurrentPerAgentMax }, () => as(name)),
  );
  expect(codeOf(await as('clerk'))).toBe('Overloaded');
  expect(new Set((await Promise.all(running)).map(codeOf))).toEqual(new Set(['Allow']));
  expect(codeOf(await as('clerk'))).toBe('Allow');
});

test('an agent past its share of waiting calls is told to come back at once, another still waits', async () => {
  const two = `version: 1
agents:
  robot: { identity: spiffe://example.org/robot }
  clerk: { identity: spiffe://example.org/clerk }
approvers: { people: { members: [dana] } }
rules: [{ name: order, to: { hosts: [api.example.com], methods: [POST] }, hold: { approvers: people, wait: 20s } }]
`;
  const { check, holds } = world(two);
  const gone = new AbortController();
  const waiting = Array.from({ length: limits.holdsWaitingPerAgentMax }, () => check(order, gone.signal));
  await expect.poll(() => holds.list({ limit: 10 }).length).toBe(1);
  expect((await check(order)).kind).toBe('RequiresOversight');
  const clerk = { ...someCall().connection, peerSpiffeId: 'spiffe://example.org/clerk' };
  const other = check({ ...order, connection: clerk });
  await expect.poll(() => holds.list({ limit: 10 }).length).toBe(2);
  const [ofClerk] = holds.list({ limit: 1 });
  if (ofClerk !== undefined) holds.approve(ofClerk.id, 'dana', '');
  expect(await other).toMatchObject({ kind: 'Allow', agent: { name: 'clerk' } });
  gone.abort();
  await Promise.all(waiting);
});

test('an upgrade is refused before anybody is asked, whoever asks for it', async () => {
  for (const via of ['envoy', 'embedded', 'authzen'] as const) {
    const { check, holds } = world(orders('0s'));
    expect(codeOf(await check({ ...order, via, headers: { upgrade: 'websocket' } }))).toBe(
      'ProtocolNotAllowed',
    );
    expect(holds.list({ limit: 1 })).toEqual([]);
  }
});

test('an upgrade is refused where MCP or bodies are read, and passes elsewhere', async () => {
  const upgrade = { headers: { upgrade: 'websocket' } };
  const { check, load } = world(readable);
  expect((await check(upgrade)).kind).toBe('Allow');
  const reading = (rule: string): string => `${readable.trimEnd()}\n  - ${rule}\n`;
  load(reading('{ name: tool, to: { hosts: [api.example.com], mcp: { tools: [x] } }, forbid: {} }'));
  expect(codeOf(await check(upgrade))).toBe('ProtocolNotAllowed');
  expect((await check({ headers: { upgrade: 'h2c' } })).kind).toBe('Allow');
  load(reading('{ name: big, to: { hosts: [api.example.com] }, when: request.body_bytes > 5, forbid: {} }'));
  expect(codeOf(await check(upgrade))).toBe('ProtocolNotAllowed');
});

test('an approved call whose message was not read is not passed by a new policy that reads it', async () => {
  const { check, holds, load } = world(orders('60s'));
  const waiting = check(order);
  await expect.poll(() => holds.list({ limit: 10 }).length).toBe(1);
  load(
    `${orders('60s').trimEnd()}\n  - { name: never, to: { hosts: [api.example.com], mcp: { tools: [drop] } }, forbid: {} }\n`,
  );
  holds.approve(onlyHold(holds.list({ limit: 10 })).id, 'dana', '');
  expect(codeOf(await waiting)).not.toBe('Allow');
});
