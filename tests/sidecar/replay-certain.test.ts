/** What a replay says for certain is what the check would have said, whatever the record does not hold. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { RuleName } from '../../filters/common/brand.ts';
import { inRegion } from '../../filters/policy/lease-region.ts';
import { createReplay } from '../../sidecar/replay.ts';
import { fateOf } from '../../sidecar/replay-record.ts';
import { compile } from '../filters/policy/compiled-policy.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { type Asked, factsFor, fateUnder, recorded, recordUnder } from './replay-world.ts';

const some = (...values: string[]): fc.Arbitrary<string[]> => fc.subarray(values, { minLength: 1 });

const conditions = [
  'request.headers["x-team"] == "a"',
  'request.query.contains("dry")',
  'request.json.amount > 10',
  'request.body_bytes > 2',
  'request.method == "GET" || request.headers["x-team"] == "a"',
  'request.path == "/a" && request.json.amount > 10',
  'agent.labels.team == "search"',
  'now < timestamp("2026-03-04T12:00:00Z")',
  'request.mcp.tool == "x"',
];

const to = fc.record(
  {
    hosts: some('a.example', '*.example', '**'),
    methods: some('GET', 'POST'),
    paths: some('/a', '/a/*', '/a/**', '/a/b', '/**'),
    mcp: fc.record({ tools: some('x', 'y') }, { requiredKeys: [] }),
    schemes: some('http', 'https'),
  },
  { requiredKeys: ['hosts'] },
);
const rule = fc
  .tuple(
    fc.record(
      {
        to,
        when: fc.constantFrom(...conditions),
        agents: fc.constantFrom(['researcher'], ['*']),
        mode: fc.constantFrom('enforce', 'enforce', 'shadow'),
      },
      { requiredKeys: ['to'] },
    ),
    fc.constantFrom<object>({ forbid: {} }, { hold: { approvers: 'one' } }, { allow: {} }, { allow: {} }),
  )
  .map(([narrow, outcome]) => ({ ...narrow, ...outcome }));
const pool = fc
  .array(rule, { minLength: 1, maxLength: 7 })
  .map((list) => list.map((one, i) => ({ name: `r${i}`, ...one })));

/** A policy and a candidate that has some of its rules, some changed and some new: as edits are. */
const policies = fc
  .tuple(
    pool,
    fc.array(fc.constantFrom('keep', 'keep', 'drop', 'change'), { minLength: 8, maxLength: 8 }),
    pool,
  )
  .map(([before, edits, others]) => ({
    before,
    after: [
      ...before.flatMap((one, i) => {
        const edit = edits[i];
        if (edit === 'drop') return [];
        return [edit === 'change' ? { ...others[i % others.length], name: one.name } : one];
      }),
      ...(edits[7] === 'change' ? others.map((one) => ({ ...one, name: `new-${one.name}` })) : []),
    ],
  }));

const asked: fc.Arbitrary<Asked> = fc.record({
  agent: fc.constantFrom('researcher', 'deployer'),
  destination: fc.record({
    scheme: fc.constantFrom('https', 'http'),
    host: fc.constantFrom('a.example', 'b.example'),
    port: fc.constantFrom(443, 80),
    method: fc.constantFrom('GET', 'POST'),
    path: fc.constantFrom('/a', '/a/', '/a/b', '/a/b/c', '/d'),
    query: fc.constantFrom('', 'dry=1'),
  }),
  message: fc.constantFrom(
    { kind: 'invalid', reason: 'a batch' } as const,
    { kind: 'call', method: 'tools/call', tool: 'x' } as const,
    { kind: 'call', method: 'tools/call', tool: 'y' } as const,
  ),
  headers: fc.constantFrom<Record<string, string>>({}, { 'x-team': 'a' }, { 'x-team': 'b' }),
  body: fc.constantFrom(
    { kind: 'whole', bytes: new TextEncoder().encode('{"amount":5}') } as const,
    { kind: 'whole', bytes: new TextEncoder().encode('{"amount":50}') } as const,
    { kind: 'whole', bytes: new TextEncoder().encode('x') } as const,
  ),
  nowMs: fc.constantFrom(Date.parse('2026-03-04T11:00:00Z'), Date.parse('2026-03-04T13:00:00Z')),
});

