/** What a lease may stand for: no request that it covers may be one that the policy says something else of. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { canonicalDestination } from '../../../filters/egress/canonical.ts';
import type { Body, Destination, McpCall } from '../../../filters/facts.ts';
import { inRegion } from '../../../filters/policy/lease-region.ts';
import { someCall } from '../../support/call.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { compile, factsOf } from './compiled-policy.ts';

const segment = fc.constantFrom('a', 'a', 'b', 'b', '*', '**', '', 'x%3Ay', 'x:y');
const pattern = fc.array(segment, { minLength: 1, maxLength: 4 }).map((segments) => `/${segments.join('/')}`);
const some = (...values: string[]): fc.Arbitrary<string[]> => fc.subarray(values, { minLength: 1 });
const mcp = fc.record(
  { methods: some('tools/call', 'tools/*'), tools: some('x', 'y*') },
  { requiredKeys: [] },
);
const rare = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.oneof({ weight: 5, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary });
const place = fc.record({
  hosts: fc.constantFrom(['a.example'], ['*.example'], ['**']),
  schemes: rare(some('http', 'https')),
  ports: rare(fc.constantFrom([443], [80, 443], [8443])),
  methods: rare(some('GET', 'POST')),
  paths: fc.option(fc.array(pattern, { minLength: 1, maxLength: 2 }), { nil: undefined, freq: 5 }),
  mcp: rare(mcp),
});
const when = rare(
  fc.constantFrom(
    'agent.labels.team == "search"',
    'destination.host == "other.example"',
    'agent.labels.none == "x"',
    'now > timestamp("2026-03-04T12:00:00Z")',
    'request.query == "q=1"',
    '"x-a" in request.headers',
    'request.json.x == 1',
    'request.path == "/a/b"',
    'request.mcp.tool == "x"',
  ),
);
const outcome = fc.constantFrom<object>(
  { allow: {} },
  { allow: {} },
  { allow: {} },
  { hold: { approvers: 'one' } },
  { forbid: {} },
);
const rules = fc
  .array(
    fc.tuple(
      fc.record({
        agents: rare(fc.constantFrom(['researcher'], ['deployer'])),
        to: place,
        internal: fc.boolean(),
        when,
        mode: fc.constantFrom('enforce', 'enforce', 'shadow'),
      }),
      outcome,
    ),
    { maxLength: 4 },
  )
  .map((list) =>
    list.map(([{ internal, to, ...rule }, what], index) => ({
      // Names are what ties are broken by: later rules may come first.
      name: `r${9 - index}`,
      ...rule,
      to: { ...to, internal: internal && to.hosts.every((name) => !name.includes('*')) },
      ...what,
    })),
  );
/** One that lets much pass, so that there is something to lease. */
const open = fc.constantFrom(
  [{ name: 'r6x', to: { hosts: ['**'] }, allow: {} }],
  [{ name: 'z', to: { hosts: ['**'], paths: ['/**'] }, allow: {} }],
  [{ name: 'a', to: { hosts: ['**'], paths: ['/a/**', '/b/*/**', '/a'] }, allow: {} }],
  [],
);
const quotas = fc
  .array(
    fc.record({
      agents: rare(fc.constantFrom(['researcher'], ['deployer'])),
      rules: rare(some('r6x', 'z', 'a', 'r9', 'r8')),
      to: fc.option(place, { nil: undefined, freq: 5 }),
      key: fc.subarray(['agent', 'host', 'rule']),
    }),
    { maxLength: 2 },
  )
  .map((list) =>
    list.map((quota, index) => ({ name: `q${index}`, ...quota, limit: 10, window: '1h', kind: 'quota' })),
  );

const word = fc.constantFrom(
  'a',
  'b',
  'c',
  'v1',
  'A',
  '',
  'x:y',
  'x%3Ay',
  '%61',
  '.',
  '..',
  'a;b',
  '*',
  'z',
  'a|b',
  '\\',
);
const path = fc
  .array(
    fc.oneof({ weight: 9, arbitrary: fc.constantFrom('a', 'a', 'b', 'ab') }, { weight: 1, arbitrary: word }),
    {
      minLength: 1,
      maxLength: 5,
    },
  )
  .map((segments) => `/${segments.join('/')}`);
const request = fc.record({
  path: fc.oneof(
    path,
    fc.string({ maxLength: 6 }).map((text) => `/a/${text}`),
  ),
  query: fc.constantFrom('', '', '', '?', '?q=1', '?a=%2e%2e/', '?a?b', '?a#b', '?\u{e9}'),
  headers: fc.constantFrom<Record<string, string>>({}, { 'x-a': '1' }),
  body: fc.constantFrom<Body>(
    { kind: 'unread' },
    { kind: 'whole', bytes: new TextEncoder().encode('{"x":1}') },
    { kind: 'too-large', limitBytes: 1 },
  ),
  mcp: fc.constantFrom<McpCall>(
    { kind: 'none' },
    { kind: 'invalid', reason: 'a batch' },
    { kind: 'call', method: 'tools/call', tool: 'x' },
    { kind: 'call', method: 'tools/list', tool: '' },
  ),
  nowMs: fc.constantFrom(Date.parse('2026-03-04T11:00:00Z'), Date.parse('2026-03-04T13:00:00Z')),
});
type Request = typeof request extends fc.Arbitrary<infer Value> ? Value : never;

