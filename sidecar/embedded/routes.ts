/**
 * Base-URL routes (`/openai/v1/models`), by fastify and @fastify/http-proxy. One application for each policy,
 * never listening itself: the plane's own server hands it the requests, so a new policy is one swap.
 */
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { IncomingMessage, ServerResponse } from '../../filters/common/node-http.ts';
import type { CompiledPolicy } from '../../filters/policy/compiled.ts';
import type { Target } from './call.ts';
import { resolveDotSegments } from './dot-segments.ts';
import type { Exchange } from './exchange.ts';

export type Routes = Readonly<{
  /** Takes a request in origin form. */
  carry(exchange: Exchange): void;
  close(): Promise<void>;
}>;

export type RouteHandlers = Readonly<{
  serve(exchange: Exchange, target: Target): void;
  refuse(exchange: Exchange, error: SallyportError): void;
}>;

const unknownPath = (): SallyportError =>
  new SallyportError('NotFound', 'this is a proxy: no route of the policy starts with this path');

const noRoutes = ({ refuse }: RouteHandlers): Routes => ({
  carry: (exchange) => refuse(exchange, unknownPath()),
  close: async () => undefined,
});

export async function buildRoutes(policy: CompiledPolicy, handlers: RouteHandlers): Promise<Routes> {
  if (policy.routes.size === 0) return noRoutes(handlers);
  // Loaded for policies that have routes only: the two weigh 8 MiB.
  const [{ fastify }, { default: httpProxy }] = await Promise.all([
    import('fastify'),
    import('@fastify/http-proxy'),
  ]);
  const exchanges = new WeakMap<IncomingMessage, Exchange>();
  const exchangeOf = (request: IncomingMessage): Exchange => {
    const exchange = exchanges.get(request);
    if (exchange === undefined) throw new SallyportError('Internal', 'a request that was never handed over');
    return exchange;
  };
  const refuse = (request: IncomingMessage, error: SallyportError): void =>
    handlers.refuse(exchangeOf(request), error);

  const app = fastify({
    bodyLimit: Number.MAX_SAFE_INTEGER,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: limits.pathBytesMax, caseSensitive: true },
    frameworkErrors: (error, request, reply) => {
      reply.hijack();
      refuse(request.raw, new SallyportError('RequestMalformed', error.message));
    },
  });
  app.setNotFoundHandler((request, reply) => {
    reply.hijack();
    refuse(request.raw, unknownPath());
  });
  app.setErrorHandler((error, request, reply) => {
    reply.hijack();
    const message = error instanceof Error ? error.message : 'the request cannot be routed';
    refuse(request.raw, new SallyportError('RequestMalformed', message));
  });
  for (const [prefix, route] of policy.routes) {
    const upstream = policy.source.routes[prefix]?.upstream;
    if (upstream === undefined) throw new SallyportError('Internal', `route ${prefix} has no upstream`);
    const { host } = new URL(upstream);
    await app.register(httpProxy, {
      prefix,
      upstream: `${route.scheme}://${host}`,
      httpMethods: app.supportedMethods.filter((method) => method !== 'TRACE' && method !== 'CONNECT'),
      // Carried like every other call: checked, pinned, and with the same headers.
      handler: (request, reply) => {
        reply.hijack();
        const exchange = exchangeOf(request.raw);
        const path = request.raw.url ?? '/';
        handlers.serve(exchange, { stage: 'base', prefix, upstream, authority: host, path });
      },
    });
  }
  await app.ready();
  return {
    carry: (exchange) => {
      const { request, response } = exchange;
      if (!(request instanceof IncomingMessage && response instanceof ServerResponse)) {
        handlers.refuse(exchange, new SallyportError('NotFound', 'base-URL routes are for HTTP/1.1'));
        return;
      }
      exchanges.set(request, exchange);
      request.url = resolveDotSegments(request.url ?? '/');
      app.routing(request, response);
    },
    close: () => app.close(),
  };
}