test('a change, or that nothing changes, is what the candidate decides of the whole request', () => {
  let certain = 0;
  let changed = 0;
  fc.assert(
    fc.property(
      policies,
      fc.array(asked, { minLength: 4, maxLength: 12 }),
      fc.boolean(),
      (pair, list, knowsEarlier) => {
        const before = compile({ rules: pair.before });
        const after = compile({ rules: pair.after });
        const replay = createReplay(after, knowsEarlier ? [before] : []);
        for (const one of list) {
          const decision = recorded(recordUnder(before, one));
          expect(fateOf(decision)).toBe(fateUnder(before, one));
          const replayed = replay(decision);
          if (replayed.kind === 'undetermined') continue;
          certain += 1;
          if (replayed.kind !== 'unchanged') changed += 1;
          const fate = 'after' in replayed ? replayed.after : fateOf(decision);
          expect(fate).toBe(fateUnder(after, one));
        }
      },
    ),
    { ...fuzzRuns, numRuns: 300 },
  );
  // Otherwise this says nothing.
  expect(certain).toBeGreaterThan(500);
  expect(changed).toBeGreaterThan(40);
});

test('under the policy that made them, all records are unchanged', () => {
  fc.assert(
    fc.property(pool, fc.array(asked, { minLength: 4, maxLength: 12 }), (rules, list) => {
      const policy = compile({ rules });
      const replay = createReplay(policy);
      for (const one of list)
        expect(replay(recorded(recordUnder(policy, one)))).toEqual({ kind: 'unchanged' });
    }),
    fuzzRuns,
  );
});

/** Rules that may be leased by: no condition, nothing read of the message. */
const leasable = fc
  .array(
    fc.record({
      to: fc.record({
        hosts: fc.constant(['*.example']),
        paths: fc.constantFrom(['/a/**'], ['/**'], ['/a/b'], ['/a/b/**'], ['/d/*']),
        methods: fc.constant(['GET']),
      }),
      outcome: fc.constantFrom<object>({ allow: {} }, { allow: {} }, { forbid: {} }),
    }),
    { minLength: 1, maxLength: 4 },
  )
  .map((list) => list.map(({ to, outcome }, i) => ({ name: `r${i}`, to, ...outcome })));

test('what is said of a lease is so for each of its paths', () => {
  let leases = 0;
  let changed = 0;
  const paths = ['/a', '/a/', '/a/b', '/a/b/', '/a/b/c', '/a/c', '/d', '/d/b', '/'];
  const candidates = fc.tuple(leasable, fc.oneof(leasable, pool), fc.boolean());
  fc.assert(
    fc.property(
      candidates,
      fc.array(asked, { minLength: 4, maxLength: 12 }),
      ([first, other, keeps], list) => {
        const before = compile({ rules: first });
        const added = other.map((one) => ({ ...one, name: `new-${one.name}` }));
        const after = compile({ rules: keeps ? [...first, ...added] : added });
        const replay = createReplay(after, [before]);
        for (const any of list) {
          const one = { ...any, destination: { ...any.destination, method: 'GET' } };
          const record = recordUnder(before, one);
          if (record.kind !== 'Allow' || record.hold !== '') continue;
          const { agent, destination } = factsFor(before, one);
          const region = before.leaseRegion(agent, destination, record.rule as RuleName);
          if ('why' in region) continue;
          leases += 1;
          const lease = { calls: 10, lifeMs: 500, path: region.prefix, exact: region.exact };
          const decision = recorded(recordUnder(before, one, lease));
          expect(decision.calls).toBe(10);
          const replayed = replay(decision);
          if (replayed.kind === 'undetermined') continue;
          if (replayed.kind !== 'unchanged') changed += 1;
          const fate = 'after' in replayed ? replayed.after : 'passed';
          for (const path of paths.filter((path) => inRegion(region, path)))
            expect(fateUnder(after, { ...one, destination: { ...one.destination, path } })).toBe(fate);
        }
      },
    ),
    { ...fuzzRuns, numRuns: 300 },
  );
  expect(leases).toBeGreaterThan(75);
  expect(changed).toBeGreaterThan(7);
});
