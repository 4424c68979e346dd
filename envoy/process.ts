/**
 * The Envoy process. It is started detached and outlives the sidecar: without the sidecar it refuses every new
 * request by itself, and a sidecar that comes back adopts it instead of cutting its connections.
 */
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chown, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import { startTicksOf } from '../filters/common/start-ticks.ts';
import type { Clock } from '../filters/common/time.ts';
import type { AdminClient } from './admin-client.ts';
import type { PlaneLedger } from './data-plane.ts';
import { putFile } from './delivery.ts';
import type { EnvoyPaths } from './paths.ts';
import { pause } from './pause.ts';
import type { ProcessUser } from './user.ts';

/** Which process runs; `startTicks` tells it from a later one with the same number. */
export type Running = Readonly<{
  pid: number;
  startTicks: string;
  /** Names it in every line of the access log; empty where it is not known. */
  epoch: string;
  /** Of everything that only a start can change. */
  key: string;
  port: number;
  tlsPort: number | undefined;
}>;

export const isAlive = (running: Running): boolean => startTicksOf(running.pid) === running.startTicks;

/** What the last sidecar wrote down; undefined where there is nothing that can be used. */
export async function recorded(paths: EnvoyPaths): Promise<Running | undefined> {
  if (!existsSync(paths.state)) return undefined;
  const text = await readFile(paths.state, 'utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (thrown) {
    // Written by rename, so never half: somebody else's file. Nothing is adopted or ended on its word.
    if (thrown instanceof SyntaxError) return undefined;
    throw thrown;
  }
  const read = (key: string): unknown => (value instanceof Object ? Reflect.get(value, key) : undefined);
  const [pid, startTicks, key, port] = ['pid', 'startTicks', 'key', 'port'].map(read);
  const [tlsPort, epoch] = ['tlsPort', 'epoch'].map(read);
  if (typeof pid !== 'number' || typeof startTicks !== 'string' || typeof key !== 'string') return undefined;
  if (typeof port !== 'number') return undefined;
  return {
    ...{ pid, startTicks, key, port },
    tlsPort: typeof tlsPort === 'number' ? tlsPort : undefined,
    epoch: typeof epoch === 'string' ? epoch : '',
  };
}

const record = (paths: EnvoyPaths, running: Running): Promise<void> =>
  putFile(paths, paths.state, JSON.stringify(running), undefined);

export const forget = (paths: EnvoyPaths): Promise<void> => rm(paths.state, { force: true });

const signal = (pid: number, name: NodeJS.Signals): void => {
  try {
    process.kill(pid, name);
  } catch (thrown) {
    // It ended in between, which is what was wanted.
    if (!(thrown instanceof Error && 'code' in thrown && thrown.code === 'ESRCH')) throw thrown;
  }
};

/** Ends it: asked first, then killed. Asked, Envoy ends every connection at once and writes the last line of each. */
export async function end(
  running: Running,
  clock: Clock,
  killAfterMs: number = limits.stopTimeoutMs / 4,
): Promise<void> {
  const goneWithin = async (ms: number): Promise<boolean> => {
    const until = clock.monotonicMs() + ms;
    while (isAlive(running)) {
      if (clock.monotonicMs() > until) return false;
      await pause(10);
    }
    return true;
  };
  if (!isAlive(running)) return;
  signal(running.pid, 'SIGTERM');
  if (await goneWithin(killAfterMs)) return;
  signal(running.pid, 'SIGKILL');
  if (!(await goneWithin(limits.stopTimeoutMs / 4)))
    throw new SallyportError('Internal', `Envoy, process ${running.pid}, does not end`);
}

const tight = (user: ProcessUser): string[] => [
  `--reuid=${user.uid}`,
  `--regid=${user.gid}`,
  '--clear-groups',
  '--no-new-privs',
  '--inh-caps=-all',
  '--bounding-set=-all',
  '--',
];

/** setpriv takes every capability away for good; where it cannot, a plain change of user is what there is. */
async function setprivFor(user: ProcessUser): Promise<string | undefined> {
  const path = ['/usr/bin/setpriv', '/bin/setpriv'].find(existsSync);
  if (path === undefined) return undefined;
  return new Promise((resolve) => {
    execFile(path, [...tight(user), '/bin/true'], { timeout: 5_000 }, (error) =>
      resolve(error === null ? path : undefined),
    );
  });
}

