import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { errors } from '../../../config/errors.ts';
import { generatedDocuments } from '../../../config/generate/documents.ts';
import { policyJsonSchema } from '../../../config/generate/json-schema.ts';
import { conditionVariables } from '../../../config/generate/policy-conditions.ts';
import { casesExample, policyExample } from '../../../config/generate/policy-page.ts';
import { mappingsOf, table } from '../../../config/generate/table.ts';
import { limits } from '../../../config/limits.ts';
import { metrics } from '../../../config/metrics.ts';
import { formatIssue } from '../../../config/policy/issue.ts';
import { parsePolicy } from '../../../config/policy/parse.ts';
import { settingLeaves } from '../../../config/settings-environment.ts';
import { decodeSettings } from '../../../config/settings-load.ts';
import { parseCases, runCases } from '../../../filters/policy/cases.ts';
import { compilePolicy } from '../../../filters/policy/compile.ts';
import { described } from '../../../sidecar/explain.ts';

const root = join(import.meta.dirname, '..', '..', '..');
const textOf = (path: string): string =>
  generatedDocuments().find((document) => document.path === path)?.text ?? '';
const compile = (text: string): string[] => {
  const parsed = parsePolicy(text, 'p.yaml');
  const result = parsed.ok ? compilePolicy(parsed.value, { uidOf: () => undefined }) : parsed;
  return result.ok ? [] : result.issues.map(formatIssue);
};

test('the documents in the repository are what the declarations say', () => {
  for (const { path, text } of generatedDocuments())
    expect(readFileSync(join(root, path), 'utf8') === text, `${path}: run npm run docs`).toBe(true);
});

test('every error, metric, limit and setting stands in its document', () => {
  const has = (path: string, names: readonly string[]): void => {
    const text = textOf(path);
    expect(names.length).toBeGreaterThan(0);
    expect(names.filter((name) => !text.includes(`| \`${name}\` |`))).toEqual([]);
  };
  has('docs/errors.md', Object.keys(errors));
  has(
    'docs/metrics.md',
    Object.values(metrics).map((metric) => metric.name),
  );
  has('docs/limits.md', Object.keys(limits));
  has(
    'docs/configuration.md',
    settingLeaves.map((leaf) => leaf.path.join('.')),
  );
});

test('every field of the policy has a sentence', () => {
  const silent = mappingsOf(policyJsonSchema()).flatMap(({ place, schema }) =>
    Object.entries(schema.properties ?? {}).flatMap(([key, part]) =>
      typeof part === 'object' && (part.description ?? '') === '' ? [`${place}.${key}`] : [],
    ),
  );
  // Told in the text of the page: a quota's destination is a rule's.
  expect(silent.filter((place) => !place.startsWith('quotas[].to'))).toEqual([]);
});

test('every setting has a sentence', () => {
  expect(settingLeaves.filter((leaf) => (leaf.schema.description ?? '') === '')).toEqual([]);
});

test('the example of the policy page is a policy', () => {
  expect(compile(policyExample)).toEqual([]);
});

test('the cases of the policy page are what its example decides', () => {
  const parsed = parsePolicy(policyExample, 'p.yaml');
  const policy = parsed.ok ? compilePolicy(parsed.value, { uidOf: () => undefined }) : parsed;
  const cases = parseCases(casesExample, 'c.yaml');
  if (!policy.ok || !cases.ok) throw new Error('the examples cannot be read');
  const results = runCases(policy.value, cases.value, 0, (method, url, bytes) => {
    const headers = { 'content-type': 'application/json' };
    return described(policy.value, { method, url, headers, body: new TextDecoder().decode(bytes) })
      .destination;
  });
  expect(results.length).toBeGreaterThan(2);
  expect(results.filter((result) => !result.ok)).toEqual([]);
});

test('the examples of the configuration page are settings', () => {
  const text = textOf('docs/configuration.md');
  for (const kind of ['toml', 'yaml']) {
    const example = new RegExp(`\`\`\`${kind}\n([^\`]+)\`\`\``).exec(text)?.[1] ?? '';
    const options = { env: {}, isRoot: false, home: '/home/x', cwd: '/' };
    expect(example).not.toBe('');
    expect(decodeSettings(example, `s.${kind}`, options)).toMatchObject({
      ok: true,
      value: { settings: { data_plane: 'envoy', resolver: { hosts: { 'db.shop.internal': '10.0.0.7' } } } },
    });
  }
});

test('every documented variable, and every documented condition, compiles', () => {
  const policy = (when: string): string =>
    `version: 1\nrules: [{ name: r, to: { hosts: [x.test] }, allow: {}, when: ${JSON.stringify(when)} }]\n`;
  for (const { name } of conditionVariables) expect(compile(policy(`${name} == ${name}`)), name).toEqual([]);
  const conditions = [...textOf('docs/policy.md').matchAll(/^when: (.+)$/gm)].map(([, yaml = '']) => yaml);
  expect(conditions.length).toBeGreaterThan(3);
  for (const yaml of conditions)
    expect(
      compile(
        `version: 1\nrules:\n  - name: r\n    to: { hosts: [x.test] }\n    allow: {}\n    when: ${yaml}\n`,
      ),
    ).toEqual([]);
  expect(compile(policy('request.nothing == 1'))).toHaveLength(1);
});

test('the JSON Schema names itself, wants one outcome, and has no format of zod’s own', () => {
  const text = textOf('docs/schema/policy.v1.schema.json');
  const schema = JSON.parse(text);
  expect(schema).toMatchObject({
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    $id: 'urn:sallyport:schema:policy:v1',
    required: ['version'],
  });
  expect(schema.properties.rules.items.oneOf).toHaveLength(3);
  expect(text).not.toContain('starts_with');
});

test('a vertical bar does not end a cell', () => {
  expect(table(['a'], [['x | y']])).toBe('| a |\n| --- |\n| x \\| y |');
});
