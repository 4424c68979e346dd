/** The admin API's application: routes, token, errors. It never listens itself: `server.ts` hands it requests. */
import { type FastifyBaseLogger, type FastifyInstance, fastify } from 'fastify';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { authzenRoutes } from '../../ext-authz/authzen.ts';
import { auditRoutes } from './audit.ts';
import { keyRoutes } from './keys.ts';
import { lockdownRoutes } from './lockdown.ts';
import { sendProblem } from './problem.ts';
import { adminRoutes } from './routes.ts';
import type { AdminOptions } from './server.ts';
import { bearerMatches } from './token.ts';

/** Open on TCP without a token: they tell nothing of what agents do, and probes have no token. */
const openOnTcp = new Set(['/health', '/ready', '/.well-known/authzen-configuration']);

export async function buildAdmin(
  options: AdminOptions,
  over: 'socket' | 'tcp',
  baseUrl: string,
): Promise<FastifyInstance> {
  const log: FastifyBaseLogger = options.log.child({ part: 'admin' }, { level: 'warn' });
  const app: FastifyInstance = fastify({
    bodyLimit: limits.adminBodyBytesMax,
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
  keyRoutes(app, options.keys);
  lockdownRoutes(app, options.lockdown);
  auditRoutes(app, options.audit);
  await app.register(async (scope) => authzenRoutes(scope, { checker: options.checker, baseUrl }));
  await app.ready();
  return app;
}
