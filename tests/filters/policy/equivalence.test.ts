/** The indexed policy against a matcher written from the language's sentences alone, which tries every rule. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Destination } from '../../../filters/facts.ts';
import { mismatch } from '../../../filters/policy/mismatch.ts';
import { subjectOf } from '../../../filters/policy/target.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { agentOf, compile, factsOf } from './compiled-policy.ts';

type To = {
  hosts: string[];
  schemes?: string[];
  ports?: number[];
  methods?: string[];
  paths?: string[];
  mcp?: { methods?: string[]; tools?: string[] };
};
type Rule = {
  name: string;
  agents?: readonly string[];
  to: To;
  when?: string;
  mode?: string;
  forbid?: object;
  hold?: object;
  allow?: object;
};

const some = (...values: string[]): fc.Arbitrary<string[]> => fc.subarray(values, { minLength: 1 });

const hostPatterns = [
  'a.example',
  'b.a.example',
  '*.example',
  '*.a.example',
  '**.example',
  '**',
  'other.example',
  '192.0.2.1',
];
const manyHosts = ['h1.example', 'h2.example', 'h3.example', 'h4.example', 'a.example'];
const to: fc.Arbitrary<To> = fc.record(
  {
    hosts: fc.oneof(
      { weight: 4, arbitrary: fc.subarray(hostPatterns, { minLength: 1, maxLength: 3 }) },
      { weight: 1, arbitrary: fc.constant(manyHosts) },
    ),
    schemes: some('http', 'https'),
    ports: fc.subarray([80, 443, 8443], { minLength: 1 }),
    methods: some('GET', 'POST'),
    paths: some('/', '/a', '/a/*', '/a/**', '/**/c', '/*', '/a/'),
    mcp: fc.record(
      { methods: some('tools/call', 'tools/*'), tools: some('x', 'x*', 'y') },
      { requiredKeys: [] },
    ),
  },
  { requiredKeys: ['hosts'] },
);

const outcome = fc.constantFrom<object>(
  { forbid: {} },
  { hold: { approvers: 'maintainers' } },
  { hold: { approvers: 'one' } },
  { allow: {} },
  { allow: {} },
);
const conditions = ['true', 'false', 'request.json.x == 1', 'request.method == "GET"'];
const rules: fc.Arbitrary<Rule[]> = fc
  .array(
    fc.tuple(
      fc.record(
        {
          agents: fc.constantFrom(['researcher'], ['deployer'], ['*'], ['researcher', 'deployer']),
          to,
          when: fc.constantFrom(...conditions),
          mode: fc.constantFrom('enforce', 'shadow'),
        },
        { requiredKeys: ['to'] },
      ),
      outcome,
    ),
    { maxLength: 12 },
  )
  .map((list) => list.map(([rule, what], index) => ({ name: `r${index}`, ...rule, ...what })));

const destination: fc.Arbitrary<Partial<Destination>> = fc
  .record({
    scheme: fc.constantFrom('http', 'https'),
    host: fc.constantFrom(
      'a.example',
      'b.a.example',
      'c.b.a.example',
      'example',
      'other.example',
      '192.0.2.1',
      '192.0.2.2',
      'h3.example',
    ),
    port: fc.constantFrom(80, 443, 8443),
    method: fc.constantFrom('GET', 'POST', 'PUT'),
    path: fc.constantFrom('/', '/a', '/a/', '/a/b', '/a/b/c', '//a', '/c', '/b//c'),
    mcp: fc.constantFrom(
      { kind: 'none' },
      { kind: 'invalid', reason: 'a batch' },
      { kind: 'call', method: 'tools/call', tool: 'x' },
      { kind: 'call', method: 'tools/call', tool: 'xy' },
      { kind: 'call', method: 'tools/list', tool: '' },
    ),
  })
  .map((parts) => ({ ...parts, hostIsAddress: parts.host.startsWith('192.') })) as fc.Arbitrary<
  Partial<Destination>
>;

const words = (pattern: readonly string[], of: readonly string[]): boolean => {
  const [head, ...rest] = pattern;
  if (head === undefined) return of.length === 0;
  if (head === '**') return words(rest, of) || (of.length > 0 && words(pattern, of.slice(1)));
  const [word, ...others] = of;
  return word !== undefined && (head === '*' ? word !== '' : head === word) && words(rest, others);
};
const ends = (pattern: string, word: string): boolean =>
  pattern.endsWith('*') ? word.startsWith(pattern.slice(0, -1)) : word === pattern;

function naiveMatch(rule: Rule, agent: string, at: Destination, x: number): boolean {
  const restricts = rule.allow === undefined;
  const agents = rule.agents;
  if (agents !== undefined && !agents.includes('*') && !agents.includes(agent)) return false;
  const host = rule.to.hosts.some((pattern) =>
    at.hostIsAddress
      ? pattern === at.host || (restricts && pattern === '**')
      : words(pattern.split('.'), at.host.split('.')),
  );
  if (!host) return false;
  if (rule.to.schemes !== undefined && !rule.to.schemes.includes(at.scheme)) return false;
  if (rule.forbid === undefined || rule.to.ports !== undefined) {
    if (!(rule.to.ports ?? [at.scheme === 'http' ? 80 : 443]).includes(at.port)) return false;
  }
  if (rule.to.methods !== undefined && !rule.to.methods.includes(at.method)) return false;
  const segments = at.path.slice(1).split('/');
  const full = segments.filter((segment) => segment !== '');
  const spellings = restricts ? [segments, full.length === 0 ? [''] : full] : [segments];
  const { paths, mcp } = rule.to;
  if (
    paths !== undefined &&
    !paths.some((path) => spellings.some((of) => words(path.slice(1).split('/'), of)))
  )
    return false;
  if (mcp !== undefined) {
    if (at.mcp.kind === 'none') return false;
    if (at.mcp.kind === 'invalid') return restricts && condition(rule, at, x);
    const { method, tool } = at.mcp;
    if (mcp.methods !== undefined && !mcp.methods.some((pattern) => ends(pattern, method))) return false;
    if (
      mcp.tools !== undefined &&
      (method !== 'tools/call' || !mcp.tools.some((pattern) => ends(pattern, tool)))
    )
      return false;
  }
  return condition(rule, at, x);
}

/** `x` is a member of the body; 0 stands for a body that was not read. */
function condition(rule: Rule, at: Destination, x: number): boolean {
  switch (rule.when) {
    case undefined:
    case 'true':
      return true;
    case 'false':
      return false;
    case 'request.method == "GET"':
      return at.method === 'GET';
    default:
      return x === 0 ? rule.allow === undefined : x === 1;
  }
}

