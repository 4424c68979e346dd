/** What has been opened, to be ended in reverse order, each part within its time. A part that hangs is named and left. */
import type { Logger } from 'pino';
import { limits } from '../config/limits.ts';

export type Ending = Readonly<{
  add(name: string, stop: () => Promise<void> | void): void;
  /** Ends everything, once; later calls wait for the first. Never rejects. */
  run(): Promise<void>;
}>;

export function createEnding(log: Logger, timeoutMs: number = limits.stopTimeoutMs): Ending {
  const parts: { name: string; stop: () => Promise<void> | void }[] = [];
  let running: Promise<void> | undefined;

  const end = async (): Promise<void> => {
    for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
      const late = Promise.withResolvers<'late'>();
      const timer = setTimeout(() => late.resolve('late'), timeoutMs);
      try {
        const done = await Promise.race([Promise.resolve().then(part.stop), late.promise]);
        if (done === 'late') log.error(`${part.name} did not end within ${timeoutMs} ms`);
      } catch (thrown) {
        log.error({ err: thrown }, `${part.name} did not end cleanly`);
      } finally {
        clearTimeout(timer);
      }
    }
  };
  return {
    add: (name, stop) => {
      parts.push({ name, stop });
    },
    run: () => {
      running ??= end();
      return running;
    },
  };
}
