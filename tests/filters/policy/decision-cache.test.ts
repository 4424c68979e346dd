/** A cached answer is always the one that the policy would give now. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import type { Agent } from '../../../filters/facts.ts';
import type { CompiledPolicy, RequestFacts } from '../../../filters/policy/compiled.ts';
import { createDecisionCache } from '../../../filters/policy/decision-cache.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { agentOf, compile, factsOf } from './compiled-policy.ts';

const host = { hosts: ['api.github.com'] };
const pass = { name: 'pass', to: host, allow: {} };
const options = { ttlMs: 60_000, entriesMax: 10 };
const start = 1_000_000;

/** How many of these calls, one after the other, were answered from the cache. */
function hitsOf(
  rules: readonly object[],
  calls: readonly ((policy: CompiledPolicy) => RequestFacts)[],
): number {
  const policy = compile({ rules });
  const cache = createDecisionCache(options);
  for (const make of calls) {
    const facts = make(policy);
    expect(cache.evaluate(policy, facts)).toEqual(policy.evaluate(facts));
  }
  return cache.stats().hits;
}
type Rest = Parameters<typeof factsOf>[2];
const call =
  (changes: Parameters<typeof factsOf>[1] = {}, rest: Rest = {}) =>
  (policy: CompiledPolicy): RequestFacts =>
    factsOf(policy, changes, { nowMs: start, ...rest });

describe('an allow is kept', () => {
  test('for the same agent, destination, method and path', () => {
    expect(hitsOf([pass], [call(), call(), call()])).toBe(2);
  });

  test.each<[string, (policy: CompiledPolicy) => RequestFacts]>([
    ['path', call({ path: '/a' })],
    ['method', call({ method: 'POST' })],
    ['host', call({ host: 'raw.githubusercontent.com' })],
    ['port', call({ port: 80, scheme: 'http' })],
    ['scheme', call({ scheme: 'http' })],
    ['agent', call({}, { agent: 'deployer' })],
    ['kind of host', call({ hostIsAddress: true })],
  ])('not for another %s', (_name, other) => {
    const wide = { name: 'pass', to: { hosts: ['**'], ports: [80, 443] }, allow: {} };
    expect(hitsOf([wide], [call(), other])).toBe(0);
    expect(hitsOf([wide], [call(), other, call()])).toBe(1);
  });

  test('whatever query, header and body come with it, where no rule looks at them', () => {
    const other = call({ query: 'a=1' }, { headers: { a: 'b' }, json: { x: 1 }, nowMs: start + 1_000 });
    expect(hitsOf([pass], [call(), other])).toBe(1);
  });

  test('for one query alone, where a rule reads it', () => {
    const rules = [pass, { name: 'f', to: host, when: 'request.query == "q=1"', forbid: {} }];
    expect(
      hitsOf(rules, [call({ query: 'a' }), call({ query: 'a' }), call({ query: 'b' }), call({ query: 'b' })]),
    ).toBe(2);
    expect(hitsOf(rules, [call({ query: 'a' }), call({ query: 'q=1' }), call({ query: 'q=1' })])).toBe(0);
  });

  test('where a condition reads only what the key holds', () => {
    const when = 'agent.labels.team == "search" && request.method == "GET" && destination.port == 443';
    expect(hitsOf([{ ...pass, when }], [call(), call()])).toBe(1);
  });

  test('for its time and no longer, and not by a clock that is set back', () => {
    const policy = compile({ rules: [pass] });
    const cache = createDecisionCache(options);
    const hit = (nowMs: number): boolean => {
      const before = cache.stats().hits;
      cache.evaluate(policy, factsOf(policy, {}, { nowMs }));
      return cache.stats().hits > before;
    };
    expect([start, start + 59_999, start + 60_000, start + 119_999, start - 1].map(hit)).toEqual([
      false,
      true,
      false,
      true,
      false,
    ]);
  });

  test('until another policy holds, even one of the same text', () => {
    const cache = createDecisionCache(options);
    const first = compile({ rules: [pass] });
    const second = compile({ rules: [{ ...pass, forbid: {}, allow: undefined }] });
    const ask = (policy: CompiledPolicy) =>
      cache.evaluate(policy, factsOf(policy, {}, { nowMs: start })).kind;
    expect([ask(first), ask(first), ask(second), ask(first)]).toEqual(['allow', 'allow', 'forbid', 'allow']);
    expect(cache.stats()).toEqual({ hits: 1, misses: 3, entries: 1 });
    expect(ask(compile({ rules: [pass] }))).toBe('allow');
    expect(cache.stats().hits).toBe(1);
  });

  test('not for an agent of the same name that an older policy knew otherwise', () => {
    const policy = compile({ rules: [{ ...pass, when: 'agent.labels.team == "search"' }] });
    const cache = createDecisionCache(options);
    const facts = factsOf(policy, {}, { nowMs: start });
    const stale: Agent = { ...agentOf(policy), labels: { team: 'sales' } };
    expect(cache.evaluate(policy, facts).kind).toBe('allow');
    expect(cache.evaluate(policy, { ...facts, agent: stale }).kind).toBe('none');
    expect(cache.evaluate(policy, facts).kind).toBe('allow');
    expect(cache.stats().hits).toBe(1);
    const other: Agent = { ...agentOf(policy, 'deployer'), labels: facts.agent.labels };
    cache.evaluate(policy, { ...facts, agent: other });
    expect(cache.stats().hits).toBe(1);
  });
});

