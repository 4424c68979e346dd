import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { formatIssue } from '../../../config/policy/issue.ts';
import { loadPolicy, parsePolicy } from '../../../config/policy/parse.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

const folder = mkdtempSync(join(tmpdir(), 'sallyport-parse-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const issues = (text: string): string[] => {
  const result = parsePolicy(text, 'p.yaml');
  return result.ok ? [] : result.issues.map(formatIssue);
};
const minimal = 'version: 1\n';

test('a policy gets its defaults, durations in milliseconds, and a version from its text', () => {
  const text = `${minimal}agents: { a: { identity: "spiffe://x.test/a" } }
rules:
  - { name: r, to: { hosts: [x.test] }, hold: { approvers: ops } }
approvers: { ops: { members: [dana] } }
`;
  const result = parsePolicy(text, 'p.yaml');
  if (!result.ok) throw new Error(issues(text).join('\n'));
  expect(result.value.policy.rules[0]?.hold).toEqual({
    approvers: 'ops',
    wait: 30_000,
    timeout: 3_600_000,
    on_timeout: 'deny',
  });
  expect(result.value.policy.rules[0]?.to).toMatchObject({ inspect: 'tls', internal: false });
  expect(result.value.version).toMatch(/^[0-9a-f]{12}$/);
  const other = parsePolicy(`${text}\n`, 'p.yaml');
  expect(other.ok && other.value.version).not.toBe(result.value.version);
});

test('everything wrong is told at once, by place, with what was expected, what was found and what was meant', () => {
  expect(
    issues(`version: 2
agents:
  A: { identity: "spiffe://x.test/A" }
  b: { identity: nobody, user: [root] }
rulez: []
rules:
  - name: one
    to: { hosts: [x.test], methods: [get], ports: [0], inspect: snj }
    alow: {}
  - name: two
    to: { hosts: [x.test] }
    hold: { wait: 90s }
    allow: {}
  - 5
quotas: [{ name: q, limit: "3", window: 1x }]
`),
  ).toEqual([
    'p.yaml:1:10: version: expected 1, found 2',
    'p.yaml:3:3: agents.A: expected a name of lower-case letters, digits, dot, underscore and hyphen as the key',
    'p.yaml:4:18: agents.b.identity: expected a SPIFFE ID: spiffe://trust-domain/path, found "nobody"',
    'p.yaml:4:26: agents.b.user: unknown key; known here: identity, users, credentials, labels; did you mean "users"?',
    'p.yaml:5:1: rulez: unknown key; known here: version, agents, hosts, routes, rules, quotas, approvers; did you mean "rules"?',
    'p.yaml:7:5: rules[0]: expected exactly one of forbid, hold, allow; found none',
    'p.yaml:8:38: rules[0].to.methods[0]: expected an HTTP method in upper case, found "get"',
    'p.yaml:8:52: rules[0].to.ports[0]: expected a number of at least 1, found 0',
    'p.yaml:8:65: rules[0].to.inspect: expected one of "tls", "sni", "tunnel", found "snj"; did you mean "sni"?',
    'p.yaml:9:5: rules[0].alow: unknown key; known here: name, agents, to, when, forbid, hold, allow, mode; did you mean "allow"?',
    'p.yaml:10:5: rules[1]: expected exactly one of forbid, hold, allow; found hold and allow',
    'p.yaml:12:5: rules[1].hold.approvers: missing; expected text',
    'p.yaml:12:19: rules[1].hold.wait: expected a duration from 0s to 80s, found 90s',
    'p.yaml:14:5: rules[2]: expected a mapping, found 5',
    'p.yaml:15:28: quotas[0].limit: expected a number, found "3"',
    'p.yaml:15:41: quotas[0].window: expected a duration such as 250ms, 30s, 5m, 1h or 7d, found "1x"',
  ]);
});

test('names that nothing carries are told with the nearest that something does', () => {
  expect(
    issues(`${minimal}agents: { deployer: { identity: "spiffe://x.test/d" } }
hosts: { github: [api.github.com] }
rules:
  - { name: read, agents: [deploier], to: { hosts: [gihub] }, hold: { approvers: maintainer } }
quotas:
  - { name: q, agents: [nobody], rules: [raed], to: { hosts: [githubb] }, limit: 1, window: 1m }
approvers: { maintainers: { members: [dana] } }
`),
  ).toEqual([
    'p.yaml:5:28: rules[0].agents[0]: expected an agent of `agents`, found "deploier"; did you mean "deployer"?',
    'p.yaml:5:53: rules[0].to.hosts[0]: expected a host group of `hosts`, found "gihub"; did you mean "github"? (a host of one label is named through a group)',
    'p.yaml:5:82: rules[0].hold.approvers: expected a group of `approvers`, found "maintainer"; did you mean "maintainers"?',
    'p.yaml:7:25: quotas[0].agents[0]: expected an agent of `agents`, found "nobody"',
    'p.yaml:7:42: quotas[0].rules[0]: expected the name of a rule, found "raed"; did you mean "read"?',
    'p.yaml:7:63: quotas[0].to.hosts[0]: expected a host group of `hosts`, found "githubb"; did you mean "github"?' +
      ' (a host of one label is named through a group)',
  ]);
});

test('a typing error in a field does not hide a name that is wrong elsewhere in the same rule', () => {
  const found = issues(`${minimal}rules:
  - { name: r, agents: [nobody], to: { hosts: [x.test], ports: [http] }, allow: {}, forbid: {} }
`);
  expect(found).toHaveLength(3);
});

test('names and users and identities stand once', () => {
  expect(
    issues(`${minimal}agents:
  a: { identity: "spiffe://x.test/a", users: [1000, dana] }
  b: { identity: "spiffe://x.test/a", users: ["1000", lee] }
rules:
  - { name: r, to: { hosts: [x.test] }, allow: {} }
  - { name: r, to: { hosts: [y.test] }, allow: {} }
quotas:
  - { name: q, limit: 1, window: 1m }
  - { name: q, limit: 2, window: 1m }
`),
  ).toEqual([
    'p.yaml:4:18: agents.b.identity: expected an identity of its own, found that of agent "a"',
    'p.yaml:4:47: agents.b.users[0]: expected a user of no other agent, found "1000", who is agent "a"',
    'p.yaml:7:13: rules[1].name: expected a name of its own, found "r" as in rules[0]',
    'p.yaml:10:13: quotas[1].name: expected a name of its own, found "q" as in quotas[0]',
  ]);
});

test('an internal destination is named exactly, through a group too', () => {
  expect(
    issues(`${minimal}hosts: { wide: ["*.x.test"], exact: [db.x.test] }
rules:
  - { name: a, to: { hosts: ["**.x.test"], internal: true }, allow: {} }
  - { name: b, to: { hosts: [wide], internal: true }, allow: {} }
  - { name: c, to: { hosts: [exact, 10.0.0.1, "::1", localhost], internal: true }, allow: {} }
  - { name: d, to: { hosts: [wide] }, allow: {} }
`),
  ).toEqual([
    'p.yaml:4:30: rules[0].to.hosts[0]: `internal: true` needs hosts named exactly, found "**.x.test"',
    'p.yaml:5:30: rules[1].to.hosts[0]: `internal: true` needs hosts named exactly, found "*.x.test" in the group wide',
  ]);
});

test('groups of hosts hold hosts only, and their names cannot be read as hosts', () => {
  expect(issues(`${minimal}hosts: { a: [b], b: [x.test], c.d: [y.test], payments: [payments] }\n`)).toEqual([
    'p.yaml:2:14: hosts.a[0]: expected a host, found the group "b"; groups do not stand in groups',
    'p.yaml:2:31: hosts.c.d: expected a group name without a dot: with one it reads as a host',
  ]);
});

test('a quorum is at most the number of different members', () => {
  expect(issues(`${minimal}approvers: { ops: { members: [dana, dana], quorum: 2 } }\n`)).toEqual([
    'p.yaml:2:52: approvers.ops.quorum: expected at most 1, the number of different members, found 2',
  ]);
});

test('what is passed unread cannot be checked by method, path or tool, nor held', () => {
  const found = issues(`${minimal}rules:
  - { name: a, to: { hosts: [x.test], inspect: sni, methods: [GET], paths: [/a], mcp: {} }, allow: {} }
  - { name: b, to: { hosts: [x.test], inspect: tunnel }, hold: { approvers: ops } }
approvers: { ops: { members: [dana] } }
`);
  expect(found.map((line) => line.split(': ')[1])).toEqual([
    'rules[0].to.methods',
    'rules[0].to.paths',
    'rules[0].to.mcp',
    'rules[1].to.ports',
    'rules[1].hold',
  ]);
});

test('a password put where its hash belongs is not repeated', () => {
  const found = issues(
    `${minimal}agents: { a: { identity: "spiffe://x.test/a", credentials: [hunter2] } }\n`,
  );
  expect(found).toEqual([
    'p.yaml:2:61: agents.a.credentials[0]: expected sha256: and 64 lower-case hex digits, found other text',
  ]);
});

test.each([
  ['an empty file', '', 'expected a mapping, found null'],
  ['a list', '[]\n', 'expected a mapping, found a list of 0'],
  ['broken YAML', 'version: [1', 'not valid YAML'],
  ['a second document', 'version: 1\n---\nversion: 1\n', 'one YAML document'],
  [
    'a key twice',
    'version: 1\nrules: []\nrules: []\n',
    'p.yaml:3:1: rules: expected each key once, found "rules" twice; it stands first in line 2',
  ],
  ['a tag', 'version: !number 1\n', 'no tags'],
  ['YAML 1.1', '%YAML 1.1\n---\nversion: 1\n', 'expected YAML 1.2'],
  ['NUL', 'version: 1\n# \0\n', 'U+0000'],
  ['a terminal escape', 'version: 1\n# \u001b[31m\n', 'U+001B'],
  ['what a lossy decoder left', 'version: 1\n# \ufffd\n', 'valid UTF-8'],
  ['half of a surrogate pair', 'version: 1\n# \ud800\n', 'valid UTF-8'],
  ['__proto__', '__proto__: { version: 1 }\n', '__proto__'],
  ['__proto__ as an agent', 'version: 1\nagents: { __proto__: { identity: "spiffe://a/b" } }\n', '__proto__'],
  [
    'constructor as an agent',
    'version: 1\nagents: { constructor: { identity: "spiffe://a/b" } }\n',
    'a name of',
  ],
  ['an alias without anchor', 'version: *one\n', 'alias'],
  ['a mapping as a key', '? { a: 1 }\n: 2\n', 'not valid YAML'],
  ['a merge key', 'version: 1\n<<: { rules: [] }\n', 'unknown key'],
])('%s is refused', (_, text, expected) => {
  expect(issues(text).join('\n')).toContain(expected);
});

test('aliases that multiply are refused before they are expanded', () => {
  const bomb = ['a: &a [x, x, x, x, x, x, x, x, x]'];
  for (let i = 1; i < 9; i += 1) {
    const before = String.fromCharCode(96 + i);
    bomb.push(
      `${String.fromCharCode(97 + i)}: &${String.fromCharCode(97 + i)} [${`*${before}, `.repeat(9)}]`,
    );
  }
  expect(issues(bomb.join('\n')).join('\n')).toContain('aliases expand');
});

test('an alias that stands inside its own anchor ends as an issue', () => {
  expect(issues('version: 1\nagents: &a { a: *a }\n').length).toBeGreaterThan(0);
});

test('depth, tokens and bytes are bounded', () => {
  expect(issues('['.repeat(100_000)).length).toBeGreaterThan(0);
  expect(issues(`a: [${'a,'.repeat(limits.policyTokensMax / 2)}]`).join('\n')).toContain('YAML tokens');
  expect(issues(`#${'x'.repeat(limits.policyBytesMax)}`).join('\n')).toContain(
    `the limit is ${limits.policyBytesMax}`,
  );
});

test('past the limit of shown errors the rest is counted', () => {
  const rules = Array.from({ length: 80 }, (_, index) => `  - { name: r${index}, to: { hosts: [x.test] } }`);
  const found = issues(`${minimal}rules:\n${rules.join('\n')}\n`);
  expect(found).toHaveLength(limits.policyErrorsShownMax + 1);
  expect(found.at(-1)).toBe('p.yaml: 30 more');
});

test('an error found after parsing gets the place of its field', () => {
  const result = parsePolicy(
    `${minimal}rules:\n  - name: r\n    to: { hosts: [x.test] }\n    when: 1 +\n    allow: {}\n`,
    'p.yaml',
  );
  if (!result.ok) throw new Error('the policy is valid');
  expect(formatIssue(result.value.issueAt(['rules', 0, 'when'], 'broken'))).toBe(
    'p.yaml:5:11: rules[0].when: broken',
  );
  expect(result.value.issueAt(['rules', 0, 'forbid', 'reason'], 'x')).toMatchObject({ line: 3, column: 5 });
});

test('a file that is not there, not a file, or not UTF-8 is an issue', () => {
  const file = join(folder, 'policy.yaml');
  expect(loadPolicy(file)).toMatchObject({ ok: false });
  expect(loadPolicy(folder)).toMatchObject({ ok: false });
  writeFileSync(file, Buffer.from([0x76, 0x3a, 0x20, 0xff, 0xfe]));
  const bad = loadPolicy(file);
  expect(bad.ok ? [] : bad.issues.map((issue) => issue.message)).toEqual(['it is not valid UTF-8']);
  writeFileSync(file, minimal);
  expect(loadPolicy(file)).toMatchObject({ ok: true });
});

const settled = (text: string): boolean => {
  const result = parsePolicy(text, 'p.yaml');
  return result.ok || (result.issues.length > 0 && result.issues.every((issue) => issue.message !== ''));
};

test('any text gives a policy or issues', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string({ unit: 'binary', maxLength: 400 }), fc.string({ maxLength: 400 })),
      settled,
    ),
    fuzzRuns,
  );
});

const pieces = [
  'version: 1',
  'rules:',
  '  - name: a',
  '    to:',
  'to: { hosts: [',
  ']',
  '}',
  '{',
  '- ',
  ': ',
  '*a',
  '&a ',
  '!!str ',
  '<<: ',
  '? ',
  '| ',
  '"',
  "'",
  '#',
  '---',
  '...',
  '%YAML 1.1',
  '\n',
  '  ',
  '\t',
  'agents',
  'allow: {}',
  'null',
  '0x1',
  '~',
  '[',
  '__proto__',
  '.nan',
  '1e999',
];
test('any arrangement of pieces of YAML gives a policy or issues', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 60 }), (parts) => settled(parts.join(''))),
    fuzzRuns,
  );
});

test('any JSON value in any section gives a policy or issues', () => {
  const section = fc.constantFrom('agents', 'hosts', 'routes', 'rules', 'quotas', 'approvers', 'version');
  fc.assert(
    fc.property(fc.dictionary(section, fc.jsonValue({ maxDepth: 5 })), (document) =>
      settled(JSON.stringify(document)),
    ),
    fuzzRuns,
  );
});
