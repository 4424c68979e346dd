/** One Envoy process at a time: adopted or started, and started again when it ends, ever more slowly. */
import type { Logger } from 'pino';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import { pause } from './pause.ts';
import { end, forget, isAlive, type Running, recorded, type StartOptions, start } from './process.ts';

export type Supervisor = Readonly<{
  adopted: boolean;
  /** Undefined while none runs. */
  running(): Running | undefined;
  /** Ends the process, and with it every connection, at once; another is started. Resolves once it is gone. */
  replace(): Promise<void>;
  stop(): Promise<void>;
}>;

/** The process of an earlier sidecar if it can go on as it is; one that cannot is ended. */
export async function adoptable(
  options: Pick<StartOptions, 'paths' | 'admin' | 'clock' | 'key'>,
  log: Logger,
): Promise<Running | undefined> {
  const found = await recorded(options.paths);
  if (found === undefined || !isAlive(found)) return undefined;
  if (found.key === options.key && (await options.admin.ready())) return found;
  log.info(
    { pid: found.pid },
    'the running Envoy has other start settings or does not answer; it is replaced',
  );
  await end(found, options.clock);
  await forget(options.paths);
  return undefined;
}

export async function supervise(
  options: StartOptions,
  adopted: Running | undefined,
  log: Logger,
): Promise<Supervisor> {
  let running: Running | undefined;
  let stopping = false;
  let restarting: Promise<void> | undefined;
  let replaced: Running | undefined;

  const ended = (): void => {
    if (running === undefined) return;
    if (running === replaced) log.info('Envoy was ended, and every connection with it; it is started again');
    else if (!stopping) log.error('Envoy ended; it is started again');
    options.ledger.ended(running.epoch);
    running = undefined;
    if (stopping || restarting !== undefined) return;
    restarting = again().finally(() => {
      restarting = undefined;
    });
  };
  const again = async (): Promise<void> => {
    for (let waitMs: number = limits.envoyRestartMsMin; !stopping; ) {
      try {
        const next = await start(options, ended);
        running = next;
        log.info({ pid: next.pid }, 'Envoy runs again');
        return;
      } catch (thrown) {
        if (!(thrown instanceof SallyportError)) throw thrown;
        log.error({ err: thrown, waitMs }, 'Envoy could not be started again');
      }
      await pause(waitMs);
      waitMs = Math.min(waitMs * 2, limits.envoyRestartMsMax);
    }
  };

  if (adopted !== undefined) options.ledger.began(adopted.epoch);
  running = adopted ?? (await start(options, ended));
  // No exit event comes from a process that another sidecar started.
  const watch = setInterval(() => {
    const watched = running;
    if (watched === undefined || adopted === undefined || watched.pid !== adopted.pid) return;
    try {
      if (!isAlive(watched)) ended();
    } catch (thrown) {
      log.error({ err: thrown }, 'the process of Envoy cannot be looked at');
    }
  }, 500);
  watch.unref();

  return {
    adopted: adopted !== undefined,
    running: () => running,
    replace: async () => {
      await restarting;
      const last = running;
      if (last === undefined || stopping) return;
      replaced = last;
      await end(last, options.clock, limits.lockdownKillMs);
      if (running === last) ended();
    },
    stop: async () => {
      stopping = true;
      clearInterval(watch);
      const last = running;
      if (last !== undefined) {
        await end(last, options.clock);
        options.ledger.ended(last.epoch);
      }
      await restarting;
      if (running !== undefined && running !== last) await end(running, options.clock);
      await forget(options.paths);
    },
  };
}
