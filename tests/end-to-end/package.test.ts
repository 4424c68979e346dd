/** What `npm pack` gives, unpacked beside its dependencies alone: it runs without stripping types, as Node 24 would. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { collect, type Home, makeHome, repository, until } from '../support/cli.ts';

const execute = promisify(execFile);

let home: Home;
let installed: string;
let manifest: Readonly<{ version: string; bin: Readonly<Record<string, string>> }>;

/** Every dependency of the repository by a link; the package itself as it is in the tarball. */
beforeAll(async () => {
  home = makeHome();
  const modules = join(home.dir, 'node_modules');
  installed = join(modules, 'sallyport');
  mkdirSync(installed, { recursive: true });
  for (const name of readdirSync(join(repository, 'node_modules')))
    if (!name.startsWith('.')) symlinkSync(join(repository, 'node_modules', name), join(modules, name));
  await execute(process.execPath, [join(repository, 'scripts/pack.ts')]);
  const packed = await execute(
    'npm',
    ['pack', '--ignore-scripts', '--json', '--pack-destination', home.dir],
    {
      cwd: repository,
    },
  );
  const [tarball] = readdirSync(home.dir).filter((name) => name.endsWith('.tgz'));
  if (tarball === undefined) throw new Error(`npm pack made no tarball: ${packed.stdout}${packed.stderr}`);
  await execute('tar', ['-xzf', join(home.dir, tarball), '-C', installed, '--strip-components=1']);
  manifest = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
});
afterAll(() => home.remove());

const program = (...args: string[]): ChildProcess =>
  spawn(
    process.execPath,
    ['--no-strip-types', join(installed, manifest.bin['sallyport'] ?? 'no bin'), ...args],
    { cwd: home.dir, env: { PATH: process.env['PATH'] ?? '', ...home.env } },
  );
const run = (...args: string[]) => collect(program(...args)).ended;

describe('the package', () => {
  test('tells its version and its commands', async () => {
    expect(await run('--version')).toMatchObject({ code: 0, out: `${manifest.version}\n` });
    expect((await run('--help')).out).toContain('explain');
  });

  test('holds no source that Node would have to strip, but the examples to read', () => {
    const files = readdirSync(join(installed, 'dist'), { recursive: true, encoding: 'utf8' });
    expect(files.length).toBeGreaterThan(100);
    expect(files.filter((file) => file.endsWith('.ts'))).toEqual([]);
  });

  test('checks, explains and tests the policy that it carries', async () => {
    const policy = join(installed, 'dist/config/examples/policy.yaml');
    expect(JSON.parse((await run('check', policy, '--json')).out)).toMatchObject({ ok: true });
    const url = 'http://demo.sallyport.test:10090/hello';
    const told = await run('explain', policy, 'GET', url, '--agent', 'demo', '--json');
    expect(told.out).toContain('demo-read');
    expect((await run('test', policy)).code).toBe(0);
    expect(JSON.parse((await run('schema')).out)).toMatchObject({ type: 'object' });
  });

  test('reads a policy that is too large to be read in between', async () => {
    const example = readFileSync(join(installed, 'dist/config/examples/policy.yaml'), 'utf8');
    const policy = join(home.dir, 'large.yaml');
    writeFileSync(policy, `# ${'x'.repeat(limits.policyInlineBytesMax)}\n${example}`);
    const code = `const { loadPolicyFile } = await import(process.argv[1]);
      const loaded = await loadPolicyFile(process.argv[2], [], new AbortController().signal);
      console.log(loaded.kind, loaded.value?.source.rules.length > 0);`;
    const { stdout } = await execute(process.execPath, [
      '--no-strip-types',
      ...['--input-type=module', '-e', code, join(installed, 'dist/filters/policy/reader.js'), policy],
    ]);
    expect(stdout).toBe('value true\n');
  });

  test('starts with its example upstream, carries a call, and ends everything when it is stopped', async () => {
    const child = program('start', '--json');
    const seen = collect(child);
    try {
      const line = await until('the sidecar to be ready', () => {
        if (child.exitCode !== null) throw new Error(`it ended: ${seen.err()}`);
        return seen.out().includes('\n') ? seen.out() : undefined;
      });
      const { samples } = JSON.parse(line) as { samples: readonly { command: string }[] };
      const allowed = samples[0]?.command ?? '';
      expect((await execute('sh', ['-c', allowed])).stdout).toContain('hello');
      expect((await run('stop')).code).toBe(0);
      expect((await seen.ended).code).toBe(0);
      expect(existsSync(join(home.dir, 'run/admin.sock'))).toBe(false);
    } finally {
      child.kill('SIGKILL');
    }
  });
});
