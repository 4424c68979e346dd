/** Policy and settings → everything that Envoy reads. Pure: the same input gives the same bytes. */
import { isIP } from 'node:net';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { Settings } from '../config/settings.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';
import { bootstrap, staticBootstrap, watchedFile } from './bootstrap.ts';
import { clusters } from './clusters.ts';
import type { JsonObject } from './json.ts';
import { type ListenerOptions, listeners } from './listeners.ts';
import type { EnvoyPaths } from './paths.ts';
import { routeTables } from './routes.ts';

export type ConfigInput = Readonly<{
  settings: Settings;
  policy: CompiledPolicy;
  paths: EnvoyPaths;
  port: number;
  tlsPort: number | undefined;
  trustBundlePem: string | undefined;
  ownName: string;
  /** `host:port` of the proxy's own listeners, as a client may write them. */
  ownAuthorities: readonly string[];
}>;

export type EnvoyConfig = Readonly<{
  bootstrap: JsonObject;
  listeners: readonly JsonObject[];
  clusters: readonly JsonObject[];
  /** One table per file: a file subscription of RDS takes exactly one. */
  routes: readonly JsonObject[];
  /** The whole in one document, for `envoy --mode validate`. */
  whole: JsonObject;
}>;

/**
 * Address literals of the policy whose TLS it reads. A change of this set replaces the inner listener; every
 * other change of a policy is a change of routes only.
 */
function interceptedAddresses(policy: CompiledPolicy): string[] {
  const { hosts, rules } = policy.source;
  const named = [...Object.values(hosts).flat(), ...rules.flatMap((rule) => rule.to.hosts)];
  const addresses = named.map((host) => host.replace(/^\[(.*)\]$/, '$1')).filter((host) => isIP(host) !== 0);
  const canonical = addresses.map((host) =>
    isIP(host) === 6 ? new URL(`http://[${host}]/`).hostname.slice(1, -1) : host,
  );
  const found = [...new Set(canonical)].filter((host) => policy.inspectable(host)).sort();
  if (found.length > limits.interceptedAddressesMax)
    throw new SallyportError(
      'PolicyInvalid',
      `The policy reads the TLS of ${found.length} IP addresses; Envoy can be given ${limits.interceptedAddressesMax}. Use host names, or \`inspect: sni\``,
    );
  return found;
}

export function envoyConfig(input: ConfigInput): EnvoyConfig {
  const { settings, policy, paths } = input;
  const tables = routeTables(policy, input.ownAuthorities, {
    upgradedMs: settings.proxy.tunnel_duration_ms_max,
    leases: settings.leases.enabled,
  });
  const addresses = interceptedAddresses(policy);
  const byName = new Map(tables.map((table) => [table['name'], table]));
  const options = (routes: ListenerOptions['routes']): ListenerOptions => ({
    settings,
    paths,
    port: input.port,
    tlsPort: input.tlsPort,
    trustBundlePem: input.trustBundlePem,
    ownName: input.ownName,
    addresses,
    routes,
  });
  const upstreams = clusters(settings, paths);
  return {
    bootstrap: bootstrap(settings, paths),
    listeners: listeners(
      options((table) => ({
        rds: { route_config_name: table, config_source: watchedFile(paths.routes, table) },
      })),
    ),
    clusters: upstreams,
    routes: tables,
    whole: staticBootstrap(
      settings,
      paths,
      listeners(options((table) => ({ route_config: byName.get(table) ?? {} }))),
      upstreams,
    ),
  };
}