const origin = fc.constantFrom(
  { scheme: 'https', authority: 'a.example', method: 'GET' },
  { scheme: 'https', authority: 'a.example', method: 'GET' },
  { scheme: 'https', authority: 'a.example', method: 'POST' },
  { scheme: 'http', authority: 'other.example', method: 'GET' },
  { scheme: 'https', authority: 'a.example:8443', method: 'GET' },
);
type Origin = typeof origin extends fc.Arbitrary<infer Value> ? Value : never;

/** The destination as the check would have it; undefined where it refuses the spelling. */
function sent(at: Origin, { path: raw, query, mcp: call }: Request): Destination | undefined {
  try {
    return canonicalDestination(someCall({ ...at, path: `${raw}${query}`, mcp: call }));
  } catch {
    return undefined;
  }
}

const requests = fc.array(request, { minLength: 1, maxLength: 40 });

test('all requests of a region have one verdict, one rule and the same debits', () => {
  let leased = 0;
  let compared = 0;
  fc.assert(
    fc.property(rules, open, quotas, origin, request, requests, (list, more, counted, at, first, others) => {
      const names = new Set([...list, ...more].map((rule) => rule.name));
      const policy = compile({
        rules: [...list, ...more],
        quotas: counted.filter((quota) => quota.rules?.every((name) => names.has(name)) !== false),
      });
      const destination = sent(at, first);
      if (destination === undefined) return;
      const { headers, body, nowMs } = first;
      const facts = factsOf(policy, destination, { headers, body, nowMs });
      const verdict = policy.evaluate(facts);
      if (verdict.kind !== 'allow') return;
      const region = policy.leaseRegion(facts.agent, destination, verdict.rule);
      if ('why' in region) return;
      leased += 1;
      expect(inRegion(region, destination.path)).toBe(true);
      for (const other of others) {
        if (!inRegion(region, `${other.path}${other.query}`)) continue;
        compared += 1;
        const there = sent(at, other);
        // What is in a region is never refused for how it is spelt, and is matched as it is spelt.
        expect(there?.path).toBe(other.path.split('?', 1)[0]);
        if (there === undefined) return;
        const late = factsOf(policy, there, {
          headers: other.headers,
          body: other.body,
          nowMs: other.nowMs,
        });
        expect(policy.evaluate(late)).toEqual(verdict);
        expect(policy.debits(late, verdict.rule)).toEqual(policy.debits(facts, verdict.rule));
      }
    }),
    { ...fuzzRuns, numRuns: 2_000 },
  );
  // A region that is never granted would pass everything above.
  expect(leased).toBeGreaterThan(200);
  expect(compared).toBeGreaterThan(500);
});

describe('which paths are in a region', () => {
  const under = { methods: 'this', prefix: '/v1/', exact: false } as const;
  const exactly = { methods: 'this', prefix: '/v1/a', exact: true } as const;
  test.each([
    '/v1/',
    '/v1/a',
    '/v1/a/b/',
    '/v1/a?q=1',
    '/v1/a?',
    '/v1/a?x=%2e%2e/;|\\',
    '/v1/.a/..b',
    '/v1/x:run',
  ])('%s is', (target) => expect(inRegion(under, target)).toBe(true));
  test.each([
    '/v1',
    '/v1?x',
    '/v2/',
    'v1/',
    '/V1/',
    '/v1//a',
    '/v1/a//',
    '/v1/./a',
    '/v1/../a',
    '/v1/..',
    '/v1/.',
    '/v1/%61',
    '/v1/a;b',
    '/v1/a\\b',
    '/v1/a|b',
    '/v1/\u{e9}',
    '/v1/a b',
    '/v1/a\n',
    '/v1/a#b',
    '/v1/a?b#c',
    '/v1/a?b c',
    '/v1/*',
    '/v1/a?\u{e9}',
    '*',
    '',
  ])('%s is not', (target) => expect(inRegion(under, target)).toBe(false));
  test('one that is longer than the check reads is not', () => {
    const room = limits.pathBytesMax - '/v1/'.length;
    expect(inRegion(under, `/v1/${'a'.repeat(room)}`)).toBe(true);
    expect(inRegion(under, `/v1/${'a'.repeat(room + 1)}`)).toBe(false);
  });
  test('one path alone', () => {
    expect(inRegion(exactly, '/v1/a')).toBe(true);
    expect(inRegion(exactly, '/v1/a?b')).toBe(true);
    expect(inRegion(exactly, '/v1/a/')).toBe(false);
    expect(inRegion(exactly, '/v1/ab')).toBe(false);
  });
});