const kindOf = (rule: Rule): 'forbid' | 'hold' | 'allow' =>
  rule.forbid !== undefined ? 'forbid' : rule.hold !== undefined ? 'hold' : 'allow';
const order = { none: 0, allow: 1, hold: 2, forbid: 3 };
const quorum = (rule: Rule): number => (JSON.stringify(rule.hold).includes('maintainers') ? 2 : 1);

function naive(list: readonly Rule[], agent: string, at: Destination, x: number): object {
  const matching = list.filter((rule) => naiveMatch(rule, agent, at, x));
  const enforced = matching.filter((rule) => rule.mode !== 'shadow');
  const strongest = Math.max(0, ...enforced.map((rule) => order[kindOf(rule)]));
  let winners = enforced.filter((rule) => order[kindOf(rule)] === strongest);
  const most = Math.max(...winners.map((rule) => (rule.hold === undefined ? 0 : quorum(rule))));
  winners = winners.filter((rule) => rule.hold === undefined || quorum(rule) === most);
  const names = winners.map((rule) => rule.name).sort();
  const shadow = matching
    .filter((rule) => rule.mode === 'shadow' && order[kindOf(rule)] > strongest)
    .map((rule) => `${kindOf(rule)} ${rule.name}`)
    .sort();
  const [winner] = winners;
  return { kind: winner === undefined ? 'none' : kindOf(winner), rule: names[0] ?? '', shadow };
}

test('the index decides as trying every rule does, and explain agrees', () => {
  fc.assert(
    fc.property(
      rules,
      fc.array(fc.tuple(destination, fc.constantFrom('researcher', 'deployer'), fc.constantFrom(0, 1, 2)), {
        minLength: 8,
        maxLength: 8,
      }),
      (list, requests) => {
        const policy = compile({ rules: list });
        for (const [place, agent, x] of requests) {
          const facts = factsOf(policy, place, x === 0 ? { agent } : { agent, json: { x } });
          const verdict = policy.evaluate(facts);
          expect({
            kind: verdict.kind,
            rule: verdict.kind === 'none' ? '' : verdict.rule,
            shadow: verdict.shadow.map((shadow) => `${shadow.would} ${shadow.rule}`).sort(),
          }).toEqual(naive(list, agent, facts.destination, x));
          const explained = policy.explain(facts);
          expect(explained.map((one) => one.matched)).toEqual(
            list.map((rule) => naiveMatch(rule, agent, facts.destination, x)),
          );
          for (const one of explained) expect(one.why === '').toBe(one.decided);
        }
      },
    ),
    fuzzRuns,
  );
});

test('the order of the rules never changes a verdict', () => {
  fc.assert(
    fc.property(
      rules.chain((list) =>
        fc.tuple(fc.constant(list), fc.shuffledSubarray(list, { minLength: list.length })),
      ),
      destination,
      ([list, shuffled], place) => {
        const one = compile({ rules: list });
        const other = compile({ rules: shuffled });
        expect(other.evaluate(factsOf(other, place, { json: { x: 1 } }))).toEqual(
          one.evaluate(factsOf(one, place, { json: { x: 1 } })),
        );
        const tunnel = {
          ...factsOf(one, place).destination,
          scheme: 'tcp',
          method: 'CONNECT',
          path: '',
        } as const;
        expect(other.connect(agentOf(other), tunnel, 0)).toEqual(one.connect(agentOf(one), tunnel, 0));
      },
    ),
    fuzzRuns,
  );
});

test('a mismatch is explained exactly where the dimensions do not fit', () => {
  const policy = compile({ rules: [{ name: 'r', to: { hosts: ['a.example'] }, allow: {} }] });
  const facts = factsOf(policy, { host: 'b.example' });
  const target = {
    restricting: false,
    agents: new Set(['deployer']),
    hosts: undefined,
    exactHosts: undefined,
    otherHosts: [],
    schemes: undefined,
    ports: 'any',
    methods: undefined,
    paths: undefined,
    mcp: undefined,
  } as const;
  expect(mismatch(target, subjectOf(facts.agent.name, facts.destination))).toBe(
    'agent researcher is not deployer',
  );
  expect(
    mismatch({ ...target, agents: undefined }, subjectOf('researcher', facts.destination)),
  ).toBeUndefined();
});
