/** A policy file read in between, or by a process of its own: the same policy, the same errors. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { formatIssue } from '../../../config/policy/issue.ts';
import { parsePolicy, policyVersion } from '../../../config/policy/parse.ts';
import type { Loaded } from '../../../config/policy/watch.ts';
import { compilePolicy } from '../../../filters/policy/compile.ts';
import type { CompiledPolicy } from '../../../filters/policy/compiled.ts';
import { loadPolicyFile, userLookup } from '../../../filters/policy/reader.ts';
import { decided, factsOf } from './compiled-policy.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-reader-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const never = new AbortController().signal;
const write = (text: string): string => {
  const file = join(folder, 'policy.yaml');
  writeFileSync(file, text);
  return file;
};
const load = (text: string, known: readonly string[] = [], signal = never): Promise<Loaded<CompiledPolicy>> =>
  loadPolicyFile(write(text), known, signal);

const small = `version: 1
agents:
  researcher: { identity: spiffe://x.test/researcher, users: [root], labels: { "__proto": "1", a: "\u{1f512} \u2028" } }
hosts: { own: [api.github.com, "*.x.test"] }
routes: { /openai: { upstream: "https://api.openai.com/v1" } }
rules:
  - { name: read, to: { hosts: [own], methods: [GET] }, when: agent.labels.a != "", allow: {} }
  - { name: write, to: { hosts: [own], paths: [/a/**] }, hold: { approvers: ops, wait: 1m } }
quotas: [{ name: q, rules: [read], limit: 5, window: 1h }]
approvers: { ops: { members: [dana] } }
`;
const padding = (bytes: number): string => `# ${'x'.repeat(bytes)}\n`;
const large = `${padding(limits.policyInlineBytesMax)}${small}`;
const many = (count: number): string =>
  small.replace(
    'quotas:',
    `${Array.from({ length: count }, (_, index) => `  - { name: r${index}, to: { hosts: [h${index}.x.test] }, forbid: {} }`).join('\n')}\nquotas:`,
  );

/** Of this process. */
const children = (): string[] =>
  readdirSync('/proc/self/task').flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' ').filter(Boolean),
  );

test.each([
  ['a small file', small],
  ['a large one', large],
  ['one of thousands of rules', many(3_000)],
])('%s gives what parsing and compiling it gives', async (_, text) => {
  const loaded = await load(text);
  if (loaded.kind !== 'value') throw new Error(JSON.stringify(loaded));
  expect(loaded.key).toBe(policyVersion(text));
  const parsed = parsePolicy(text, 'p.yaml');
  const direct = parsed.ok ? compilePolicy(parsed.value, userLookup) : parsed;
  if (!direct.ok) throw new Error('the policy is valid');
  const policy = loaded.value;
  expect(policy.version).toBe(loaded.key);
  expect(JSON.stringify(policy.source.rules)).toBe(JSON.stringify(direct.value.source.rules));
  expect(policy.source).toEqual(JSON.parse(JSON.stringify(direct.value.source)));
  expect(policy.agentByUser(0)?.name).toBe('researcher');
  expect([...policy.routes]).toEqual([...direct.value.routes]);
  const facts = factsOf(policy, { path: '/a/b' });
  expect(policy.evaluate(facts)).toEqual(direct.value.evaluate(facts));
  expect(decided(policy, facts)).toBe('hold by write');
});

test.each([
  ['a small file', ''],
  ['a large one', padding(limits.policyInlineBytesMax)],
])('everything wrong with %s is told, each in its place', async (_, before) => {
  const line = before === '' ? 0 : 1;
  const wrong = await load(`${before}${small.replace('version: 1', 'version: 2').replace('!= ""', '!= 1')}`);
  if (wrong.kind !== 'refused') throw new Error('the policy is wrong');
  expect(wrong.issues.map((issue) => [issue.line - line, issue.field])).toEqual([
    [1, 'version'],
    [7, 'rules[0].when'],
  ]);
  const stranger = await load(`${before}${small.replace('[root]', '[nobody-of-this-name]')}`);
  if (stranger.kind !== 'refused') throw new Error('the user is not there');
  expect(stranger.issues.map(formatIssue).join('\n')).toMatch(
    new RegExp(`policy.yaml:${line + 3}:\\d+: agents.researcher.users\\[0\\]: expected a Unix user`),
  );
});

test.each([
  ['a small file', small],
  ['a large one', large],
])('%s that is known is not built', async (_, text) => {
  const key = policyVersion(text);
  expect(await load(text, ['other', key])).toEqual({ kind: 'known', key });
});

test('a file that cannot be read is told, and then known', async () => {
  const gone = join(folder, 'gone.yaml');
  const refused = await loadPolicyFile(gone, [], never);
  expect(refused).toMatchObject({ kind: 'refused', key: expect.stringContaining('no such file') });
  expect(await loadPolicyFile(gone, [refused.key], never)).toEqual({ kind: 'known', key: refused.key });
});

test('aliases that write out to more than the limit are refused, and the process is gone', async () => {
  const labels = Array.from({ length: 3_000 }, (_, index) => `l${index}: ${'x'.repeat(250)}`).join(', ');
  const agents = Array.from(
    { length: 100 },
    (_, index) =>
      `  a${index}: { identity: spiffe://x.test/a${index}, labels: ${index === 0 ? `&l { ${labels} }` : '*l'} }`,
  );
  const refused = await load(`version: 1\nagents:\n${agents.join('\n')}\n`);
  expect(refused).toMatchObject({
    kind: 'refused',
    issues: [{ message: expect.stringContaining(`${limits.policyExpandedBytesMax} bytes`) }],
  });
  expect(children()).toEqual([]);
}, 60_000);

test('a reading that is given up ends its process', async () => {
  const ending = new AbortController();
  const reading = load(many(3_000), [], ending.signal).catch((thrown: unknown) => thrown);
  expect(children().length).toBeGreaterThan(0);
  ending.abort(new Error('enough'));
  expect(await reading).toEqual(new Error('enough'));
  expect(children()).toEqual([]);
});

test('a process that dies is a refusal that says so', async () => {
  const reading = load(many(3_000));
  for (const pid of children()) process.kill(Number(pid), 'SIGKILL');
  expect(await reading).toMatchObject({
    kind: 'refused',
    issues: [
      { line: 0, message: expect.stringMatching(/^the process that read it, .* came to an end: SIGKILL$/) },
    ],
  });
});
