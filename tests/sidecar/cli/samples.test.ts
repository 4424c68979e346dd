import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parsePolicy } from '../../../config/policy/parse.ts';
import { compilePolicy } from '../../../filters/policy/compile.ts';
import type { CompiledPolicy } from '../../../filters/policy/compiled.ts';
import { exampleFor } from '../../../sidecar/cli/demo.ts';
import type { FirstScreen } from '../../../sidecar/cli/first-screen.ts';
import { agentOfUser, firstScreen, noteFor } from '../../../sidecar/cli/first-screen.ts';
import { samplesOf } from '../../../sidecar/cli/samples.ts';
import { examplePolicy } from '../../../sidecar/cli/settings.ts';
import { commandLineTo } from '../../../sidecar/invocation.ts';

const demo = { http: 20_090, https: 20_443 };
const example = exampleFor(demo, readFileSync(examplePolicy, 'utf8'));

function compiled(text: string): CompiledPolicy {
  const parsed = parsePolicy(text, 'policy.yaml');
  const result = parsed.ok ? compilePolicy(parsed.value, { uidOf: () => undefined }) : parsed;
  if (!result.ok) throw new Error(JSON.stringify(result.issues));
  return result.value;
}

const status = {
  data_plane: { kind: 'embedded', reason: '', proxy: 'http://127.0.0.1:10080', proxy_tls: undefined },
  ca: { file: '/run/s/ca.pem', bundle: '', dir: '' },
} as const;

const titles = (text: string, agent: string | undefined): readonly string[] =>
  samplesOf({
    demo,
    status,
    policy: compiled(text),
    agent,
    commandLine: commandLineTo(' --state-dir /s'),
  }).map(({ title }) => title);

const held =
  'held until somebody approves it, in another window: sallyport holds approve --state-dir /s --by operator';
const all = [
  'allowed',
  'denied: a rule forbids it',
  'throttled: the quota is 3 in 1 min, one more call is refused',
  held,
  'HTTPS, whose method and path the policy sees',
];

test('the example policy has a line for each thing that can happen to a call', () => {
  expect(titles(example, 'demo')).toEqual(all);
});

test('a changed copy has the lines that are still true of it, in its own words', () => {
  const changed = example
    .replace('limit: 3, window: 1m', 'limit: 5, window: 1h')
    .replace('members: [operator, root]', 'members: ["dana o"]')
    .replace('paths: [/hello, /stream]', 'paths: [/stream]');
  expect(titles(changed, 'demo')).toEqual([
    'denied: a rule forbids it',
    'throttled: the quota is 5 in 1 h, one more call is refused',
    held.replace('operator', "'dana o'"),
    'HTTPS, whose method and path the policy sees',
  ]);
});

const foreign = `version: 1
agents: { mine: { identity: spiffe://example.org/mine } }
rules: [{ name: read, to: { hosts: [api.example.org] }, allow: {} }]
`;

test('another policy has none, nor has a caller that the policy does not know', () => {
  expect(titles(foreign, 'mine')).toEqual([]);
  expect(titles(foreign, 'demo')).toEqual([]);
  expect(titles(example, undefined)).toEqual([]);
});

test('a screen of the examples without lines to paste says why', () => {
  const shown = {
    ...{ ...status, version: '0', admin: { socket: '/a', url: undefined }, state_dir: '/s' },
    policy: { file: '/p', version: 'v' },
  };
  const screen = (samples: FirstScreen['samples']): string =>
    firstScreen({ status: shown, demo, samples, commandLine: commandLineTo(''), agentNote: '' }).join('\n');
  expect(screen([])).toContain('No lines to paste');
  expect(screen([{ title: 'allowed', command: 'curl' }])).not.toContain('No lines to paste');
});

test('whom the policy does not know is told so', () => {
  const mine = agentOfUser(compiled(foreign), 'mine');
  expect([mine, noteFor(mine, 'mine')]).toEqual(['mine', '']);
  const nobody = agentOfUser(compiled(foreign), 'demo');
  expect(nobody).toBeUndefined();
  expect(noteFor(nobody, 'demo')).toContain('nor is demo (identity.pod_agent) one');
});
