/**
 * The admin API: on a Unix socket that only the sidecar's own user opens, and where asked on loopback with a
 * token. Whoever reaches it can approve holds, so the agent's user must not.
 */
import { chmodSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { type FastifyBaseLogger, type FastifyInstance, fastify } from 'fastify';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { authzenRoutes } from '../../ext-authz/authzen.ts';
import type { Checker } from '../../ext-authz/checker.ts';
import { freePort, movedPort } from '../ports.ts';
import { sendProblem } from './problem.ts';
import { type AdminDeps, adminRoutes } from './routes.ts';
import { bearerMatches } from './token.ts';

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
    report(line: string): void;
  }>;

/** Open on TCP without a token: they tell nothing of what agents do, and probes have no token. */
const openOnTcp = new Set(['/health', '/ready', '/.well-known/authzen-configuration']);

async function build(
  options: AdminOptions,
  over: 'socket' | 'tcp',
  baseUrl: string,
): Promise<FastifyInstance> {
  const log: FastifyBaseLogger = options.log.child({ part: 'admin' }, { level: 'warn' });
  const app: FastifyInstance = fastify({
    bodyLimit: limits.adminBodyBytesMax,
    requestTimeout: limits.requestHeadersTimeoutMs,
    connectionTimeout: limits.streamIdleTimeoutMs,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 256 },
    // Above `info`: fastify's own lines for each request are not for this log.
    loggerInstance: log,
  });
  app.setErrorHandler(sendProblem);
  app.setNotFoundHandler((request) => {
    throw new SallyportError('NotFound', `${request.method} ${request.url.split('?', 1)[0]} is not here`);
  });
  app.addHook('onRequest', async (request) => {
    const route = request.url.split('?', 1)[0] ?? '';
    const wanted = over === 'tcp' ? !openOnTcp.has(route) : route.startsWith('/access/');
    if (wanted && !bearerMatches(request.headers.authorization, options.token))
      throw new SallyportError(
        'Unauthorized',
        'this route wants `Authorization: Bearer` and the admin token',
      );
    // A page in somebody's browser can reach loopback by a name of its own (DNS rebinding).
    if (over === 'tcp' && !/^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/.test(request.headers.host ?? ''))
      throw new SallyportError('RequestMalformed', 'the Host header has to name loopback');
  });
  adminRoutes(app, options);
  await app.register(async (scope) => authzenRoutes(scope, { checker: options.checker, baseUrl }));
  return app;
}

/**
 * Binds inside a directory that nobody else enters, narrows the socket, and only then moves it to its name:
 * there is no moment at which another user can open it.
 */
async function listenOnSocket(app: FastifyInstance, runDir: string): Promise<string> {
  const closed = path.join(runDir, '.admin');
  mkdirSync(closed, { recursive: true, mode: 0o700 });
  chmodSync(closed, 0o700);
  const draft = path.join(closed, 's');
  rmSync(draft, { force: true });
  await app.listen({ path: draft });
  chmodSync(draft, 0o600);
  const socketPath = path.join(runDir, 'admin.sock');
  renameSync(draft, socketPath);
  return socketPath;
}

async function listenOnLoopback(options: AdminOptions, wanted: number): Promise<Listening> {
  // Known before the routes are: the AuthZEN discovery document names its own address.
  const port = await freePort(wanted, 'admin.port');
  const url = `http://127.0.0.1:${port}`;
  const app = await build(options, 'tcp', url);
  await app.listen({ host: '127.0.0.1', port });
  for (const line of movedPort(wanted, port, 'the admin API')) options.report(line);
  return { url, stop: () => app.close() };
}

type Listening = Readonly<{ url: string | undefined; stop(): Promise<void> }>;

export async function startAdmin(options: AdminOptions): Promise<Admin> {
  const local = await build(options, 'socket', 'http://localhost');
  const socketPath = await listenOnSocket(local, options.runDir);
  const stop = async (): Promise<void> => {
    rmSync(socketPath, { force: true });
    await local.close();
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
