/** The command line as a user runs it: a child process, with directories of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const repository = join(import.meta.dirname, '..', '..');
const entry = join(repository, 'sidecar/cli/main.ts');

export type Home = Readonly<{ dir: string; env: Record<string, string>; remove(): void }>;

/** State and run directories that other users may pass through, as /var/lib and /run are. */
export function makeHome(settings: Readonly<Record<string, string>> = {}): Home {
  const dir = mkdtempSync(join(tmpdir(), 'sp-'));
  chmodSync(dir, 0o755);
  return {
    dir,
    env: {
      SALLYPORT_STATE_DIR: join(dir, 'state'),
      SALLYPORT_RUN_DIR: join(dir, 'run'),
      SALLYPORT_DATA_PLANE: 'embedded',
      SALLYPORT_PROXY_PORT: '0',
      ...settings,
    },
    remove: () => rmSync(dir, { recursive: true, force: true }),
  };
}

const ownEnvironment = (): Record<string, string> =>
  Object.fromEntries(
    Object.entries(process.env).filter(
      (pair): pair is [string, string] =>
        pair[1] !== undefined && !/^(SALLYPORT_|NODE_OPTIONS$|VITEST|npm_)/.test(pair[0]),
    ),
  );

export type Ran = Readonly<{ code: number | null; out: string; err: string }>;
export type RunOptions = Readonly<{
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  input?: string;
  uid?: number;
  gid?: number;
}>;

export function spawnCli(args: readonly string[], options: RunOptions = {}): ChildProcess {
  const { env, cwd = repository, uid, gid } = options;
  return spawn(process.execPath, [entry, ...args], {
    cwd,
    env: { ...ownEnvironment(), ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
  });
}

export function collect(child: ChildProcess): { out(): string; err(): string; ended: Promise<Ran> } {
  let out = '';
  let err = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const ended = new Promise<Ran>((resolve) => child.once('close', (code) => resolve({ code, out, err })));
  return { out: () => out, err: () => err, ended };
}

export function cli(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const child = spawnCli(args, options);
  child.stdin?.end(options.input ?? '');
  return collect(child).ended;
}

/** Waits for a condition with a bound; what it waited for is in the error. */
export async function until<T>(what: string, ask: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    const found = await ask();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
