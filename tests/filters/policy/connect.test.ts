import { describe, expect, test } from 'vitest';
import { agentOf, compile, factsOf, tunnelTo } from './compiled-policy.ts';

const shadow = { mode: 'shadow' };
const sni = { name: 'sni', to: { hosts: ['**.example'], inspect: 'sni' }, allow: {} };
const tunnel = {
  name: 'tunnel',
  to: { hosts: ['**.example'], ports: [5432, 443], inspect: 'tunnel' },
  allow: {},
};
const read = { name: 'read', to: { hosts: ['a.example'], paths: ['/x'] }, allow: {} };
const forbid = { name: 'no', to: { hosts: ['a.example'] }, forbid: { reason: 'never' } };
const forbidPost = { name: 'no-post', to: { hosts: ['**'], methods: ['POST'] }, forbid: {} };

function connect(rules: object[], port = 443, host = 'a.example', agent = 'researcher'): string {
  const policy = compile({ rules });
  const verdict = policy.connect(agentOf(policy, agent), tunnelTo(host, port), 0);
  const shadows = 'shadow' in verdict ? verdict.shadow.map((one) => ` shadow:${one.rule}`).join('') : '';
  switch (verdict.kind) {
    case 'unread':
      return `${verdict.inspect} by ${verdict.verdict.rule}`;
    case 'forbid':
      return `forbid by ${verdict.verdict.rule}`;
    default:
      return `${verdict.kind}${shadows}`;
  }
}

describe('a CONNECT', () => {
  test.each<[string, object[], string]>([
    ['with no rule is refused', [], 'none'],
    ['is intercepted where a rule reads requests', [read], 'intercept'],
    ['is intercepted although a rule would pass it unread', [sni, read], 'intercept'],
    ['is passed by SNI', [sni], 'sni by sni'],
    ['is passed by SNI rather than raw', [tunnel, sni], 'sni by sni'],
    ['is passed raw', [tunnel], 'tunnel by tunnel'],
    ['is forbidden at once where nothing of a request is needed', [read, sni, forbid], 'forbid by no'],
    ['is not passed unread where a forbid must read first', [sni, forbidPost], 'intercept'],
    ['is not intercepted for a forbid alone', [forbidPost], 'none'],
    [
      'is intercepted for a hold',
      [{ name: 'h', to: { hosts: ['a.example'] }, hold: { approvers: 'one' } }],
      'intercept',
    ],
    ['is intercepted for a shadow rule that nothing else decides', [{ ...read, ...shadow }], 'intercept'],
    ['is as without a shadow rule', [sni, { ...read, ...shadow }, { ...forbid, ...shadow }], 'sni by sni'],
    ['tells a shadow rule that would pass it', [{ ...sni, ...shadow }], 'none shadow:sni'],
    ['is refused where the condition fails', [{ ...sni, when: 'agent.labels.team == "other"' }], 'none'],
    [
      'is passed where the condition holds',
      [{ ...sni, when: 'agent.labels.team == "search"' }],
      'sni by sni',
    ],
    [
      'is another agent’s',
      [
        { ...sni, agents: ['deployer'] },
        { ...read, agents: ['deployer'] },
      ],
      'none',
    ],
  ])('%s', (_, rules, expected) => expect(connect(rules)).toBe(expected));

  test('ports are those of the rule', () => {
    expect(connect([tunnel], 5432)).toBe('tunnel by tunnel');
    expect(connect([tunnel], 5433)).toBe('none');
    expect(connect([sni], 8443)).toBe('none');
    expect(connect([read], 80)).toBe('intercept');
    expect(connect([read], 8443)).toBe('none');
    expect(
      connect([{ ...forbid, to: { hosts: ['a.example'], ports: [5432], inspect: 'tunnel' } }, tunnel], 5432),
    ).toBe('forbid by no');
  });
});

test('inside an intercepted tunnel only rules that read decide', () => {
  const policy = compile({ rules: [sni, read] });
  expect(policy.evaluate(factsOf(policy, { host: 'a.example', path: '/x' }))).toMatchObject({
    kind: 'allow',
    rule: 'read',
  });
  expect(policy.evaluate(factsOf(policy, { host: 'a.example', path: '/y' }))).toMatchObject({ kind: 'none' });
});

test('a forbid forbids requests too, however it says that its host is inspected', () => {
  const policy = compile({ rules: [{ ...forbid, to: { hosts: ['a.example'], inspect: 'sni' } }, read] });
  expect(policy.evaluate(factsOf(policy, { host: 'a.example', path: '/x' }))).toMatchObject({
    kind: 'forbid',
  });
});

test('a destination that is not read is decided as its CONNECT is', () => {
  const policy = compile({
    rules: [{ ...tunnel, to: { ...tunnel.to, hosts: ['db.example'], internal: true } }, forbid],
  });
  const at = (host: string, port: number) =>
    policy.evaluate({ ...factsOf(policy), destination: tunnelTo(host, port) });
  expect(at('db.example', 5432)).toMatchObject({ kind: 'allow', rule: 'tunnel', internal: true });
  expect(at('a.example', 443)).toMatchObject({ kind: 'forbid', rule: 'no', reason: 'never' });
  expect(at('b.example', 443)).toMatchObject({ kind: 'none' });
});

test('certificates are minted only for hosts whose requests a rule reads', () => {
  const policy = compile({
    rules: [
      read,
      forbidPost,
      { name: 'm', to: { hosts: ['*.m.example'] }, allow: {} },
      { ...sni, to: { hosts: ['s.example'], inspect: 'sni' } },
    ],
  });
  expect(['a.example', 'x.m.example', 's.example'].map(policy.inspectable)).toEqual([true, true, true]);
  expect(['b.example', 'm.example', '192.0.2.1'].map(policy.inspectable)).toEqual([false, false, false]);
  expect(compile({ rules: [sni] }).inspectable('a.example')).toBe(false);
});
