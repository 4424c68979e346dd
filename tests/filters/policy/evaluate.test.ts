import { describe, expect, test } from 'vitest';
import { compile, decided, factsOf, issuesOf } from './compiled-policy.ts';

const to = { hosts: ['github'] };
const allow = { name: 'a-allow', to, allow: {} };
const hold = { name: 'b-hold', to, hold: { approvers: 'maintainers' } };
const forbid = { name: 'c-forbid', to, forbid: { reason: 'never' } };

describe('the strongest outcome wins', () => {
  test.each([
    [[allow], 'allow by a-allow'],
    [[allow, hold], 'hold by b-hold'],
    [[hold, allow], 'hold by b-hold'],
    [[forbid, allow, hold], 'forbid by c-forbid'],
    [[allow, hold, forbid], 'forbid by c-forbid'],
    [[], 'none'],
  ])('%#: %s', (rules, expected) => {
    const policy = compile({ rules });
    expect(decided(policy, factsOf(policy))).toBe(expected);
  });

  test('the verdict carries what its outcome needs', () => {
    const policy = compile({
      rules: [
        {
          name: 'h',
          to,
          hold: { approvers: 'maintainers', wait: '5s', timeout: '2h', reason: 'look first' },
        },
      ],
    });
    expect(policy.evaluate(factsOf(policy))).toEqual({
      kind: 'hold',
      rule: 'h',
      ruleDigest: expect.stringMatching(/^[0-9a-f]{64}$/),
      reason: 'look first',
      approvers: 'maintainers',
      quorum: 2,
      members: ['dana', 'lee', 'sam'],
      notRequester: true,
      waitMs: 5_000,
      timeoutMs: 7_200_000,
      internal: false,
      shadow: [],
    });
  });

  test('among equals the smallest name is reported, among holds the highest quorum first', () => {
    const policy = compile({
      rules: [
        { name: 'z', to, hold: { approvers: 'maintainers' } },
        { name: 'y', to, hold: { approvers: 'maintainers' } },
        { name: 'a', to, hold: { approvers: 'one' } },
        { name: 'n', to: { hosts: ['x.example'] }, allow: {} },
        { name: 'm', to: { hosts: ['x.example'] }, allow: {} },
      ],
    });
    expect(decided(policy, factsOf(policy))).toBe('hold by y');
    expect(decided(policy, factsOf(policy, { host: 'x.example' }))).toBe('allow by m');
  });

  test('internal comes from any matching rule that lets the request pass', () => {
    const policy = compile({
      rules: [
        { name: 'a', to: { hosts: ['db.example'] }, allow: {} },
        { name: 'b', to: { hosts: ['db.example'], internal: true }, allow: {} },
        { name: 'c', to: { hosts: ['db.example'], methods: ['POST'] }, hold: { approvers: 'one' } },
      ],
    });
    expect(policy.evaluate(factsOf(policy, { host: 'db.example' }))).toMatchObject({
      kind: 'allow',
      rule: 'a',
      internal: true,
    });
    expect(policy.evaluate(factsOf(policy, { host: 'db.example', method: 'POST' }))).toMatchObject({
      kind: 'hold',
      internal: true,
    });
  });
});