describe('nothing is kept', () => {
  test.each<[string, readonly object[]]>([
    ['a forbid', [{ name: 'f', to: host, forbid: {} }]],
    ['a hold', [{ name: 'h', to: host, hold: { approvers: 'one' } }]],
    ['a denial by no rule', []],
    ['what looked at a header', [{ ...pass, when: '!("x-a" in request.headers)' }]],
    ['what looked at the body', [{ ...pass, when: 'request.body_bytes == 0' }]],
    ['what looked at the time', [{ ...pass, when: 'now > timestamp("1970-01-01T00:00:00Z")' }]],
    [
      'what a shadow rule looked at a header for',
      [pass, { name: 's', mode: 'shadow', to: host, when: '"x-a" in request.headers', forbid: {} }],
    ],
  ])('of %s', (_name, rules) => {
    expect(hitsOf(rules, [call(), call(), call()])).toBe(0);
  });

  test('of a request that carries MCP', () => {
    const mcp = { kind: 'call', method: 'tools/call', tool: 'x' } as const;
    expect(hitsOf([pass], [call({ mcp }), call({ mcp })])).toBe(0);
  });

  test.each([
    { ...options, ttlMs: 0 },
    { ...options, entriesMax: 0 },
  ])('by a cache of $ttlMs ms and $entriesMax entries', (off) => {
    const policy = compile({ rules: [pass] });
    const cache = createDecisionCache(off);
    for (let count = 0; count < 3; count += 1)
      expect(cache.evaluate(policy, factsOf(policy)).kind).toBe('allow');
    expect(cache.stats()).toEqual({ hits: 0, misses: 0, entries: 0 });
  });
});

test('there are never more entries than the limit, and few of one path, so that none takes long to find', () => {
  const readsQuery = { name: 'f', to: host, when: 'request.query == "never"', forbid: {} };
  const policy = compile({ rules: [pass, readsQuery] });
  const entriesAfter = (entriesMax: number, path: (count: number) => string): number => {
    const cache = createDecisionCache({ ttlMs: 60_000, entriesMax });
    for (let count = 0; count < 100; count += 1)
      cache.evaluate(policy, factsOf(policy, { path: path(count), query: `${count}` }, { nowMs: start }));
    return cache.stats().entries;
  };
  expect(entriesAfter(10, (count) => `/${count}`)).toBe(10);
  expect(entriesAfter(10, () => '/')).toBeLessThanOrEqual(10);
  expect(entriesAfter(1_000, (count) => `/${count}`)).toBe(100);
  expect(entriesAfter(1_000, () => '/')).toBe(limits.cachedDecisionsPerPathMax);
});

