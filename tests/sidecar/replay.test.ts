/** What a replay makes of single records: tunnels, refusals beside the rules, what is not on record, and the report. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { resourceOf, whatOf } from '../../ext-authz/record.ts';
import type { Destination } from '../../filters/facts.ts';
import { createReplay, type Replayed } from '../../sidecar/replay.ts';
import { decisionOf, destinationOf } from '../../sidecar/replay-record.ts';
import { createReporter } from '../../sidecar/replay-report.ts';
import { base, compile } from '../filters/policy/compiled-policy.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { someDecision } from '../support/some-record.ts';
import { recorded } from './replay-world.ts';

const agent = base.agents.researcher.identity;
const api = 'https://api.example.org:443';
const to = { hosts: ['api.example.org'] };

const passed = (resource: string, more: object = {}) =>
  recorded(someDecision({ agent, resource, rule: 'then', ...more }));
const refused = (code: string, resource: string, more: object = {}) =>
  passed(resource, { kind: 'Deny', code, rule: '', pin: '', outcome: 'Denied', ...more });
const under = (rules: readonly object[], decision: ReturnType<typeof passed>): Replayed =>
  createReplay(compile({ rules }))(decision);

describe('requests', () => {
  test.each([
    [{ allow: {} }, 'newly-allowed'],
    [{ hold: { approvers: 'one' } }, 'newly-held'],
    [{ forbid: {} }, 'unchanged'],
  ])('one that no rule allowed, under %o, is %s', (outcome, kind) => {
    expect(under([{ name: 'now', to, ...outcome }], refused('EgressDenied', `${api}/a`)).kind).toBe(kind);
  });

  test.each(['HoldPending', 'HoldDenied', 'HoldTimedOut', 'HoldCancelled', 'HoldOutcomeUnknown'])(
    'one that met %s was held, and is newly allowed where nobody is asked any more',
    (code) => {
      const decision = refused(code, `${api}/a`, { rule: 'ask' });
      expect(under([{ name: 'ask', to, hold: { approvers: 'one' } }], decision).kind).toBe('unchanged');
      expect(under([{ name: 'ask', to, allow: {} }], decision)).toEqual({
        ...{ kind: 'newly-allowed', before: 'held', after: 'passed', rule: 'ask' },
      });
    },
  );

  test('one that passed by an approval was held', () => {
    const decision = passed(`${api}/a`, { hold: 'hold_01ARYZ6S410000000000000000' });
    expect(under([{ name: 'ask', to, hold: { approvers: 'one' } }], decision).kind).toBe('unchanged');
    expect(under([], decision)).toMatchObject({ kind: 'newly-denied', before: 'held' });
  });

  test('an agent that the candidate does not know is refused', () => {
    const decision = passed(`${api}/a`, { agent: 'spiffe://example.org/gone' });
    expect(under([{ name: 'all', to, allow: {} }], decision)).toMatchObject({
      kind: 'newly-denied',
      rule: '',
    });
  });

  test('the time of a condition is the record’s', () => {
    const rules = [{ name: 'day', to, when: 'now.getHours() < 12', allow: {} }];
    const at = (hour: string) =>
      passed(`${api}/a`, {
        at: { logical: 0, physical_ns: `${BigInt(Date.parse(`2026-03-04T${hour}:00:00Z`)) * 1_000_000n}` },
      });
    expect([under(rules, at('09')).kind, under(rules, at('15')).kind]).toEqual(['unchanged', 'newly-denied']);
  });

  test('what refused it beside the rules is told, not replayed', () => {
    const rules = [{ name: 'all', to, allow: {} }];
    for (const code of [
      'QuotaExceeded',
      'RateLimited',
      'InvalidAgent',
      'Overloaded',
      'HoldPolicyChanged',
      'Lockdown',
    ])
      expect(under(rules, refused(code, `${api}/a`))).toEqual({ kind: 'beside', code });
    const quota = passed(`${api}/a`, { kind: 'QuotaExceeded', code: 'QuotaExceeded' });
    expect(under([], quota)).toEqual({ kind: 'beside', code: 'QuotaExceeded' });
  });

  test('an address that was refused might not be where a rule now calls the host internal', () => {
    const decision = refused('AddressDenied', `${api}/a`, { rule: 'then' });
    expect(under([{ name: 'all', to, allow: {} }], decision).kind).toBe('beside');
    expect(under([{ name: 'all', to: { ...to, internal: true }, allow: {} }], decision)).toMatchObject({
      kind: 'undetermined',
      reads: 'the address of the host',
    });
    expect(under([], decision).kind).toBe('beside');
  });

  test('a path that the journal had to cut cannot be told', () => {
    expect(under([], passed(`${api}/aaaa… (30000 more)`))).toMatchObject({ kind: 'undetermined', rule: '' });
  });

  test('a rule that reads what is not on record is named with what it reads', () => {
    const rules = [{ name: 'small', to, when: 'request.body_bytes < 10', allow: {} }];
    expect(under(rules, passed(`${api}/a`))).toEqual({
      kind: 'undetermined',
      rule: 'small',
      reads: 'the body',
    });
  });

  test('the same rule under the same policy is known to have matched', () => {
    const rules = [{ name: 'small', to, when: 'request.body_bytes < 10', allow: {} }];
    const before = compile({ rules });
    const after = compile({ rules: [...rules, { name: 'more', to: { hosts: ['b.example'] }, allow: {} }] });
    const decision = passed(`${api}/a`, { rule: 'small', policy_version: before.version });
    expect(createReplay(after, [before])(decision).kind).toBe('unchanged');
    // Under a policy that is not known, or for an agent with other labels, nothing is concluded.
    expect(createReplay(after)(decision).kind).toBe('undetermined');
    const relabelled = compile({
      rules,
      agents: { ...base.agents, researcher: { identity: agent, labels: { team: 'x' } } },
    });
    expect(createReplay(relabelled, [before])(decision).kind).toBe('undetermined');
  });
});

describe('tunnels', () => {
  const connect = (more: object = {}) =>
    passed('tcp://api.example.org:443', { what: 'CONNECT', stage: 'connect', rule: '', pin: '', ...more });
  const unread = (inspect: string) => connect({ inspect, rule: 'then', pin: '192.0.2.1:443' });

  test('an intercepted CONNECT is unchanged where it is intercepted or passed unread, and denied where nothing is allowed', () => {
    expect(under([{ name: 'read', to, allow: {} }], connect()).kind).toBe('unchanged');
    expect(under([{ name: 'sni', to: { ...to, inspect: 'sni' }, allow: {} }], connect()).kind).toBe(
      'unchanged',
    );
    expect(under([], connect()).kind).toBe('newly-denied');
  });

  test('what was passed unread has no requests on record for a rule that would read them', () => {
    const decision = unread('sni');
    expect(under([{ name: 'sni', to: { ...to, inspect: 'sni' }, allow: {} }], decision).kind).toBe(
      'unchanged',
    );
    expect(under([{ name: 'read', to, allow: {} }], decision)).toEqual({
      ...{ kind: 'undetermined', rule: '', reads: 'the requests inside the tunnel' },
    });
  });

  test('a request inside a CONNECT passes where the tunnel is not read any more, and falls where it is refused', () => {
    const inside = refused('EgressDenied', `${api}/a`, { tunnelled: true });
    expect(under([{ name: 'sni', to: { ...to, inspect: 'sni' }, allow: {} }], inside)).toMatchObject({
      kind: 'newly-allowed',
      rule: 'sni',
    });
    const was = passed(`${api}/a`, { tunnelled: true });
    expect(under([{ name: 'no', to, forbid: {} }], was)).toMatchObject({ kind: 'newly-denied', rule: 'no' });
    // Not inside a tunnel, unread passing is of no use.
    expect(under([{ name: 'sni', to: { ...to, inspect: 'sni' }, allow: {} }], passed(`${api}/a`)).kind).toBe(
      'newly-denied',
    );
  });

  test('the first bytes of a tunnel repeat its CONNECT', () => {
    expect(under([], connect({ stage: 'tunnel' })).kind).toBe('repeat');
  });
});

describe('MCP', () => {
  const rules = [{ name: 'search', to: { ...to, mcp: { tools: ['search'] } }, allow: {} }];
  test('method and tool are read from the record', () => {
    const called = (mcp_tool: string) =>
      passed(`${api}/mcp`, { what: `POST tools/call ${mcp_tool}`, mcp_method: 'tools/call', mcp_tool });
    expect([under(rules, called('search')).kind, under(rules, called('delete')).kind]).toEqual([
      'unchanged',
      'newly-denied',
    ]);
    expect(under(rules, passed(`${api}/mcp`, { what: 'POST', mcp_invalid: true })).kind).toBe('newly-denied');
  });
  test('a message that nobody read cannot be told', () => {
    expect(under(rules, passed(`${api}/mcp`, { what: 'POST' }))).toMatchObject({
      kind: 'undetermined',
      reads: 'the MCP message',
    });
    // A GET through Envoy carries none.
    expect(under(rules, passed(`${api}/mcp`, { what: 'GET' })).kind).toBe('newly-denied');
  });

  test('a message that the candidate reads of nobody is none to its conditions', () => {
    const unread = [{ name: 'search', to, when: 'request.mcp.tool == "search"', allow: {} }];
    const call = { what: 'POST tools/call search', mcp_method: 'tools/call', mcp_tool: 'search' };
    expect(under(unread, passed(`${api}/mcp`, call)).kind).toBe('newly-denied');
  });
});

describe('records', () => {
  test('a destination comes back from its record as it was', () => {
    const host = fc.oneof(fc.domain(), fc.ipV4(), fc.constantFrom('::1', '2001:db8::1', 'a_b.example'));
    const path = fc.stringMatching(/^\/[A-Za-z0-9._~%:@!$&'()*+,;=/-]{0,40}$/);
    fc.assert(
      fc.property(
        fc.constantFrom('http', 'https', 'tcp'),
        host,
        fc.integer({ min: 1, max: 65_535 }),
        path,
        fc.stringMatching(/^[A-Z][A-Z0-9_-]{0,31}$/),
        fc.constantFrom<Destination['mcp']>({ kind: 'none' }, { kind: 'call', method: 'a b', tool: 'c d' }),
        (scheme, name, port, requested, method, mcp) => {
          const isTunnel = scheme === 'tcp';
          const destination: Destination = {
            ...{ scheme, host: name, hostIsAddress: /^[\d.]+$|:/.test(name), port, query: '' },
            ...(isTunnel
              ? { method: 'CONNECT', path: '', mcp: { kind: 'none' } }
              : { method, path: requested, mcp }),
          };
          const record = someDecision({
            what: whatOf(destination, { method }),
            resource: resourceOf(destination),
            ...(destination.mcp.kind === 'call'
              ? { mcp_method: destination.mcp.method, mcp_tool: destination.mcp.tool }
              : {}),
          });
          expect(destinationOf(recorded(record))).toEqual(destination);
        },
      ),
      fuzzRuns,
    );
  });

  test('no line makes it throw', () => {
    const replay = createReplay(compile({ rules: [{ name: 'all', to: { hosts: ['**'] }, allow: {} }] }));
    const keys = [
      'id',
      'agent',
      'kind',
      'code',
      'rule',
      'what',
      'resource',
      'via',
      'hold',
      'policy_version',
      'shadow',
      'calls',
      'lease_path',
      'mcp_method',
      'stage',
      'inspect',
    ];
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.constantFrom(...keys),
          fc.oneof(fc.string(), fc.constantFrom(agent, `${api}/a`, 'Allow'), fc.anything()),
        ),
        (fields) => {
          const at = { logical: 0, physical_ns: '1' };
          const decision = decisionOf({ ...someDecision(), ...fields, type: 'decision', at });
          if (decision !== undefined) expect(replay(decision)).toHaveProperty('kind');
        },
      ),
      fuzzRuns,
    );
  });
});

describe('the report', () => {
  const replayed = { kind: 'newly-allowed', before: 'denied', after: 'passed', rule: 'now' } as const;

  test('groups by agent, rule and resource with ids as stars, counts calls, keeps some examples', () => {
    const reporter = createReporter(2);
    for (let index = 0; index < 5; index += 1)
      reporter.add(passed(`${api}/users/${index}`, { calls: 3 }), replayed);
    reporter.add(passed(`${api}/users/x`), replayed);
    reporter.add(passed(`${api}/users/1`), { kind: 'unchanged' });
    const { groups, total, ...report } = reporter.report();
    expect([total, report.unchanged, report['newly-allowed']]).toEqual([
      { decisions: 7, calls: 17 },
      { decisions: 1, calls: 1 },
      { decisions: 6, calls: 16 },
    ]);
    expect(groups.map(({ resource, calls, examples }) => [resource, calls, examples.length])).toEqual([
      [`${api}/users/*`, 15, 2],
      [`${api}/users/x`, 1, 1],
    ]);
    expect(groups[0]).toMatchObject({ rule_before: 'then', rule_after: 'now', agent });
  });

  test('nothing that looks secret is in it', () => {
    const reporter = createReporter(2);
    reporter.add(passed(`${api}/bot123456:AAEhBP0av28FrTkXZ_abcdef/send`), replayed);
    expect(JSON.stringify(reporter.report())).not.toContain('AAEhBP0');
  });

  test('past so many groups the rest is told together', () => {
    const reporter = createReporter(1);
    const letters = (index: number) =>
      [...String(index)].map((digit) => 'abcdefghij'[Number(digit)]).join('');
    for (let index = 0; index < limits.replayGroupsMax + 5; index += 1)
      reporter.add(passed(`${api}/${letters(index)}`), replayed);
    const { groups } = reporter.report();
    expect(groups).toHaveLength(limits.replayGroupsMax + 1);
    expect(groups[0]).toMatchObject({ resource: '(more)', calls: 5 });
  });

  test('what cannot be told is counted by rule', () => {
    const reporter = createReporter(1);
    for (const calls of [1, 4])
      reporter.add(passed(`${api}/a`, { calls }), { kind: 'undetermined', rule: 'small', reads: 'the body' });
    expect(reporter.report().doubts).toEqual([{ rule: 'small', reads: 'the body', decisions: 2, calls: 5 }]);
  });
});
