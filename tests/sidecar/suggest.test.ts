/** Suggested rules: valid policies that cover what they claim, narrow, and without anything that looks secret. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { limits } from '../../config/limits.ts';
import { formatIssue } from '../../config/policy/issue.ts';
import { parsePolicy } from '../../config/policy/parse.ts';
import { looksSecret } from '../../filters/common/path-secrets.ts';
import { compilePolicy } from '../../filters/policy/compile.ts';
import type { CompiledPolicy } from '../../filters/policy/compiled.ts';
import { destinationOf, type RecordedDecision } from '../../sidecar/replay-record.ts';
import { type Suggested, suggest } from '../../sidecar/suggest.ts';
import { createCollection } from '../../sidecar/suggest-collect.ts';
import { suggestionText } from '../../sidecar/suggest-text.ts';
import { base, users } from '../filters/policy/compiled-policy.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { someDecision } from '../support/some-record.ts';
import { recorded } from './replay-world.ts';

const researcher = base.agents.researcher.identity;

function policyOf(text: string): CompiledPolicy {
  const parsed = parsePolicy(text, 'policy.yaml');
  const result = parsed.ok ? compilePolicy(parsed.value, users) : parsed;
  if (!result.ok) throw new Error(`${result.issues.map(formatIssue).join('\n')}\n${text}`);
  return result.value;
}

/** A policy of these rules, as `suggest` is given it. */
const liveOf = (rules: readonly object[], more: object = {}) => {
  const text = JSON.stringify({ ...base, ...more, rules });
  return { text, policy: policyOf(text) };
};

const denied = (what: string, resource: string, more: object = {}): RecordedDecision =>
  recorded(
    someDecision({
      ...{ kind: 'Deny', code: 'EgressDenied', rule: '', outcome: 'Denied', pin: '' },
      ...{ agent: researcher, what, resource },
      ...more,
    }),
  );

const shadowed = (
  what: string,
  resource: string,
  rule: string,
  would: 'allow' | 'hold' | 'forbid',
  more: object = {},
) => denied(what, resource, { shadow: [{ rule, would }], ...more });

function suggestFrom(
  decisions: readonly RecordedDecision[],
  live?: ReturnType<typeof liveOf>,
  options = { denied: true },
): Suggested & { text: string } {
  const collected = createCollection(options);
  for (const decision of decisions) collected.add(decision);
  const suggested = suggest(collected, live);
  return { ...suggested, text: suggestionText(suggested, { from: 'a test', policyFile: 'policy.yaml' }) };
}

const api = 'https://api.example.org:443';
const pathsOf = ({ rules }: Suggested): (readonly string[] | undefined)[] =>
  rules.map(({ rule }) => rule.to.paths);

