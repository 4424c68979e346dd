/** What `npm pack` puts into the package runs without any type being stripped at run time. */
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';

const root = dirname(dirname(import.meta.dirname));
const dist = join(root, 'dist');
const node = promisify(execFile);
const run = (...args: string[]) =>
  node(process.execPath, ['--no-experimental-strip-types', join(dist, 'sidecar/cli/main.js'), ...args], {
    cwd: '/',
  });

describe('the package', () => {
  beforeAll(async () => {
    await node(process.execPath, [join(root, 'scripts/pack.ts')]);
  });

  test('tells its version', async () => {
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    expect((await run('--version')).stdout.trim()).toBe(version);
  });

  test('checks and explains the example policy that it carries', async () => {
    const policy = join(dist, 'config/examples/policy.yaml');
    expect(JSON.parse((await run('check', policy, '--json')).stdout)).toMatchObject({ ok: true });
    const told = await run(
      'explain',
      policy,
      'GET',
      'http://demo.sallyport.test:10090/hello',
      '--agent',
      'demo',
      '--json',
    );
    expect(told.stdout).toContain('demo-read');
  });

  test('has every file that its manifest names', () => {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      bin: Record<string, string>;
    };
    expect(Object.values(manifest.bin).filter((file) => !existsSync(join(root, file)))).toEqual([]);
  });
});
