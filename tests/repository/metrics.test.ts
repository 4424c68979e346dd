/** A metric that is declared is counted somewhere. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { metrics } from '../../config/metrics.ts';

const root = dirname(dirname(import.meta.dirname));

test('every declared metric is used by the sidecar', () => {
  const text = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', 'sidecar'], {
    cwd: root,
    encoding: 'utf8',
  })
    .split('\n')
    .filter((file) => file.endsWith('.ts') && existsSync(join(root, file)))
    .map((file) => readFileSync(join(root, file), 'utf8'))
    .join('\n');
  expect(
    Object.keys(metrics).filter((key) => !text.includes(`'${key}'`) && !text.includes(`${key}:`)),
  ).toEqual([]);
});
