/** The process around a sidecar: signals, and failing closed on what nobody caught. */
import { writeSync } from 'node:fs';
import type { Logger } from 'pino';
import type { Sidecar } from './sidecar.ts';

export type Supervised = Readonly<{
  /** Resolves with the exit status once somebody asked to stop: a signal, the admin API, or `end`. */
  ended: Promise<number>;
  end(code?: number): void;
}>;

/**
 * SIGTERM and SIGINT stop, SIGHUP reads the policy again. A second SIGTERM or SIGINT ends the process at once.
 * An uncaught error leaves a state that nobody knows, so the process ends: data planes then refuse (fail closed).
 */
export function supervise(log: Logger): Supervised & { attach(sidecar: Sidecar): void } {
  const asked = Promise.withResolvers<number>();
  let sidecar: Sidecar | undefined;
  let stopping = false;
  const end = (code = 0): void => {
    stopping = true;
    asked.resolve(code);
  };
  const onSignal = (name: NodeJS.Signals): void => {
    if (stopping) process.exit(name === 'SIGINT' ? 130 : 143);
    log.info(`${name}: stopping`);
    end();
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  process.on('SIGHUP', () => {
    sidecar?.reload().catch((err: unknown) => log.error({ err }, 'the policy could not be read again'));
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
    end,
    attach: (started) => {
      sidecar = started;
    },
  };
}
