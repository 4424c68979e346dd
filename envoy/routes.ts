/**
 * Route tables. What a route decides is little: which stage the check is told, whether body and MCP are read
 * before it, and which pinned cluster carries the request. Whether it passes is the check's answer alone, so a
 * route table that lags behind the policy by a moment can make a check refuse, never pass.
 */

import { limits } from '../config/limits.ts';
import { methodsWithoutMessage } from '../filters/content/mcp.ts';
import type { CompiledPolicy, Needs } from '../filters/policy/compiled.ts';
import { clusterName } from './clusters.ts';
import {
  authorityExpression,
  authorityHost,
  hostMatcher,
  isPattern,
  pathExpression,
  restExpressions,
} from './globs.ts';
import { filterName } from './http-filters.ts';
import { any, duration, type JsonObject, literal } from './json.ts';

export const routeTable = { explicit: 'explicit', mitm: 'mitm', plain: 'plain' } as const;

type Stage = 'connect' | 'absolute' | 'base' | 'mitm' | 'plain';

/** What the data plane reads of a request before the check. */
type Reads = Readonly<{ body: boolean; mcp: boolean; noBody?: boolean }>;

/** Where requests of one kind go. */
type Lane = Readonly<{
  stage: Stage;
  scheme: 'http' | 'https';
  context: Readonly<Record<string, string>>;
  /** Rewrites of a base-URL route. */
  action: JsonObject;
}>;

/** Headers that the agent, Envoy or the sidecar adds on the way and no destination may see. */
export const removedUpstream = [
  'proxy-authorization',
  'proxy-connection',
  'x-sallyport-source',
  'x-sallyport-connection',
  'x-sallyport-connect',
  'x-sallyport-agent',
  'x-forwarded-proto',
  'x-envoy-external-address',
  'x-envoy-internal',
];

const matcher = (name: string, fields: JsonObject): JsonObject => ({ name, ...fields });
const regex = (expression: string): JsonObject => ({ safe_regex: { regex: expression } });
const onAuthority = (expression: string): JsonObject =>
  matcher(':authority', { string_match: regex(expression) });
/** RFC 6455, section 4.1: the handshake is a GET. Extended CONNECT (RFC 8441) is one too by the time it is routed. */
const isUpgrade = [
  matcher('upgrade', { string_match: { exact: 'websocket', ignore_case: true } }),
  matcher(':method', { string_match: { exact: 'GET' } }),
];
const isGrpc = matcher('content-type', { string_match: { prefix: 'application/grpc' } });

const carriesNoMessage = matcher(':method', { string_match: regex(methodsWithoutMessage.join('|')) });

const enabled = any('envoy.config.route.v3.FilterConfig', { config: {} });

function perFilter(stage: Stage, reads: Reads, context: Readonly<Record<string, string>>): JsonObject {
  return {
    [filterName.extAuthz]: any('envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute', {
      check_settings: {
        context_extensions: {
          stage,
          ...(reads.body ? { body: 'read' } : {}),
          ...(reads.mcp ? { mcp: 'required' } : {}),
          ...context,
        },
        disable_request_body_buffering: !reads.body,
      },
    }),
    // All are disabled in the chain; naming them here enables them.
    ...(reads.body ? { [filterName.noTrailers]: enabled } : {}),
    ...(reads.mcp ? { [filterName.mcp]: enabled } : {}),
    ...(reads.noBody === true ? { [filterName.noBody]: enabled } : {}),
  };
}

function requestRoutes(
  lane: Lane,
  path: JsonObject,
  headers: readonly JsonObject[],
  reads: Reads,
): JsonObject[] {
  const route = (cluster: string, extra: readonly JsonObject[], what: Reads): JsonObject => {
    const all = [...headers, ...extra];
    return {
      match: { ...path, ...(all.length > 0 ? { headers: all } : {}) },
      route: {
        cluster,
        timeout: '0s',
        idle_timeout: duration(limits.streamIdleTimeoutMs),
        ...lane.action,
      },
      typed_per_filter_config: perFilter(lane.stage, what, lane.context),
    };
  };
  // ext_authz never waits for the body of an upgrade: what follows it is no request body.
  const upgrade = { body: false, mcp: false };
  return lane.scheme === 'https'
    ? [
        ...(reads.mcp ? [] : [route(clusterName.pinnedTlsH1, isUpgrade, upgrade)]),
        route(clusterName.pinnedTls, [], reads),
      ]
    : [
        ...(reads.mcp ? [] : [route(clusterName.pinnedPlain, isUpgrade, upgrade)]),
        // In the clear nothing tells that an upstream speaks HTTP/2, except that gRPC cannot do without.
        ...(reads.mcp ? [] : [route(clusterName.pinnedPlainH2, [isGrpc], reads)]),
        route(clusterName.pinnedPlain, [], reads),
      ];
}

