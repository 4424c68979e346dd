#!/usr/bin/env node
// Runs on any Node from 18 on, with nothing installed: installs what is missing, says what and why, then
// hands over to the project's own Node 26.
//   npm start                     the sidecar with the example policy
//   npm start -- run -- CMD …     a command as the agent behind the sidecar
//   npm test [-- FILTER …]        the gate, or only the tests whose path contains FILTER
//   npm run check|bench|docs      format, lint and types; benchmarks; generated documents
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [, , command = 'start', ...args] = process.argv;

const say = (line) => process.stderr.write(`${line}\n`);

/** A terminal sends these to its whole foreground group: the child has them already. */
const fromTerminal = ['SIGINT', 'SIGQUIT', 'SIGHUP'];

/**
 * Becomes the program where Node can (execve(2)), else hands signals on to it and ends with its status, or its
 * signal as 128 + n: whoever ends this process means the program.
 */
function handOver(file, args, env) {
  process.chdir(cwd);
  if (process.execve !== undefined) process.execve(file, [file, ...args], env);
  const child = spawn(file, args, { env, stdio: 'inherit' });
  for (const name of ['SIGTERM', ...fromTerminal, 'SIGUSR1', 'SIGUSR2'])
    process.on(name, () => {
      if (!(process.stdin.isTTY && fromTerminal.includes(name))) child.kill(name);
    });
  child.once('error', (thrown) => {
    say(`sallyport: ${thrown.message}`);
    process.exit(1);
  });
  child.once('exit', (status, signal) => process.exit(status ?? 128 + constants.signals[signal]));
}

/** Returns whether anything had to be installed. */
function installDependencies() {
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  const marker = join(root, 'node_modules', '.sallyport-lock');
  if (existsSync(marker) && readFileSync(marker, 'utf8') === lock) return false;
  say('setup: installing the packages of package-lock.json (Node 26 among them); once per checkout');
  const started = Date.now();
  // Not `npm ci`: it refuses a lock file without the packages of other platforms, which some registries do not carry.
  // Versions and digests come from the lock file here too; no package needs an install script.
  const args = ['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  const result = spawnSync('npm', args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (result.error || result.status !== 0) {
    say(
      'setup: npm install failed; its messages are above. Check the network or the registry setting of npm, then try again.',
    );
    process.exit(1);
  }
  writeFileSync(marker, lock);
  say(`setup: packages installed in ${Math.round((Date.now() - started) / 1000)} s`);
  return true;
}

function projectNode() {
  const own = join(root, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node');
  if (existsSync(own)) return own;
  if (Number(process.versions.node.split('.')[0]) >= 26) return process.execPath;
  say(
    `setup: there is no Node 26 package for ${process.platform}-${process.arch}; install Node 26 or later and try again`,
  );
  return process.exit(1);
}

const installed = installDependencies();
const node = projectNode();
// Without it the first start is slower and larger, nothing more: it may fail.
if (installed) spawnSync(node, [join(root, 'scripts', 'warm.ts')], { cwd: root, stdio: 'ignore' });
const env = {
  ...process.env,
  PATH: `${dirname(node)}:${join(root, 'node_modules', '.bin')}:${process.env.PATH ?? ''}`,
};
const cwd = command === 'start' ? process.cwd() : root;
const whole = ['--help', '-h', '--version', '-V'];
const startsSidecar = args.length === 0 || (args[0].startsWith('-') && !whole.includes(args[0]));
const entry = {
  start: ['sidecar/cli/main.ts', ...(startsSidecar ? ['start'] : [])],
  test: ['scripts/gate.ts', 'test'],
  check: ['scripts/gate.ts', 'check'],
  bench: ['bench/main.ts'],
  docs: ['scripts/docs.ts'],
  pack: ['scripts/pack.ts'],
}[command];
if (entry === undefined) {
  say(`bootstrap: unknown command ${command}; known are start, test, check, bench, docs, pack`);
  process.exit(2);
}
const [script, ...first] = entry;
handOver(node, [join(root, script), ...first, ...args], env);
