/** A port that is free now. One in use is passed over, up to `limits.portsTried`. */
import { createServer } from 'node:net';
import { hostname, networkInterfaces } from 'node:os';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import { authorityHost } from './globs.ts';

function tryPort(host: string, port: number): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(undefined);
      else
        reject(
          new SallyportError(
            'SettingsInvalid',
            `The proxy cannot listen on ${host}:${port}: ${error.message}`,
            {
              cause: error,
            },
          ),
        );
    });
    server.listen({ host, port, exclusive: true }, () => {
      const address = server.address();
      const got = address !== null && typeof address === 'object' ? address.port : undefined;
      server.close(() => resolve(got));
    });
  });
}

/** The wanted port or the next free one; any free one for 0. */
export async function freePort(host: string, wanted: number, taken: readonly number[]): Promise<number> {
  for (let step = 0; step < limits.portsTried; step++) {
    const port = wanted === 0 ? 0 : wanted + step;
    if (port > 65_535) break;
    if (taken.includes(port)) continue;
    const got = await tryPort(host, port);
    if (got !== undefined && !taken.includes(got)) return got;
  }
  throw new SallyportError(
    'SettingsInvalid',
    `No port is free on ${host} from ${wanted} on; ${limits.portsTried} were tried`,
  );
}

const isEvery = (host: string): boolean => host === '0.0.0.0' || host === '::';

/** Every name under which a client can reach the listener itself. */
export function ownHosts(host: string): string[] {
  const names = new Set(['127.0.0.1', 'localhost', '::1', hostname().toLowerCase()]);
  if (isEvery(host)) {
    for (const addresses of Object.values(networkInterfaces()))
      for (const { address } of addresses ?? []) names.add(address.replace(/%.*$/, ''));
  } else names.add(host.toLowerCase());
  names.delete('');
  return [...names];
}

export const ownAuthorities = (host: string, ports: readonly number[]): string[] =>
  ownHosts(host).flatMap((name) => ports.map((port) => `${authorityHost(name)}:${port}`));

/** Where an agent connects to. */
export const reachable = (host: string): string => (isEvery(host) ? '127.0.0.1' : host);
