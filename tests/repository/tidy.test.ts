/** The repository's own rules: import direction, file length, documented limits, pins, dead names. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { expect, test } from 'vitest';
import { brokenLimitRelations, limits } from '../../config/limits.ts';

const root = dirname(dirname(import.meta.dirname));
const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && existsSync(join(root, file)));
const sources = files.filter((file) => /\.(ts|mts|mjs|lua)$/.test(file));
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

/** What each room may import from the others; `architecture.md` draws it. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  config: ['config'],
  filters: ['filters', 'config'],
  'ext-authz': ['ext-authz', 'filters', 'config'],
  envoy: ['envoy', 'ext-authz', 'filters', 'config'],
  sidecar: ['sidecar', 'envoy', 'ext-authz', 'filters', 'config'],
};

const importsOf = (file: string): string[] =>
  [...read(file).matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].map((match) =>
    posix.normalize(posix.join(dirname(file), match[1] ?? '')),
  );

test('imports point one way: sidecar → envoy → ext-authz → filters → config', () => {
  const wrong: string[] = [];
  for (const file of sources) {
    const allowed = mayImport[file.split('/')[0] ?? ''];
    if (allowed === undefined) continue;
    for (const target of importsOf(file)) {
      if (!allowed.includes(target.split('/')[0] ?? '')) wrong.push(`${file} imports ${target}`);
    }
  }
  expect(wrong).toEqual([]);
});

test('a filter never imports a sibling filter', () => {
  const shared = new Set([
    'common',
    'policy/compiled.ts',
    'quota/quota.ts',
    'oversight/holds.ts',
    'egress/resolver.ts',
  ]);
  const wrong: string[] = [];
  for (const file of sources.filter((name) => /^filters\/[^/]+\//.test(name))) {
    const own = file.split('/')[1];
    for (const target of importsOf(file)) {
      const [room, folder, ...rest] = target.split('/');
      if (room !== 'filters' || folder === undefined || rest.length === 0 || folder === own) continue;
      if (!shared.has(folder) && !shared.has(`${folder}/${rest.join('/')}`))
        wrong.push(`${file} imports ${target}`);
    }
  }
  expect(wrong).toEqual([]);
});

test('no source file is longer than 400 lines', () => {
  const long = sources.filter((file) => read(file).split('\n').length > 401);
  expect(long).toEqual([]);
});

/** As whole words of the name: what it is counted in, or what it bounds. `quotaSlicesPerWindow` counts slices. */
const unitOrKind = /(?:Ms|Bytes|Chars|Nodes|Records|Max|Min|Tried|[a-z]sPer[A-Z][a-z]+)(?=[A-Z]|$)/;

test('every limit has its unit or kind in its name, and stands in docs/limits.md with what it is', () => {
  const documented = read('docs/limits.md');
  for (const name of Object.keys(limits)) {
    expect(documented).toMatch(new RegExp(`^\\| \`${name}\` \\| [^|]+ \\| [^|]*\\w[^|]* \\|$`, 'm'));
    expect(name).toMatch(unitOrKind);
  }
  expect(brokenLimitRelations()).toEqual([]);
});

test('no file is named for being a pile or a second version', () => {
  expect(sources.filter((file) => /(^|\/)(utils?|helpers?|misc)\.|[-_.]v2\./.test(file))).toEqual([]);
});

test('no source has a suppression without a reason, an untyped escape, or an unfinished mark', () => {
  const marks = ['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX'];
  const wrong: string[] = [];
  // This file names the marks that it looks for.
  for (const file of sources.filter((name) => name !== 'tests/repository/tidy.test.ts')) {
    read(file)
      .split('\n')
      .forEach((line, index) => {
        const where = `${file}:${index + 1}`;
        if (marks.some((mark) => new RegExp(`\\b${mark}\\b`).test(line)))
          wrong.push(`${where} unfinished mark`);
        if (/biome-ignore/.test(line) && !/biome-ignore [\w/]+: \S.{10,}/.test(line))
          wrong.push(`${where} suppression without a reason`);
        if (/@ts-(ignore|nocheck)|@ts-expect-error(?! \S)/.test(line))
          wrong.push(`${where} type check switched off`);
        if (/catch\s*(\(\w*\))?\s*\{\s*\}/.test(line)) wrong.push(`${where} empty catch`);
      });
  }
  expect(wrong).toEqual([]);
});

test('every dependency has its sentence in docs/dependencies.md', () => {
  const manifest = JSON.parse(read('package.json')) as Record<string, Record<string, string> | undefined>;
  const documented = read('docs/dependencies.md');
  const names = ['dependencies', 'devDependencies', 'optionalDependencies'].flatMap((kind) =>
    Object.keys(manifest[kind] ?? {}),
  );
  expect(names.filter((name) => !documented.includes(`\`${name}\``))).toEqual([]);
});

test('every link between documents leads to a file', () => {
  const broken: string[] = [];
  for (const file of files.filter((name) => name.endsWith('.md'))) {
    for (const match of read(file).matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)) {
      const target = posix.normalize(posix.join(dirname(file), match[1] ?? ''));
      if (!existsSync(join(root, target))) broken.push(`${file} → ${match[1]}`);
    }
  }
  expect(broken).toEqual([]);
});