describe('dimensions', () => {
  const policy = compile({
    rules: [
      { name: 'ports', to: { hosts: ['ports.example'], ports: [8443] }, allow: {} },
      { name: 'plain', to: { hosts: ['plain.example'], schemes: ['http'] }, allow: {} },
      { name: 'agent', agents: ['deployer'], to: { hosts: ['agent.example'] }, allow: {} },
      { name: 'both', to: { hosts: ['both.example'] }, allow: {} },
      { name: 'unread', to: { hosts: ['unread.example'], inspect: 'sni' }, allow: {} },
      { name: 'address', to: { hosts: ['192.0.2.1', '**'], paths: ['/x'] }, allow: {} },
      { name: 'no-slash', to: { hosts: ['slash.example'], paths: ['/gists/**', '/one'] }, forbid: {} },
      { name: 'slash', to: { hosts: ['slash.example'], paths: ['/**'] }, allow: {} },
      { name: 'exact', to: { hosts: ['exact.example'], paths: ['/one'] }, allow: {} },
    ],
  });
  const at = (changes: Parameters<typeof factsOf>[1], agent?: string): string =>
    decided(policy, factsOf(policy, changes, agent === undefined ? {} : { agent }));

  test('without ports only 80 for http and 443 for https match', () => {
    expect(at({ host: 'both.example' })).toBe('allow by both');
    expect(at({ host: 'both.example', scheme: 'http', port: 80 })).toBe('allow by both');
    expect(at({ host: 'both.example', scheme: 'http', port: 443 })).toBe('none');
    expect(at({ host: 'both.example', port: 80 })).toBe('none');
    expect(at({ host: 'both.example', port: 8443 })).toBe('none');
  });
  test('a forbid without ports covers every port', () => {
    const open = { name: 'open', to: { hosts: ['**'], ports: [8443] }, allow: {} };
    const never = { name: 'never', to: { hosts: ['evil.example'] }, forbid: {} };
    const closed = compile({ rules: [open, never] });
    expect(decided(closed, factsOf(closed, { host: 'evil.example', port: 8443 }))).toBe('forbid by never');
  });
  test.each(['/v1/x%3Arun', '//v1//x:run', '/v1/x:run'])('a forbidden path is not reached as %s', (path) => {
    const open = { name: 'open', to: { hosts: ['a.example'] }, allow: {} };
    const never = { name: 'never', to: { hosts: ['a.example'], paths: ['/v1/x:run'] }, forbid: {} };
    const closed = compile({ rules: [open, never] });
    expect(decided(closed, factsOf(closed, { host: 'a.example', path }))).toBe('forbid by never');
  });
  test('with ports only those match', () => {
    expect(at({ host: 'ports.example', port: 8443 })).toBe('allow by ports');
    expect(at({ host: 'ports.example' })).toBe('none');
  });
  test('schemes and agents are compared', () => {
    expect(at({ host: 'plain.example', scheme: 'http', port: 80 })).toBe('allow by plain');
    expect(at({ host: 'plain.example' })).toBe('none');
    expect(at({ host: 'agent.example' })).toBe('none');
    expect(at({ host: 'agent.example' }, 'deployer')).toBe('allow by agent');
  });
  test('a rule that passes bytes unread never matches a request that is read', () => {
    expect(at({ host: 'unread.example' })).toBe('none');
  });
  test('an address is allowed only where a rule spells it', () => {
    expect(at({ host: '192.0.2.1', hostIsAddress: true, path: '/x' })).toBe('allow by address');
    expect(at({ host: '192.0.2.2', hostIsAddress: true, path: '/x' })).toBe('none');
  });
  test('repeated and trailing slashes do not evade what forbids, nor widen what allows', () => {
    for (const path of ['/gists', '/gists/', '//gists/a', '/gists//a', '/one/', '//one'])
      expect(at({ host: 'slash.example', path })).toBe('forbid by no-slash');
    expect(at({ host: 'slash.example', path: '/two' })).toBe('allow by slash');
    expect(at({ host: 'exact.example', path: '/one' })).toBe('allow by exact');
    expect(at({ host: 'exact.example', path: '/one/' })).toBe('none');
    expect(at({ host: 'exact.example', path: '//one' })).toBe('none');
  });
});

describe('MCP', () => {
  const policy = compile({
    rules: [
      {
        name: 'tools',
        to: { hosts: ['m.example'], mcp: { methods: ['tools/call'], tools: ['search_*'] } },
        allow: {},
      },
      {
        name: 'list',
        to: { hosts: ['m.example'], mcp: { methods: ['tools/list', 'notifications/*'] } },
        allow: {},
      },
      { name: 'drop', to: { hosts: ['m.example', 'n.example'], mcp: { tools: ['drop'] } }, forbid: {} },
      { name: 'rest', to: { hosts: ['n.example'] }, allow: {} },
    ],
  });
  const call = (method: string, tool = '', host = 'm.example'): string =>
    decided(policy, factsOf(policy, { host, mcp: { kind: 'call', method, tool } }));
  const other = (kind: 'none' | 'invalid', host: string): string =>
    decided(policy, factsOf(policy, { host, mcp: kind === 'none' ? { kind } : { kind, reason: 'a batch' } }));

  test('methods and tools are exact or end in *', () => {
    expect(call('tools/call', 'search_web')).toBe('allow by tools');
    expect(call('tools/call', 'research_web')).toBe('none');
    expect(call('tools/call', 'drop')).toBe('forbid by drop');
    expect(call('tools/list')).toBe('allow by list');
    expect(call('notifications/initialized')).toBe('allow by list');
    expect(call('resources/list')).toBe('none');
  });
  test('what is no strict message is never allowed by such a rule and always caught by one that restricts', () => {
    expect(other('none', 'm.example')).toBe('none');
    expect(other('invalid', 'm.example')).toBe('forbid by drop');
    expect(other('none', 'n.example')).toBe('allow by rest');
    expect(other('invalid', 'n.example')).toBe('forbid by drop');
  });
});