describe('what a suggestion says', () => {
  test('exact host, port, methods and paths, and nothing else', () => {
    const { rules } = suggestFrom([
      denied('GET', `${api}/v1/models`),
      denied('GET', `${api}/v1/models`),
      denied('POST', `${api}/v1/chat`),
    ]);
    expect(rules.map(({ rule, covers }) => [rule.to, covers.calls])).toEqual([
      [
        {
          hosts: ['api.example.org'],
          schemes: ['https'],
          ports: [443],
          methods: ['GET'],
          paths: ['/v1/models'],
        },
        2,
      ],
      [
        {
          hosts: ['api.example.org'],
          schemes: ['https'],
          ports: [443],
          methods: ['POST'],
          paths: ['/v1/chat'],
        },
        1,
      ],
    ]);
  });

  test('paths with the same methods are one rule, and with others another', () => {
    const { rules } = suggestFrom([
      denied('GET', `${api}/a`),
      denied('GET', `${api}/b`),
      denied('GET', `${api}/c`),
      denied('PUT', `${api}/c`),
    ]);
    expect(rules.map(({ rule }) => [rule.to.methods, rule.to.paths])).toEqual([
      [['GET', 'PUT'], ['/c']],
      [['GET'], ['/a', '/b']],
    ]);
  });

  test(`from ${limits.suggestIdsMin} different ids at one place on there is a star, below it what was there`, () => {
    const users_ = (count: number) =>
      Array.from({ length: count }, (_, index) => denied('GET', `${api}/users/${1000 + index}/repos`));
    expect(pathsOf(suggestFrom(users_(limits.suggestIdsMin)))).toEqual([['/users/*/repos']]);
    expect(pathsOf(suggestFrom(users_(limits.suggestIdsMin - 1)))[0]).toHaveLength(limits.suggestIdsMin - 1);
  });

  test('words at one place stay words until there are too many', () => {
    const words = (count: number) =>
      Array.from({ length: count }, (_, index) =>
        denied('GET', `${api}/v1/${'abcdefghij'[index % 10]}${'abcdefghij'[Math.floor(index / 10)]}`),
      );
    expect(pathsOf(suggestFrom(words(20)))[0]).toHaveLength(20);
    expect(pathsOf(suggestFrom(words(limits.suggestNamesMin)))).toEqual([['/v1/*']]);
  });

  test('a segment that looks secret is a star, in the rule and in the example', () => {
    const secret = 'bot123456:AAEhBP0av28FrTkXZ_abcdef';
    const { text, rules } = suggestFrom([
      denied('POST', `https://api.telegram.org:443/${secret}/sendMessage`),
    ]);
    expect(rules[0]?.rule.to.paths).toEqual(['/*/sendMessage']);
    expect(rules[0]?.covers.calls).toBe(1);
    expect(text).not.toContain('AAEhBP0av28FrTkXZ');
  });

  test('MCP: tools apart from the other methods, each named', () => {
    const mcp = (mcp_method: string, mcp_tool: string) =>
      denied(`POST ${mcp_method} ${mcp_tool}`.trim(), `${api}/mcp`, { mcp_method, mcp_tool });
    const { rules } = suggestFrom([
      mcp('initialize', ''),
      mcp('tools/list', ''),
      mcp('tools/call', 'search'),
      mcp('tools/call', 'fetch'),
    ]);
    expect(rules.map(({ rule }) => rule.to.mcp)).toEqual([
      { methods: ['initialize', 'tools/list'] },
      { methods: ['tools/call'], tools: ['fetch', 'search'] },
    ]);
  });

  test('agents that did the same share a rule, and no other', () => {
    const deployer = base.agents.deployer.identity;
    const { rules } = suggestFrom(
      [
        denied('GET', `${api}/a`),
        denied('GET', `${api}/a`, { agent: deployer }),
        denied('GET', 'https://b.example:443/b'),
      ],
      liveOf([]),
    );
    expect(rules.map(({ rule }) => [rule.agents, rule.to.hosts])).toEqual([
      [['researcher'], ['b.example']],
      [['deployer', 'researcher'], ['api.example.org']],
    ]);
  });

  test('a lease counts for all its calls', () => {
    const { rules } = suggestFrom([
      shadowed('GET', `${api}/a`, 'learn', 'forbid', { calls: 32, kind: 'Allow', code: '' }),
    ]);
    expect(rules[0]?.covers).toEqual({ calls: 32, decisions: 1 });
  });

  test('HTTPS that was refused before it was read becomes readable, and passes nothing', () => {
    const suggested = suggestFrom([denied('CONNECT', 'tcp://api.example.org:443', { stage: 'connect' })]);
    expect(suggested.rules[0]?.rule).toMatchObject({
      mode: 'shadow',
      to: { schemes: ['https'], ports: [443] },
    });
    expect(suggested.rules[0]?.covers.calls).toBe(1);
    const policy = policyOf(suggested.text);
    const agent = { ...policy.agentBySpiffeId(researcher), by: 'pod' } as never;
    const inside = { ...destinationOf(denied('GET', `${api}/a`)) } as never;
    expect(
      policy.evaluate({ agent, destination: inside, headers: {}, body: { kind: 'unread' }, nowMs: 0 }).kind,
    ).toBe('none');
  });

  test('what shadow mode would hold asks the same people as the rule in shadow mode', () => {
    const live = liveOf([
      { name: 'reads', to: { hosts: ['api.example.org'] }, allow: {} },
      {
        name: 'ask',
        to: { hosts: ['api.example.org'], methods: ['POST'] },
        hold: { approvers: 'maintainers', wait: '5s' },
        mode: 'shadow',
      },
    ]);
    const { rules, text } = suggestFrom(
      [shadowed('POST', `${api}/orders`, 'ask', 'hold', { kind: 'Allow', code: '', rule: 'reads' })],
      live,
    );
    expect(rules[0]?.rule.hold).toMatchObject({ approvers: 'maintainers', wait: '5s' });
    expect(rules[0]?.covers.calls).toBe(1);
    expect((parse(text) as typeof base).approvers.maintainers.quorum).toBe(2);
  });

  test('what another rule stops is told of, and not claimed', () => {
    const live = liveOf([
      { name: 'no-gists', to: { hosts: ['api.example.org'], paths: ['/gists/**'] }, forbid: {} },
    ]);
    const { rules, text } = suggestFrom([denied('GET', `${api}/gists`), denied('GET', `${api}/users`)], live);
    expect(rules.map(({ covers, stopped }) => [covers.calls, [...stopped]])).toEqual([
      [1, [['no-gists', 1]]],
    ]);
    expect(text).toContain('still decided otherwise by rule no-gists: 1 request');
  });

  test('without --denied only what shadow mode saw', () => {
    const decisions = [denied('GET', `${api}/a`), shadowed('GET', `${api}/b`, 'learn', 'allow')];
    expect(pathsOf(suggestFrom(decisions, undefined, { denied: false }))).toEqual([['/b']]);
  });

  test('what no rule can say is counted with its reason', () => {
    const { rules, leftOut } = suggestFrom([
      denied('GET_X', `${api}/a`),
      denied('GET', `${api}/${'a/'.repeat(600)}`),
      denied('POST', `${api}/mcp`, { mcp_invalid: true }),
      denied('POST tools/call x*', `${api}/mcp`, { mcp_method: 'tools/call', mcp_tool: 'x*' }),
      denied('GET', 'https://-a.example:443/'),
      denied('GET', `${api}/a`, { agent: '' }),
    ]);
    expect(rules).toEqual([]);
    expect([...leftOut.values()]).toEqual([1, 1, 1, 1, 1, 1]);
  });

  test('what the policy decides so by now is not suggested again', () => {
    const live = liveOf([{ name: 'since', to: { hosts: ['api.example.org'], paths: ['/a'] }, allow: {} }]);
    const { rules, leftOut } = suggestFrom([denied('GET', `${api}/a`), denied('GET', `${api}/b`)], live);
    expect(rules.map(({ rule }) => rule.to.paths)).toEqual([['/b']]);
    expect([...leftOut]).toEqual([['the policy by now decides so', 1]]);
  });

  test('its names are free in the policy', () => {
    const live = liveOf([{ name: 'suggested-api.example.org', to: { hosts: ['x.example'] }, allow: {} }]);
    expect(suggestFrom([denied('GET', `${api}/a`)], live).rules[0]?.rule.name).toBe(
      'suggested-api.example.org-2',
    );
  });

  test('different requests past the limit are counted and left out', () => {
    const collected = createCollection({ denied: true, requestsMax: 10 });
    for (let index = 0; index < 13; index += 1) collected.add(denied('GET', `${api}/x/${index}`));
    expect(collected.seen()).toHaveLength(10);
    expect([...collected.leftOut()]).toEqual([
      ['there are more than 10 different ones: look back less far', 3],
    ]);
  });
});

