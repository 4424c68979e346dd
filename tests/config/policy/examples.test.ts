import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { formatIssue } from '../../../config/policy/issue.ts';
import { loadPolicy } from '../../../config/policy/parse.ts';
import { loadSettings } from '../../../config/settings-load.ts';
import { readMcp } from '../../../filters/content/mcp.ts';
import { canonicalDestination } from '../../../filters/egress/canonical.ts';
import type { Destination } from '../../../filters/facts.ts';
import { parseCases, runCases } from '../../../filters/policy/cases.ts';
import { compilePolicy } from '../../../filters/policy/compile.ts';

const root = new URL('../../../', import.meta.url).pathname;

test('the example policy is valid and knows the agent of the demo', () => {
  const result = loadPolicy(`${root}config/examples/policy.yaml`);
  if (!result.ok) throw new Error(result.issues.map(formatIssue).join('\n'));
  expect(Object.keys(result.value.policy.agents)).toEqual(['demo']);
});

test('every rule of the example policy that is enforced has a case', () => {
  const policy = loadPolicy(`${root}config/examples/policy.yaml`);
  if (!policy.ok) throw new Error(policy.issues.map(formatIssue).join('\n'));
  const { cases } = parse(readFileSync(`${root}config/examples/cases.yaml`, 'utf8'));
  const covered = new Set(cases.map((one: { expect: { rule?: string } }) => one.expect.rule));
  const rules = policy.value.policy.rules.filter((rule) => rule.mode === 'enforce').map((rule) => rule.name);
  expect(rules.filter((rule) => !covered.has(rule))).toEqual([]);
});

test('the example settings load and name the example policy', () => {
  const loaded = loadSettings({
    env: {},
    isRoot: false,
    home: '/home/x',
    cwd: root,
    file: 'config/examples/sallyport.yaml',
  });
  if (!loaded.ok) throw new Error(loaded.issues.map(formatIssue).join('\n'));
  expect(loaded.value.settings).toMatchObject({
    policy: 'config/examples/policy.yaml',
    demo: true,
    identity: { pod_agent: 'demo' },
    resolver: { hosts: { 'demo.sallyport.test': '127.0.0.1' } },
  });
});

const connection = {
  sourceAddress: '',
  sourcePort: 0,
  connectionId: '',
  peerSpiffeId: '',
  tunnelAgent: '',
  tunnelProof: '',
  tunnelAuthority: '',
  sni: '',
};
function destinationOf(method: string, url: string, bytes: Uint8Array): Destination {
  const [, scheme = '', authority = '', path = '/'] = /^(https?):\/\/([^/]+)(\/.*)?$/.exec(url) ?? [];
  return canonicalDestination({
    stage: 'request',
    connection,
    method,
    scheme,
    authority,
    path,
    headers: {},
    body: { kind: 'whole', bytes },
    mcp: path === '/mcp' && bytes.length > 0 ? readMcp(bytes, 'application/json') : { kind: 'none' },
    requestId: '',
    via: 'cli',
  });
}

test('the example cases pass on the example policy', () => {
  const parsed = loadPolicy(`${root}config/examples/policy.yaml`);
  const policy = parsed.ok ? compilePolicy(parsed.value, { uidOf: () => undefined }) : parsed;
  const cases = parseCases(readFileSync(`${root}config/examples/cases.yaml`, 'utf8'), 'cases.yaml');
  if (!policy.ok || !cases.ok) throw new Error('the examples are not valid');
  const results = runCases(policy.value, cases.value, 0, destinationOf);
  expect(results.filter((result) => !result.ok).map((result) => `${result.name}: ${result.why}`)).toEqual([]);
});
