/** One reading of a file that is no policy yet tells everything that is wrong with it. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { formatIssue } from '../../../config/policy/issue.ts';
import { parsePolicy } from '../../../config/policy/parse.ts';
import { draftProblems } from '../../../filters/policy/draft.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

const issues = (text: string): string[] => {
  const result = parsePolicy(text, 'p.yaml', draftProblems);
  return result.ok ? [] : result.issues.map(formatIssue);
};

test('shape, names, repeated keys, conditions and patterns are told at once, each in its place', () => {
  expect(
    issues(`version: 2
agents: { a: { identity: "spiffe://x.test/a" } }
hosts: { group: ["a_b..test"] }
rules:
  - name: one
    to: { hosts: [x.test, group, "https://y.test"], methods: [get], paths: [/a*, /b] }
    when: request.method ==
    allow: {}
    allow: {}
  - name: two
    agents: [nobody]
    to: { hosts: [x.test], inspect: sni, schemes: [http] }
    when: request.path == "/" && agent.nmae == "a"
    forbid: {}
  - name: three
    to: { hosts: [x.test], inspect: sni }
    when: request.path == "/"
    allow: {}
  - name: four
    to: { hosts: [x.test] }
    when: destination.port
    allow: {}
quotas: [{ name: q, to: { paths: [/%2f] }, limit: 1, window: 1m }]
`),
  ).toEqual([
    'p.yaml:1:10: version: expected 1, found 2',
    'p.yaml:3:18: hosts.group[0]: expected labels of 1 to 63 letters, digits, hyphens and underscores; found "" in "a_b..test"',
    'p.yaml:6:34: rules[0].to.hosts[2]: expected a host without scheme and path; found "https://y.test"',
    'p.yaml:6:63: rules[0].to.methods[0]: expected an HTTP method in upper case, found "get"',
    'p.yaml:6:77: rules[0].to.paths[0]: expected `*` or `**` as a whole segment; found "a*"',
    expect.stringMatching(
      /^p\.yaml:7:11: rules\[0\]\.when: expected a valid CEL condition: .+; found "request\.method =="$/,
    ),
    'p.yaml:9:5: rules[0].allow: expected each key once, found "allow" twice; it stands first in line 8',
    'p.yaml:11:14: rules[1].agents[0]: expected an agent of `agents`, found "nobody"',
    'p.yaml:12:51: rules[1].to.schemes: expected https: `inspect: sni` passes TLS only; found http',
    expect.stringMatching(/^p\.yaml:13:11: rules\[1\]\.when: expected a valid CEL condition: .*nmae/),
    'p.yaml:17:11: rules[2].when: expected a condition over agent, destination and now: `inspect: sni` reads no request; found "request.path == \\"/\\""',
    'p.yaml:21:11: rules[3].when: expected a condition that is true or false, not one of type int; found "destination.port"',
    'p.yaml:23:35: quotas[0].to.paths[0]: expected a path without encoded slash, backslash or null, which no request may have; found "/%2f"',
  ]);
});

test('what the schema or the names say of a field is not told twice', () => {
  const long = `${'x.'.repeat(150)}test`;
  expect(
    issues(`version: 1
rules:
  - { name: r, to: { hosts: ["${long}", group], paths: [a] }, when: "", allow: {} }
`),
  ).toHaveLength(4);
});

test('of a repeated key the last value is looked at further', () => {
  expect(
    issues(`version: 1
rules: [{ name: r, to: { hosts: [x.test] }, allow: {} }]
rules: [{ name: r, to: { hosts: [x.test] }, when: "1", alow: {} }]
`),
  ).toEqual([
    'p.yaml:3:1: rules: expected each key once, found "rules" twice; it stands first in line 2',
    'p.yaml:3:9: rules[0]: expected exactly one of forbid, hold, allow; found none',
    'p.yaml:3:51: rules[0].when: expected a condition that is true or false, not one of type int; found "1"',
    expect.stringContaining('rules[0].alow: unknown key'),
  ]);
});

test('thousands of errors are counted, and so many shown', () => {
  const rules = Array.from(
    { length: 3_000 },
    (_, index) => `  - { name: r${index}, to: { hosts: [x.test] }, when: "1 +", alow: {} }`,
  );
  const result = parsePolicy(`version: 1\nrules:\n${rules.join('\n')}\n`, 'p.yaml', draftProblems);
  if (result.ok) throw new Error('it is no policy');
  expect(result.issues).toHaveLength(limits.policyErrorsShownMax + 1);
  // Two of each rule by the schema, and as many conditions as are looked for.
  expect(result.count).toBe(6_000 + limits.policyErrorsFoundMax);
});

test('any document is looked at', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.anything(),
        fc.record({
          hosts: fc.anything(),
          rules: fc.array(
            fc.oneof(
              fc.anything(),
              fc.record({
                to: fc.oneof(
                  fc.anything(),
                  fc.record({ hosts: fc.anything(), paths: fc.array(fc.string()) }),
                ),
                when: fc.oneof(fc.anything(), fc.string({ unit: 'binary' })),
              }),
            ),
          ),
          quotas: fc.anything(),
        }),
      ),
      (document) => {
        for (const problem of draftProblems(document)) expect(problem.message()).not.toBe('');
      },
    ),
    fuzzRuns,
  );
});