const segment = fc.oneof(
  fc.constantFrom('', 'v1', 'users', 'a*', '*', '**', 'x;y', '%7Cz', 'repos', 'T024BE7LD'),
  fc.integer({ min: 1, max: 30 }).map(String),
  fc.uuid(),
  fc.base64String({ minLength: 20, maxLength: 40 }).map((text) => text.replace(/[^A-Za-z0-9]/g, '')),
);
const decision = fc
  .record({
    agent: fc.constantFrom(researcher, base.agents.deployer.identity, 'spiffe://example.org/gone'),
    host: fc.constantFrom('api.example.org', 'b.example', '192.0.2.1', '[2001:db8::1]'),
    port: fc.constantFrom(443, 8443),
    path: fc.array(segment, { minLength: 1, maxLength: 4 }).map((parts) => `/${parts.join('/')}`),
    method: fc.constantFrom('GET', 'POST', 'DELETE', 'M_X'),
    mcp: fc.constantFrom<object>(
      {},
      {},
      {},
      { mcp_method: 'tools/call', mcp_tool: 'a b' },
      { mcp_method: 'ping' },
      { mcp_invalid: true },
    ),
    shadow: fc.constantFrom('', 'learn', 'deny', 'ask', 'unknown'),
    isConnect: fc.constantFrom(false, false, false, false, true),
  })
  .map(({ agent, host, port, path, method, mcp, shadow, isConnect }) => {
    const would = new Map([
      ['learn', 'allow'],
      ['deny', 'forbid'],
      ['ask', 'hold'],
      ['unknown', 'hold'],
    ]).get(shadow);
    const outcome = would === undefined ? {} : { shadow: [{ rule: shadow, would }] };
    return isConnect
      ? denied('CONNECT', `tcp://${host}:${port}`, { agent, stage: 'connect' })
      : denied(method, `https://${host}:${port}${path}`, { agent, ...mcp, ...outcome });
  });