describe('whatever the policy and the requests', () => {
  const rare = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
    fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary });
  const rule = fc.tuple(
    fc.record({
      agents: rare(fc.constantFrom(['researcher'], ['deployer'])),
      to: fc.record({
        hosts: fc.constantFrom(['a.example'], ['*.example'], ['**']),
        ports: rare(fc.constantFrom([443], [80, 443])),
        methods: rare(fc.constantFrom(['GET'], ['POST'])),
        paths: rare(fc.constantFrom(['/a'], ['/a/**'], ['/*'])),
        mcp: rare(fc.constant({ tools: ['x'] })),
      }),
      when: rare(
        fc.constantFrom(
          'agent.labels.team == "search"',
          'now > timestamp("2026-03-04T12:00:00Z")',
          'request.query == "q=1"',
          'request.query == "q=1" || "x-a" in request.headers',
          'request.query != "q=1" && request.json.x == 1',
          'request.path == "/a"',
          'request.body_bytes > 3',
          'request.mcp.tool == "x"',
        ),
      ),
      mode: fc.constantFrom('enforce', 'enforce', 'shadow'),
    }),
    fc.constantFrom<object>({ allow: {} }, { allow: {} }, { forbid: {} }, { hold: { approvers: 'one' } }),
  );
  const rules = fc
    .array(rule, { maxLength: 3 })
    .map((list) => list.map(([one, what], index) => ({ name: `r${index}`, ...one, ...what })));
  const often = <T>(usual: T, ...others: T[]): fc.Arbitrary<T> =>
    fc.oneof(
      { weight: 6, arbitrary: fc.constant(usual) },
      { weight: 1, arbitrary: fc.constantFrom(...others) },
    );
  const request = fc.record({
    which: fc.nat({ max: 1 }),
    agent: often('researcher', 'deployer'),
    changes: fc.record({
      host: often('a.example', 'b.example'),
      port: often(443, 80),
      method: often('GET', 'POST'),
      path: fc.constantFrom('/a', '/a/b', '/'),
      query: fc.constantFrom('', 'q=1', 'q=2'),
      mcp: fc.constantFrom(
        { kind: 'none' as const },
        { kind: 'none' as const },
        { kind: 'call' as const, method: 'tools/call', tool: 'x' },
      ),
    }),
    headers: fc.constantFrom({}, { 'x-a': '1' }),
    json: fc.constantFrom(undefined, { x: 1 }),
    laterMs: often(0, 1, 70_000, -5),
  });

  test('it says what the policy says', () => {
    let hits = 0;
    fc.assert(
      fc.property(
        fc.tuple(rules, rules),
        fc.array(request, { minLength: 10, maxLength: 60 }),
        ([first, second], requests) => {
          const open = { name: 'z', to: { hosts: ['**'], ports: [80, 443] }, allow: {} };
          const policies = [compile({ rules: [...first, open] }), compile({ rules: second })];
          const cache = createDecisionCache({ ttlMs: 60_000, entriesMax: 8 });
          let nowMs = Date.parse('2026-03-04T11:59:59Z');
          for (const { which, changes, agent, headers, json, laterMs } of requests) {
            nowMs += laterMs;
            // Mostly one policy, as it is; now and then the other.
            const policy = policies[laterMs === 0 ? 0 : which];
            if (policy === undefined) throw new Error('there are two policies');
            const facts = factsOf(policy, changes, { agent, headers, json, nowMs });
            expect(cache.evaluate(policy, facts)).toEqual(policy.evaluate(facts));
          }
          hits += cache.stats().hits;
        },
      ),
      fuzzRuns,
    );
    // The cache took part.
    expect(hits).toBeGreaterThan(200);
  });
});
