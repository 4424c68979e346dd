import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';

const script = join(import.meta.dirname, '..', '..', '..', 'scripts', 'docs.ts');
const folder = mkdtempSync(join(tmpdir(), 'sallyport-docs-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = (...flags: string[]) => {
  const { status, stdout } = spawnSync(process.execPath, [script, '--root', folder, ...flags], {
    encoding: 'utf8',
  });
  return { status, lines: stdout.split('\n').filter((line) => line !== '') };
};

test('the check lists every document that differs and writes none; without it they are written', () => {
  expect(run('--check')).toMatchObject({ status: 1, lines: { length: 6 } });
  expect(run('--check').status).toBe(1);
  expect(run()).toMatchObject({ status: 0, lines: { length: 6 } });
  expect(run('--check')).toEqual({ status: 0, lines: [] });
  appendFileSync(join(folder, 'docs', 'limits.md'), 'changed by hand\n');
  expect(run('--check')).toEqual({
    status: 1,
    lines: ['docs/limits.md is not what the source says; run npm run docs'],
  });
});
