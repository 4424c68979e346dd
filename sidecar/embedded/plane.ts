/** The data plane without Envoy: same semantics, one process, no root. */
import { readFileSync } from 'node:fs';
import { type AddressInfo, isIPv6, type Server } from 'node:net';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { Settings } from '../../config/settings.ts';
import type { DataPlane, PlaneDeps } from '../../envoy/data-plane.ts';
import { ownAuthorities } from '../../envoy/ports.ts';
import { refusal, unreadRequest } from '../../ext-authz/refusal.ts';
import { createIds } from '../../filters/common/ids.ts';
import { classifyAddress } from '../../filters/egress/classify.ts';
import type { CompiledPolicy } from '../../filters/policy/compiled.ts';
import { createBodyBudget } from './body.ts';
import { createConnections } from './connections.ts';
import type { Core } from './core.ts';
import { serve } from './exchange.ts';
import { openEmbeddedLedger } from './ledger.ts';
import { createListeners } from './listeners.ts';
import { createPools } from './pools.ts';
import { refuseRequest } from './refuse.ts';
import { buildRoutes, type RouteHandlers } from './routes.ts';
import { toldOf } from './target.ts';
import { createUnreadTunnels } from './unread.ts';

export async function startEmbeddedPlane(deps: PlaneDeps): Promise<DataPlane> {
  const { settings, log, clock } = deps;
  const ids = createIds(clock);
  const own = new Set<string>();
  let policy: CompiledPolicy = deps.policy;
  const ledger = openEmbeddedLedger(deps);
  const core: Core = {
    deps: { ...deps, checker: ledger.checker },
    ledger,
    policy: () => policy,
    unread: createUnreadTunnels({ identify: deps.identify, clock, policy: () => policy, log: deps.log }),
    pools: createPools({
      upstreamCaPem: deps.upstreamCaPem,
      connectTimeoutMs: settings.upstream.connect_timeout_ms,
      connectionsMax: settings.proxy.connections_max,
      onError: (err) => log.warn({ err }, 'connections to a destination did not close'),
    }),
    bodies: createBodyBudget(),
    connections: createConnections(settings.proxy.connections_max),
    refusal: (error, request, found) => {
      const deny = refusal(error, clock, ids.decision(), found);
      deps.onRefusal(deny, request ?? unreadRequest('embedded'));
      return deny;
    },
    assertElsewhere: (authority) => {
      if (own.has(authority.toLowerCase()))
        throw new SallyportError('NotFound', 'this is the proxy’s own address, not a destination');
    },
  };
  const handlers: RouteHandlers = {
    serve: (exchange, target) => void serve(core, exchange, target),
    refuse: ({ request, response }, error) =>
      refuseRequest(request, response, undefined, core.refusal(error, toldOf(request))),
  };
  let routes = await buildRoutes(policy, handlers);
  const listeners = createListeners(core, (exchange) => routes.carry(exchange));
  const servers: Server[] = [];
  const open = async (server: Server, port: number): Promise<number> => {
    servers.push(server);
    const bound = await listenFrom(server, settings.proxy.host, port);
    if (port !== 0 && bound !== port)
      log.warn({ port, took: bound }, 'the port is in use; the next free one is taken');
    for (const authority of ownAuthorities(settings.proxy.host, [bound])) own.add(authority.toLowerCase());
    return bound;
  };
  let closed = false;
  const stop = async (): Promise<void> => {
    if (closed) return;
    closed = true;
    const ended = servers.map((server) => new Promise((resolve) => server.close(resolve)));
    listeners.destroyAll();
    await withinMs(Promise.all([...ended, core.pools.destroy(), routes.close()]), limits.stopTimeoutMs);
    ledger.close();
  };

  try {
    const host = isIPv6(settings.proxy.host) ? `[${settings.proxy.host}]` : settings.proxy.host;
    const port = await open(listeners.http, settings.proxy.port);
    const tlsPort =
      settings.proxy.tls_port === null
        ? undefined
        : await open(listeners.tls(await identityOf(deps)), settings.proxy.tls_port);
    return {
      kind: 'embedded',
      proxyUrl: `http://${host}:${port}`,
      proxyTlsUrl: tlsPort === undefined ? undefined : `https://${host}:${tlsPort}`,
      apply: async (next) => {
        const built = await buildRoutes(next, handlers);
        const before = routes;
        policy = next;
        routes = built;
        core.unread.review();
        // Requests under way have left fastify already: its handlers only hand them over.
        await before.close();
      },
      health: async () => ({
        healthy: !closed,
        detail: closed ? 'stopped' : `embedded, port ${port}`,
        pid: process.pid,
      }),
      endConnections: async () => listeners.destroyAll(),
      stop,
    };
  } catch (thrown) {
    await stop();
    throw thrown;
  }
}

/** The certificate of the mutual-TLS port, and the authorities whose clients it believes. */
async function identityOf({ authority, settings }: PlaneDeps) {
  const file = settings.identity.trust_bundle_file;
  if (file === '')
    throw new SallyportError('SettingsInvalid', 'proxy.tls_port needs identity.trust_bundle_file');
  const { certificatePem, privateKeyPem } = await authority.mint(certificateName(settings));
  return { certificatePem, privateKeyPem, trustPem: readFileSync(file, 'utf8') };
}

/** A wildcard address is nobody's name. */
const certificateName = ({ proxy }: Settings): string =>
  classifyAddress(proxy.host) === 'unspecified' ? 'localhost' : proxy.host;

const listen = (server: Server, host: string, port: number): Promise<number> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve((server.address() as AddressInfo).port);
    });
  });

/** The port, or the next free one after it. */
async function listenFrom(server: Server, host: string, port: number): Promise<number> {
  for (let step = 0; ; step += 1) {
    try {
      return await listen(server, host, port === 0 ? 0 : port + step);
    } catch (cause) {
      const inUse = cause instanceof Error && 'code' in cause && cause.code === 'EADDRINUSE';
      if (!inUse || step + 1 >= limits.portsTried || port + step >= 65_535)
        throw new SallyportError(
          'SettingsInvalid',
          `the proxy cannot listen on ${host}:${port + step}: ${cause instanceof Error ? cause.message : String(cause)}`,
          {
            cause,
          },
        );
    }
  }
}

async function withinMs(work: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, late]).finally(() => clearTimeout(timer));
}
