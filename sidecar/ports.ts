/** A port that is in use is named, and the next free one is taken. */
import { createServer } from 'node:net';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';

const host = '127.0.0.1';

/** The port that a listener gets for this one; undefined where it is in use. */
const tryPort = (port: number, what: string): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (thrown: NodeJS.ErrnoException) => {
      if (thrown.code === 'EADDRINUSE') resolve(undefined);
      else
        reject(
          new SallyportError('SettingsInvalid', `${what}: ${thrown.message}; name another port`, {
            cause: thrown,
          }),
        );
    });
    probe.listen({ port, host, exclusive: true }, () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address !== null ? address.port : undefined));
    });
  });

/** The port, or the next free one above it on loopback; any free one for 0. */
export async function freePort(wanted: number, what: string, taken: readonly number[] = []): Promise<number> {
  const last = Math.min(65_535, wanted + limits.portsTried);
  for (let port = wanted; port <= last; port += 1) {
    const found = taken.includes(port) ? undefined : await tryPort(port, what);
    if (found !== undefined) return found;
  }
  throw new SallyportError('SettingsInvalid', `${what}: ports ${wanted} to ${last} are all in use`);
}

/** `port 10081 is in use; the demo's HTTP upstream took 10082`, or nothing where it was free. */
export const movedPort = (wanted: number, got: number, what: string): readonly string[] =>
  wanted === 0 || wanted === got ? [] : [`port ${wanted} is in use; ${what} took ${got}`];
