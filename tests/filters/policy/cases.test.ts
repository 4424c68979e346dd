import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SallyportError } from '../../../config/errors.ts';
import type { Destination } from '../../../filters/facts.ts';
import { parseCases, runCases } from '../../../filters/policy/cases.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { compile, destinationOf, tunnelTo } from './compiled-policy.ts';

const policy = compile({
  rules: [
    { name: 'read', to: { hosts: ['a.example'], methods: ['GET'] }, allow: {} },
    {
      name: 'small',
      to: { hosts: ['a.example'], methods: ['POST'] },
      when: 'request.json.n < 5 && request.headers["x-a"] == "b"',
      allow: {},
    },
    {
      name: 'tool',
      to: { hosts: ['a.example'], methods: ['PUT'], mcp: { tools: ['x'] } },
      hold: { approvers: 'one' },
    },
    { name: 'db', to: { hosts: ['db.example'], ports: [5432], inspect: 'tunnel' }, allow: {} },
  ],
});

function readUrl(method: string, text: string): Destination {
  if (method === 'CONNECT') return tunnelTo(text.split(':')[0] ?? '', Number(text.split(':')[1]));
  const url = URL.parse(text);
  if (url === null) throw new SallyportError('DestinationInvalid', 'the URL cannot be read');
  return destinationOf({ method, host: url.hostname, path: url.pathname });
}

const text = `
cases:
  - name: a read
    agent: researcher
    request: { method: GET, url: https://a.example/x }
    expect: { decision: allow, rule: read }
  - name: a small write
    agent: researcher
    request: { method: POST, url: https://a.example/, headers: { X-A: b }, body: '{"n": 4}' }
    expect: { decision: allow }
  - name: a large write
    agent: researcher
    request: { method: POST, url: https://a.example/, headers: { X-A: b }, body: '{"n": 5}' }
    expect: { decision: none }
  - name: a tool
    agent: researcher
    request: { method: PUT, url: https://a.example/, mcp: { method: tools/call, tool: x } }
    expect: { decision: hold, rule: tool }
  - name: a tunnel
    agent: researcher
    request: { method: CONNECT, url: 'db.example:5432' }
    expect: { decision: allow, rule: db }
  - name: an intercepted tunnel
    agent: researcher
    request: { method: CONNECT, url: 'a.example:443' }
    expect: { decision: intercept }
  - name: a wrong expectation
    agent: researcher
    request: { method: GET, url: https://a.example/x }
    expect: { decision: forbid, rule: other }
  - name: an unknown agent
    agent: nobody
    request: { method: GET, url: https://a.example/x }
    expect: { decision: none }
  - name: no URL
    agent: researcher
    request: { method: GET, url: 'a.example' }
    expect: { decision: none }
`;

test('cases run against the policy', () => {
  const cases = parseCases(text, 'cases.yaml');
  if (!cases.ok) throw new Error(JSON.stringify(cases.issues));
  const results = runCases(policy, cases.value, 0, readUrl);
  expect(results.map((one) => `${one.ok ? 'ok' : 'FAIL'} ${one.name} ${one.got} ${one.rule}`.trim())).toEqual(
    [
      'ok a read allow read',
      'ok a small write allow small',
      'ok a large write none',
      'ok a tool hold tool',
      'ok a tunnel allow db',
      'ok an intercepted tunnel intercept',
      'FAIL a wrong expectation allow read',
      'FAIL an unknown agent invalid',
      'FAIL no URL invalid',
    ],
  );
  expect(results[6]?.why).toBe('expected forbid by other, got allow by read');
  expect(results[7]?.why).toBe('expected none, got invalid (the policy has no agent nobody)');
});

test('what is wrong with a file of cases is told with its line', () => {
  const wrong = parseCases(
    'cases:\n  - name: a\n    agent: b\n    request: { method: get, url: x }\n    expect: { decision: maybe }\n',
    'cases.yaml',
  );
  expect(wrong.ok ? [] : wrong.issues.map((issue) => `${issue.line} ${issue.field}`)).toEqual([
    '4 cases[0].request.method',
    '5 cases[0].expect.decision',
  ]);
});

test('no text makes the reader of cases throw', () => {
  const line = fc.constantFrom(
    'cases:',
    '  - name: a',
    '    agent: x',
    '    request: {',
    'method: GET',
    '}',
    '    expect: {decision: allow}',
    '&a',
    '*a',
    '"',
    '[',
    '\t',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(line).map((lines) => lines.join('\n')),
        fc.string({ unit: 'binary' }),
      ),
      (garbage) => {
        const parsed = parseCases(garbage, 'cases.yaml');
        if (!parsed.ok) expect(parsed.issues.length).toBeGreaterThan(0);
      },
    ),
    fuzzRuns,
  );
});
