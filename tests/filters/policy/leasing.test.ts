/** How wide the requests are that one lease may stand for, and where there are none. */
import { describe, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import type { RuleName } from '../../../filters/common/brand.ts';
import type { Destination } from '../../../filters/facts.ts';
import type { LeaseScope } from '../../../filters/policy/lease-region.ts';
import { agentOf, compile, destinationOf } from './compiled-policy.ts';

type Parts = Readonly<{ rules: readonly object[]; quotas?: readonly object[] }>;
const host = { hosts: ['api.github.com'] };
const pass = { name: 'pass', to: host, allow: {} };

/** In short: `/v1/*`, `=/v1/a`, or why not. */
function region(parts: Parts, changes: Partial<Destination> = {}, rule = 'pass'): string {
  const policy = compile(parts);
  const scope: LeaseScope = policy.leaseRegion(agentOf(policy), destinationOf(changes), rule as RuleName);
  if ('why' in scope) return scope.why;
  return scope.exact ? `=${scope.prefix}` : `${scope.prefix}*`;
}

describe('how wide a region is', () => {
  const path = '/repos/a/b/issues';
  test.each<[string, Parts, string]>([
    ['nothing but hosts', { rules: [pass] }, '/*'],
    ['a tree', { rules: [{ ...pass, to: { ...host, paths: ['/repos/**'] } }] }, '/repos/*'],
    ['one segment free', { rules: [{ ...pass, to: { ...host, paths: ['/repos/*/b/**'] } }] }, '/repos/a/b/*'],
    ['any depth', { rules: [{ ...pass, to: { ...host, paths: ['/**/b/**'] } }] }, '/repos/a/b/*'],
    ['a list of paths', { rules: [{ ...pass, to: { ...host, paths: [path, '/x'] } }] }, `=${path}`],
    [
      'a forbid beside it',
      { rules: [pass, { name: 'f', to: { ...host, paths: ['/admin/**'] }, forbid: {} }] },
      '/repos/*',
    ],
    [
      'a forbid of the parent',
      { rules: [pass, { name: 'f', to: { ...host, paths: ['/repos/a'] }, forbid: {} }] },
      '/repos/a/b/*',
    ],
    [
      'a hold of a sibling',
      {
        rules: [
          pass,
          { name: 'h', to: { ...host, paths: ['/repos/a/b/pulls'] }, hold: { approvers: 'one' } },
        ],
      },
      `=${path}`,
    ],
    [
      'a forbid anywhere below',
      { rules: [pass, { name: 'f', to: { ...host, paths: ['/**/secret'] }, forbid: {} }] },
      `=${path}`,
    ],
    [
      'a forbid two below any sibling',
      { rules: [pass, { name: 'f', to: { ...host, paths: ['/repos/a/b/*/x'] }, forbid: {} }] },
      `=${path}`,
    ],
    [
      'a forbid of another method',
      { rules: [pass, { name: 'f', to: { ...host, methods: ['POST'] }, forbid: {} }] },
      '/*',
    ],
    [
      'a forbid for another agent',
      { rules: [pass, { name: 'f', agents: ['deployer'], to: host, forbid: {} }] },
      '/*',
    ],
    [
      'a shadow rule of a path',
      { rules: [pass, { name: 'f', mode: 'shadow', to: { ...host, paths: ['/admin'] }, forbid: {} }] },
      '/repos/*',
    ],
    [
      'a weaker allow with a condition',
      { rules: [pass, { name: 'q', to: host, when: 'request.query == ""', allow: {} }] },
      '/*',
    ],
    [
      'a condition on a sibling',
      {
        rules: [
          pass,
          { name: 'f', to: { ...host, paths: ['/admin/**'] }, when: 'request.query != ""', forbid: {} },
        ],
      },
      '/repos/*',
    ],
    [
      'MCP on a sibling',
      { rules: [pass, { name: 'f', to: { ...host, paths: ['/mcp'], mcp: {} }, forbid: {} }] },
      '/repos/*',
    ],
    ['a condition on the agent', { rules: [{ ...pass, when: 'agent.labels.team == "search"' }] }, '/*'],
    [
      'a forbid for other agents by label',
      { rules: [pass, { name: 'f', to: host, when: 'agent.labels.team != "search"', forbid: {} }] },
      '/*',
    ],
    [
      'a quota of a path',
      { rules: [pass], quotas: [{ name: 'n', to: { paths: ['/repos/**'] }, limit: 1, window: '1h' }] },
      '/repos/*',
    ],
    [
      'a quota of every path',
      { rules: [pass], quotas: [{ name: 'n', key: ['host', 'agent', 'rule'], limit: 1, window: '1h' }] },
      '/*',
    ],
    [
      'a quota of another rule',
      {
        rules: [pass, { ...pass, name: 'z' }],
        quotas: [{ name: 'n', rules: ['z'], to: { paths: ['/repos/a/b/*'] }, limit: 1, window: '1h' }],
      },
      '/*',
    ],
  ])('%s', (_, parts, expected) => expect(region(parts, { path })).toBe(expected));

  test('of thousands of rules beside a path only so many are looked at, and the region is then smaller', () => {
    const beside = (count: number): Parts => ({
      rules: [
        pass,
        // Weaker by name, so that none of them changes anything.
        ...Array.from({ length: count }, (_, index) => ({
          name: `z${index}`,
          to: { ...host, paths: [`/p${index}/x`] },
          allow: {},
        })),
      ],
    });
    const at = { path: '/p1/a/b' };
    expect(region(beside(limits.leaseNeighboursMax), at)).toBe('/*');
    expect(region(beside(limits.leaseNeighboursMax + 2), at)).toBe('/p1/*');
    expect(region(beside(limits.leaseNeighboursMax + 2), { path: '/p1' })).toBe('=/p1');
  });

  test('a directory with its slash is its own region', () => {
    const parts = { rules: [pass, { name: 'f', to: { ...host, paths: ['/x'] }, forbid: {} }] };
    expect(region(parts, { path: '/repos/' })).toBe('/repos/*');
    // `/repos/` is read as `/repos` too, which nothing here is about.
    expect(region({ rules: [{ ...pass, to: { ...host, paths: ['/repos/'] } }] }, { path: '/repos/' })).toBe(
      '=/repos/',
    );
  });
});

describe('what is never leased', () => {
  const forbid = (more: object): object => ({ name: 'f', to: host, ...more, forbid: {} });
  test.each<[string, Parts, string]>([
    [
      'a hold',
      { rules: [{ name: 'pass', to: host, hold: { approvers: 'one' } }] },
      'rule pass asks a person about each request',
    ],
    [
      'a condition on the request',
      { rules: [{ ...pass, when: 'request.query == ""' }] },
      'rule pass has a condition that reads the request or the time',
    ],
    [
      'a condition on the time',
      { rules: [{ ...pass, when: 'now.getHours() < 24' }] },
      'rule pass has a condition that reads the request or the time',
    ],
    ['MCP', { rules: [{ ...pass, to: { ...host, mcp: {} } }] }, 'rule pass reads the MCP message'],
    [
      'connections passed unread',
      { rules: [{ ...pass, to: { ...host, inspect: 'sni' } }] },
      'rule pass passes connections unread (inspect: sni), which are checked once each',
    ],
    ['a shadow rule', { rules: [{ ...pass, mode: 'shadow' }] }, 'rule pass lets nothing pass'],
    [
      'a rule that forbids',
      { rules: [{ name: 'pass', to: host, forbid: {} }] },
      'rule pass lets nothing pass',
    ],
    ['no such rule', { rules: [] }, 'the policy has no rule pass'],
    [
      'another host',
      { rules: [{ ...pass, to: { hosts: ['x.example'] } }] },
      'rule pass does not match this request',
    ],
    [
      'a forbid with a condition',
      { rules: [pass, forbid({ when: 'request.query == "x"' })] },
      'rule f could forbid some of them: it reads the request or the time',
    ],
    [
      'a forbid by the hour',
      { rules: [pass, forbid({ when: 'now.getHours() > 22' })] },
      'rule f could forbid some of them: it reads the request or the time',
    ],
    [
      'a hold by tool',
      { rules: [pass, { name: 'h', to: { ...host, mcp: {} }, hold: { approvers: 'one' } }] },
      'rule h could hold some of them: it reads the MCP message',
    ],
    [
      'a shadow forbid with a condition',
      { rules: [pass, forbid({ mode: 'shadow', when: 'request.query == "x"' })] },
      'rule f could forbid some of them: it reads the request or the time',
    ],
    [
      'an allow that would be named instead',
      { rules: [pass, { name: 'a', to: host, when: 'request.query == ""', allow: {} }] },
      'rule a could allow some of them: it reads the request or the time',
    ],
    [
      'an allow that would open internal addresses',
      {
        rules: [pass, { name: 'z', to: { ...host, internal: true }, when: 'request.query == ""', allow: {} }],
      },
      'rule z could allow some of them: it reads the request or the time',
    ],
    ['a rule that decides instead', { rules: [pass, forbid({})] }, 'rule f decides this request'],
    [
      'a quota by tool',
      { rules: [pass], quotas: [{ name: 'n', to: { mcp: {} }, limit: 1, window: '1h' }] },
      'quota n counts by the MCP message',
    ],
  ])('%s', (_, parts, expected) => expect(region(parts)).toBe(expected));

  test('a tunnel', () => {
    expect(region({ rules: [pass] }, { scheme: 'tcp', method: 'CONNECT', path: '' })).toBe(
      'connections passed unread are checked once each',
    );
  });

  test.each(['/a%2Cb', '/a//b', '//', '/a;b', '/*', '/a%7Cb', ''])('the path %s', (path) => {
    expect(region({ rules: [pass] }, { path })).toBe(
      'the path has a character or an empty segment that servers may read in two ways',
    );
  });
});
