/** The process around a sidecar: signals, and failing closed on what nobody caught. */
import { writeSync } from 'node:fs';
import type { Logger } from 'pino';
import { limits } from '../config/limits.ts';
import type { Sidecar } from './sidecar.ts';

export type Supervised = Readonly<{
  /** Resolves with the exit status once somebody asked to stop: a signal, the admin API, or `end`. */
  ended: Promise<number>;
  isEnding(): boolean;
  end(code?: number): void;
  attach(sidecar: Sidecar): void;
}>;

/** What one more SIGTERM or SIGINT asks for. */
export type Asked = 'stop' | 'same' | 'at once';

/**
 * A process group, a container runtime and npm each pass one Ctrl-C on, so a signal soon after the first is the
 * same asking; only a later one is somebody who does not want to wait.
 */
export function createAsking(nowMs: () => number): () => Asked {
  let firstMs: number | undefined;
  return () => {
    if (firstMs === undefined) {
      firstMs = nowMs();
      return 'stop';
    }
    return nowMs() - firstMs < limits.signalRepeatMs ? 'same' : 'at once';
  };
}

export type SuperviseOptions = Readonly<{
  log: Logger;
  /** A terminal that closes sends SIGHUP: it ends what it showed. Without one SIGHUP reads the policy again. */
  hasTerminal: boolean;
  /** Ends, without waiting for it, every process that ends with the sidecar. */
  killOthers: () => Promise<void>;
}>;

/**
 * SIGTERM and SIGINT stop; asked again while it stops, it ends at once, and all it started with it.
 * An uncaught error leaves a state that nobody knows, so the process ends: data planes then refuse (fail closed).
 */
export function supervise({ log, hasTerminal, killOthers }: SuperviseOptions): Supervised {
  const asked = Promise.withResolvers<number>();
  let sidecar: Sidecar | undefined;
  let ending = false;
  const end = (code = 0): void => {
    ending = true;
    asked.resolve(code);
  };
  const asking = createAsking(() => performance.now());
  const onSignal = (name: NodeJS.Signals): void => {
    switch (asking()) {
      case 'same':
        return;
      case 'stop':
        log.info(`${name}: stopping`);
        end();
        return;
      case 'at once': {
        const leave = (): never => process.exit(name === 'SIGINT' ? 130 : 143);
        killOthers().then(leave, leave);
      }
    }
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  process.on('SIGHUP', (name) => {
    if (hasTerminal) onSignal(name);
    else sidecar?.reload().catch((err: unknown) => log.error({ err }, 'the policy could not be read again'));
  });
  const fatal = (what: string) => (thrown: unknown) => {
    try {
      log.fatal({ err: thrown }, what);
    } catch {
      writeSync(2, `sallyport: ${what}\n`);
    }
    process.exit(1);
  };
  process.on('uncaughtException', fatal('an error that nobody caught; the sidecar ends'));
  process.on('unhandledRejection', fatal('a rejection that nobody handled; the sidecar ends'));
  return {
    ended: asked.promise,
    isEnding: () => ending,
    end,
    attach: (started) => {
      sidecar = started;
    },
  };
}