function mcpRoutes(
  lane: Lane,
  paths: readonly string[],
  headers: readonly JsonObject[],
  body: boolean,
): JsonObject[] {
  if (paths.length === 0) return [];
  const path = regex(paths.join('|'));
  return [
    ...requestRoutes(lane, path, [...headers, carriesNoMessage], { body, mcp: false, noBody: true }),
    ...requestRoutes(lane, path, headers, { body, mcp: true }),
  ];
}

const everyPath: JsonObject = { prefix: '/' };
const unique = <T>(values: Iterable<T>): T[] => [...new Set(values)];

/** What is asked of each host: by exact name, and by pattern. */
type NeedsIndex = Readonly<{
  exact: ReadonlyMap<string, readonly Needs[]>;
  patterns: readonly Needs[];
  of(host: string): readonly Needs[];
}>;

function indexNeeds(needs: readonly Needs[]): NeedsIndex {
  const exact = Map.groupBy(
    needs.filter((need) => !isPattern(need.host)),
    (need) => need.host,
  );
  const patterns = needs.filter((need) => isPattern(need.host));
  const matching = patterns.map((need) => [hostMatcher(need.host), need] as const);
  return {
    exact,
    patterns,
    of: (host) => [
      ...(exact.get(host) ?? []),
      ...matching.filter(([matches]) => matches(host)).map(([, need]) => need),
    ],
  };
}

/** Exact hosts of which the same is asked, patterns included, share one set of routes. */
type HostClass = { hosts: string[]; body: boolean; paths: readonly string[] };

function hostClasses(needs: NeedsIndex): HostClass[] {
  const classes = new Map<string, HostClass>();
  for (const host of needs.exact.keys()) {
    const mine = needs.of(host);
    const body = mine.some((need) => need.body);
    const paths = unique(mine.flatMap((need) => need.mcpPaths)).sort();
    const key = JSON.stringify([body, paths]);
    const known = classes.get(key);
    if (known === undefined) classes.set(key, { hosts: [host], body, paths: paths.map(pathExpression) });
    else known.hosts.push(host);
  }
  return [...classes.values()];
}

/** Routes of every other host: patterns are matched on the authority. */
function patternRoutes(lane: Lane, patterns: readonly Needs[]): JsonObject[] {
  const withBody = unique(patterns.filter((need) => need.body).map((need) => need.host));
  const bodyHost = withBody.length > 0 ? [onAuthority(authorityExpression(withBody))] : undefined;
  const byPaths = new Map<string, { paths: string[]; hosts: string[] }>();
  for (const need of patterns) {
    if (need.mcpPaths.length === 0) continue;
    const key = JSON.stringify(need.mcpPaths);
    const group = byPaths.get(key) ?? { paths: need.mcpPaths.map(pathExpression), hosts: [] };
    group.hosts.push(need.host);
    byPaths.set(key, group);
  }
  const routes: JsonObject[] = [];
  for (const { paths, hosts } of byPaths.values()) {
    const host = onAuthority(authorityExpression(unique(hosts)));
    if (bodyHost !== undefined) routes.push(...mcpRoutes(lane, paths, [host, ...bodyHost], true));
    routes.push(...mcpRoutes(lane, paths, [host], false));
  }
  if (bodyHost !== undefined)
    routes.push(...requestRoutes(lane, everyPath, bodyHost, { body: true, mcp: false }));
  routes.push(...requestRoutes(lane, everyPath, [], { body: false, mcp: false }));
  return routes;
}

const isMode = (mode: string): JsonObject[] => [
  { filter: filterName.extAuthz, path: [{ key: 'mode' }], value: { string_match: { exact: mode } } },
];