const everywhere = { hosts: ['**', '192.0.2.1', '2001:db8::1'], ports: [443, 8443] };
const liveRules = fc.subarray([
  { name: 'learn', to: everywhere, allow: {}, mode: 'shadow' },
  { name: 'deny', to: everywhere, forbid: { reason: 'no' }, mode: 'shadow' },
  { name: 'ask', to: everywhere, hold: { approvers: 'one' }, mode: 'shadow' },
  { name: 'no-users', to: { hosts: ['**'], paths: ['/**/users/**'] }, forbid: {} },
  { name: 'mind-deletes', to: { ...everywhere, methods: ['DELETE'] }, hold: { approvers: 'one' } },
  { name: 'not-by-header', to: { hosts: ['b.example'] }, when: 'request.headers["x"] == "1"', forbid: {} },
]);

test('every rule covers the calls that it claims, decided by the policy with all of them added', () => {
  let claimed = 0;
  fc.assert(
    fc.property(fc.array(decision, { minLength: 1, maxLength: 60 }), liveRules, (decisions, rules) => {
      const live = liveOf(rules);
      const { rules: suggested, leftOut, fragment, text } = suggestFrom(decisions, live);
      // What is printed is a whole policy by itself, and says what is meant.
      expect(parse(text)).toEqual(JSON.parse(JSON.stringify(fragment)));
      policyOf(text);
      const added = { ...(parse(live.text) as typeof base & { rules: object[] }) };
      const { agents } = parse(text) as { agents: object };
      const policy = policyOf(
        JSON.stringify({
          ...added,
          agents: { ...agents, ...added.agents },
          rules: [...rules, ...suggested.map(({ rule }) => rule)],
        }),
      );
      let counted = 0;
      for (const { rule, outcome, seen, covers, stopped } of suggested) {
        let covered = 0;
        for (const one of seen) {
          const known = policy.agentBySpiffeId(one.agent);
          expect(rule.agents).toContain(known?.name);
          const agent = { ...known, by: 'pod' } as never;
          const { destination } = one;
          // Headers that no record holds: whatever they are, a claim stands.
          for (const headers of [{}, { x: '1' }] as const) {
            const isCovered =
              destination.scheme === 'tcp'
                ? policy.connect(agent, destination, 0).kind === 'intercept'
                : policy.evaluate({ agent, destination, headers, body: { kind: 'unread' }, nowMs: 0 })
                    .kind === outcome;
            if (isCovered && 'x' in headers) covered += one.calls;
          }
        }
        expect(covered).toBeGreaterThanOrEqual(covers.calls);
        for (const path of rule.to.paths ?? [])
          for (const [index, part] of path.split('/').entries())
            expect(looksSecret(part, path.split('/')[index - 1])).toBe(false);
        counted += covers.calls + [...stopped.values()].reduce((sum, calls) => sum + calls, 0);
        claimed += covers.calls;
      }
      // No call is lost on the way.
      expect(counted + [...leftOut.values()].reduce((sum, calls) => sum + calls, 0)).toBe(decisions.length);
    }),
    fuzzRuns,
  );
  expect(claimed).toBeGreaterThan(300);
});
