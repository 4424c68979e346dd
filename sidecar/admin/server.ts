/**
 * The admin API: on a Unix socket that only the sidecar's own user opens, and where asked on loopback with a
 * token. Whoever reaches it can approve holds, so the agent's user must not. Its application is loaded with the
 * first request: a sidecar that nobody asks does without its 20 MiB.
 */
import { once } from 'node:events';
import { chmodSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import type { ListenOptions } from 'node:net';
import path from 'node:path';
import type { FastifyInstance } from 'fastify';
import { limits } from '../../config/limits.ts';
import type { Checker } from '../../ext-authz/checker.ts';
import { createServer, type Server } from '../../filters/common/node-http.ts';
import type { Audit } from '../audit.ts';
import type { KeyRotation } from '../key-rotation.ts';
import type { Lockdown } from '../lockdown.ts';
import { freePort, movedPort } from '../ports.ts';
import type { AdminDeps } from './routes.ts';

export type Admin = Readonly<{
  socketPath: string;
  /** Undefined where `admin.port` is null. */
  url: string | undefined;
  stop(): Promise<void>;
}>;

export type AdminOptions = AdminDeps &
  Readonly<{
    token: string;
    runDir: string;
    port: number | null;
    checker: Checker;
    keys: KeyRotation;
    lockdown: Lockdown;
    audit: Pick<Audit, 'erase'>;
    report(line: string): void;
  }>;

type Listening = Readonly<{ server: Server; stop(): Promise<void> }>;

/** Listens at once; the application is built for the first request and kept. */
async function listen(
  options: AdminOptions,
  over: 'socket' | 'tcp',
  baseUrl: string,
  at: ListenOptions,
): Promise<Listening> {
  let app: Promise<FastifyInstance> | undefined;
  const load = async (): Promise<FastifyInstance> => {
    const { buildAdmin } = await import('./app.ts');
    return buildAdmin(options, over, baseUrl);
  };
  const server = createServer(
    { requestTimeout: limits.requestHeadersTimeoutMs, headersTimeout: limits.requestHeadersTimeoutMs },
    (request, response) => {
      app ??= load();
      app.then(
        (ready) => ready.routing(request, response),
        (err: unknown) => {
          options.log.error({ err }, 'the admin API could not be loaded');
          response.writeHead(500).end();
        },
      );
    },
  );
  server.setTimeout(limits.streamIdleTimeoutMs);
  const listening = once(server, 'listening');
  server.listen(at);
  await listening;
  const stop = async (): Promise<void> => {
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
    await (await app)?.close();
  };
  return { server, stop };
}

/**
 * Binds inside a directory that nobody else enters, narrows the socket, and only then moves it to its name:
 * there is no moment at which another user can open it.
 */
async function listenOnSocket(options: AdminOptions): Promise<Listening & Readonly<{ socketPath: string }>> {
  const closed = path.join(options.runDir, '.admin');
  mkdirSync(closed, { recursive: true, mode: 0o700 });
  chmodSync(closed, 0o700);
  const draft = path.join(closed, 's');
  rmSync(draft, { force: true });
  const listening = await listen(options, 'socket', 'http://localhost', { path: draft });
  chmodSync(draft, 0o600);
  const socketPath = path.join(options.runDir, 'admin.sock');
  renameSync(draft, socketPath);
  return { ...listening, socketPath };
}

async function listenOnLoopback(
  options: AdminOptions,
  wanted: number,
): Promise<Listening & Readonly<{ url: string }>> {
  // Known before the routes are: the AuthZEN discovery document names its own address.
  const port = await freePort(wanted, 'admin.port');
  const url = `http://127.0.0.1:${port}`;
  const listening = await listen(options, 'tcp', url, { host: '127.0.0.1', port });
  for (const line of movedPort(wanted, port, 'the admin API')) options.report(line);
  return { ...listening, url };
}

export async function startAdmin(options: AdminOptions): Promise<Admin> {
  const local = await listenOnSocket(options);
  const { socketPath } = local;
  const stop = async (): Promise<void> => {
    rmSync(socketPath, { force: true });
    await local.stop();
  };
  if (options.port === null) return { socketPath, url: undefined, stop };
  try {
    const tcp = await listenOnLoopback(options, options.port);
    return {
      socketPath,
      url: tcp.url,
      stop: async () => {
        await tcp.stop();
        await stop();
      },
    };
  } catch (thrown) {
    await stop();
    throw thrown;
  }
}