/** CONNECT is checked first; the answer's mode then chooses among these (`clear_route_cache` of the state filter). */
function connectRoutes(): JsonObject[] {
  const connect = (match: JsonObject, cluster: string): JsonObject => ({
    match: { connect_matcher: {}, ...match },
    route: {
      cluster,
      timeout: '0s',
      idle_timeout: duration(limits.streamIdleTimeoutMs),
      upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }],
    },
    typed_per_filter_config: perFilter('connect', { body: false, mcp: false }, {}),
  });
  return [
    connect({ dynamic_metadata: isMode('tunnel') }, clusterName.innerTunnel),
    connect({ dynamic_metadata: isMode('opaque') }, clusterName.innerOpaque),
    connect({}, clusterName.inner),
  ];
}

function baseRoutes(policy: CompiledPolicy, needs: NeedsIndex): JsonObject[] {
  const routes: JsonObject[] = [];
  for (const [prefix, upstream] of policy.routes) {
    const base = upstream.basePath.replace(/\/+$/, '');
    const defaultPort = upstream.scheme === 'https' ? 443 : 80;
    const authority = `${authorityHost(upstream.host)}${upstream.port === defaultPort ? '' : `:${upstream.port}`}`;
    const lane: Lane = {
      stage: 'base',
      scheme: upstream.scheme,
      context: { prefix, upstream: `${upstream.scheme}://${authority}${base}` },
      action: {
        host_rewrite_literal: authority,
        // The check computes the same path (`ext-authz/base-route.ts`).
        regex_rewrite:
          base === ''
            ? { pattern: { regex: `^${literal(prefix)}/?` }, substitution: '/' }
            : {
                pattern: { regex: `^${literal(prefix)}` },
                substitution: base.replaceAll('\\', '\\\\'),
              },
      },
    };
    const mine = needs.of(upstream.host);
    const body = mine.some((need) => need.body);
    const paths = unique(mine.flatMap((need) => need.mcpPaths))
      .flatMap((glob) => restExpressions(glob, base))
      .map((rest) => `${literal(prefix)}${rest}`);
    routes.push(
      ...mcpRoutes(lane, paths, [], body),
      ...requestRoutes(lane, { path_separated_prefix: prefix }, [], { body, mcp: false }),
    );
  }
  return routes;
}

/** Answered here, without a check: there is no destination that could be decided about. */
const nothingHere = (match: JsonObject): JsonObject => ({
  match,
  direct_response: { status: 404 },
  typed_per_filter_config: {
    [filterName.extAuthz]: any('envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute', {
      disabled: true,
    }),
  },
});

/** Routes of the proxy's own addresses: base-URL routes, and nothing else, so that no request comes back here. */
const ownHost = (
  policy: CompiledPolicy,
  needs: NeedsIndex,
  ownAuthorities: readonly string[],
): JsonObject => ({
  name: 'own',
  domains: ownAuthorities,
  routes: [...baseRoutes(policy, needs), nothingHere({ connect_matcher: {} }), nothingHere(everyPath)],
});

function virtualHosts(
  lane: Lane,
  needs: NeedsIndex,
  classes: readonly HostClass[],
  before: readonly JsonObject[],
): JsonObject[] {
  return [
    ...classes.map(({ hosts, body, paths }, index) => ({
      name: `class-${index}`,
      domains: hosts.map(authorityHost).flatMap((host) => [host, `${host}:*`]),
      routes: [
        ...before,
        ...mcpRoutes(lane, paths, [], body),
        ...requestRoutes(lane, everyPath, [], { body, mcp: false }),
      ],
    })),
    { name: 'every', domains: ['*'], routes: [...before, ...patternRoutes(lane, needs.patterns)] },
  ];
}

const table = (name: string, hosts: readonly JsonObject[]): JsonObject => ({
  name,
  request_headers_to_remove: removedUpstream,
  virtual_hosts: hosts,
});

const lane = (stage: Stage, scheme: 'http' | 'https'): Lane => ({ stage, scheme, context: {}, action: {} });

/** @param ownAuthorities `host:port` of the proxy's own listeners, as a client may write them. */
export function routeTables(policy: CompiledPolicy, ownAuthorities: readonly string[]): JsonObject[] {
  const needs = indexNeeds(policy.needs);
  const classes = hostClasses(needs);
  return [
    table(routeTable.explicit, [
      ownHost(policy, needs, ownAuthorities),
      ...virtualHosts(lane('absolute', 'http'), needs, classes, connectRoutes()),
    ]),
    table(routeTable.mitm, virtualHosts(lane('mitm', 'https'), needs, classes, [])),
    table(routeTable.plain, virtualHosts(lane('plain', 'http'), needs, classes, [])),
  ];
}