export type StartOptions = Readonly<{
  binary: string;
  paths: EnvoyPaths;
  user: ProcessUser | undefined;
  concurrency: number;
  key: string;
  port: number;
  tlsPort: number | undefined;
  admin: AdminClient;
  clock: Clock;
  ledger: PlaneLedger;
}>;

const drainSeconds = Math.ceil(limits.checkTimeoutMs / 1_000) + 30;

const args = (options: StartOptions): string[] => [
  '--config-path',
  options.paths.bootstrap,
  '--concurrency',
  String(options.concurrency),
  // A replaced listener lets its connections live longer than any hold waits.
  '--drain-time-s',
  String(drainSeconds),
  '--drain-strategy',
  'immediate',
  '--disable-hot-restart',
  '--file-flush-interval-msec',
  String(limits.ledgerFlushMs),
  '--log-path',
  options.paths.processLog,
  '--log-level',
  'warning',
];

/** Starts Envoy and resolves once it serves; `exited` is called when it ends. */
export async function start(options: StartOptions, exited: () => void): Promise<Running> {
  const { paths, user, binary, clock } = options;
  const startLog = join(paths.logDir, 'start.log');
  await rm(paths.adminSocket, { force: true });
  // Envoy's own log begins later than what can go wrong here. O_EXCL: the directory is Envoy's to write.
  await rm(startLog, { force: true });
  const output = await open(startLog, 'wx', 0o600);
  if (user !== undefined) await chown(startLog, user.uid, user.gid);
  const setpriv = user === undefined ? undefined : await setprivFor(user);
  const [command, before] =
    setpriv !== undefined && user !== undefined ? [setpriv, [...tight(user), binary]] : [binary, []];
  const epoch = randomBytes(6).toString('hex');
  // Before it can ask for anything: each decision is of the process that it is given to.
  options.ledger.began(epoch);
  const child = spawn(command, [...before, ...args(options)], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', output.fd, output.fd],
    // Nothing of the sidecar's environment, where secrets may be.
    env: { SALLYPORT_EPOCH: epoch },
    ...(setpriv === undefined && user !== undefined ? user : {}),
  });
  let failure: Error | undefined;
  let ended = false;
  child.once('error', (error) => {
    failure = error;
    ended = true;
    options.ledger.ended(epoch);
  });
  child.once('exit', () => {
    ended = true;
    options.ledger.ended(epoch);
    exited();
  });
  child.unref();
  await output.close();
  const { pid } = child;
  const startTicks = pid === undefined ? undefined : startTicksOf(pid);
  const { key, port, tlsPort } = options;
  // Written down before it serves: a sidecar that is killed meanwhile leaves a process that the next one finds.
  const running =
    pid === undefined || startTicks === undefined
      ? undefined
      : { pid, startTicks, epoch, key, port, tlsPort };
  if (running !== undefined) await record(paths, running);

  const until = clock.monotonicMs() + limits.envoyReadyMs;
  while (!(await options.admin.ready())) {
    if (ended || clock.monotonicMs() > until) {
      if (!ended && pid !== undefined) signal(pid, 'SIGKILL');
      throw new SallyportError(
        'ServiceUnavailable',
        `Envoy ${ended ? 'ended' : `was not ready within ${limits.envoyReadyMs} ms`}: ${await lastWords(paths, startLog)}`,
        { cause: failure },
      );
    }
    await pause(10);
  }
  if (running === undefined)
    throw new SallyportError('ServiceUnavailable', 'Envoy ended right after its start');
  return running;
}

async function lastWords(paths: EnvoyPaths, startLog: string): Promise<string> {
  const words: string[] = [];
  for (const file of [startLog, paths.processLog]) {
    if (!existsSync(file)) continue;
    const text = await readFile(file, 'utf8');
    words.push(
      ...text
        .split('\n')
        .filter((line) => /critical|error|cannot|setpriv/i.test(line))
        .slice(-3),
    );
  }
  return words.join(' | ').slice(0, 2_000) || `see ${paths.processLog}`;
}