describe('shadow mode', () => {
  const shadow = (rule: object): object => ({ ...rule, mode: 'shadow' });
  test.each([
    [[allow, shadow(forbid)], 'allow', [{ rule: 'c-forbid', would: 'forbid' }]],
    [[forbid, shadow(allow), shadow(hold)], 'forbid', []],
    [[hold, shadow({ ...allow, name: 'x' })], 'hold', []],
    [
      [shadow(allow), shadow(hold)],
      'none',
      [
        { rule: 'b-hold', would: 'hold' },
        { rule: 'a-allow', would: 'allow' },
      ],
    ],
  ])('%#: reported only where it would change the outcome', (rules, kind, reported) => {
    const policy = compile({ rules });
    expect(policy.evaluate(factsOf(policy))).toMatchObject({ kind, shadow: reported });
  });
  test('internal of a shadow rule is without effect', () => {
    const internal = {
      name: 'i',
      to: { hosts: ['api.github.com'], internal: true },
      allow: {},
      mode: 'shadow',
    };
    const policy = compile({ rules: [allow, internal] });
    expect(policy.evaluate(factsOf(policy))).toMatchObject({ kind: 'allow', internal: false });
  });
});

describe('the digest of a rule', () => {
  const digest = (parts: object): string => {
    const policy = compile(parts);
    const verdict = policy.evaluate(factsOf(policy));
    return verdict.kind === 'none' ? 'none' : verdict.ruleDigest;
  };
  const rules = [hold];
  test('stays where other rules change or its keys are written in another order', () => {
    expect(digest({ rules: [allow, hold] })).toBe(digest({ rules }));
    expect(digest({ rules: [{ hold: hold.hold, to, name: hold.name }] })).toBe(digest({ rules }));
  });
  test('changes with the rule, its host group and its approvers', () => {
    expect(digest({ rules: [{ ...hold, when: 'true' }] })).not.toBe(digest({ rules }));
    expect(digest({ rules, hosts: { github: ['api.github.com'] } })).not.toBe(digest({ rules }));
    expect(digest({ rules, approvers: { maintainers: { members: ['dana'] } } })).not.toBe(digest({ rules }));
  });
});

test('everything that is wrong is told at once and at its place', () => {
  expect(
    issuesOf({
      agents: {
        a: { identity: 'spiffe://x.example/a', users: ['nobody-here', 1001] },
        b: { identity: 'spiffe://x.example/b', users: ['research'] },
      },
      hosts: { group: ['ok.example', 'not/ok'] },
      routes: { '/x': { upstream: 'https://127.1/' } },
      rules: [
        { name: 'one', to: { hosts: ['a*.example.org'], paths: ['/a*'] }, allow: {} },
        { name: 'two', to: { hosts: ['x.example'] }, when: 'request.methodd == "GET"', allow: {} },
        {
          name: 'three',
          to: { hosts: ['x.example'], inspect: 'sni', schemes: ['http'] },
          when: 'request.method == "GET"',
          allow: {},
        },
      ],
      quotas: [{ name: 'q', to: { hosts: ['x.example:443'] }, limit: 1, window: '1m' }],
    }).map((issue) => issue.replace(/: expected.*/s, '')),
  ).toEqual(
    expect.arrayContaining([
      'agents.a.users[0]',
      'agents.b.users[0]',
      'hosts.group[1]',
      'rules[0].to.hosts[0]',
      'rules[0].to.paths[0]',
      'rules[1].when',
      'rules[2].to.schemes',
      'rules[2].when',
      'quotas[0].to.hosts[0]',
    ]),
  );
});

test('an invalid pattern names its line', () => {
  const text = issuesOf({ rules: [{ name: 'one', to: { hosts: ['a*.example.org'] }, allow: {} }] });
  expect(text).toEqual([
    'rules[0].to.hosts[0]: expected `*` or `**` as a whole label; found "a*" in "a*.example.org"',
  ]);
});
