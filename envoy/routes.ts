/**
 * Route tables. What a route decides is little: which stage the check is told, whether body and MCP are read
 * before it, and which pinned cluster carries the request. Whether it passes is the check's answer alone, so a
 * route table that lags behind the policy by a moment can make a check refuse, never pass.
 */

import { limits } from '../config/limits.ts';
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
import { authzService, filterName } from './http-filters.ts';
import { any, duration, type JsonObject, literal } from './json.ts';
import { leased, leaseFilterName } from './lease-filter.ts';

export const routeTable = { explicit: 'explicit', mitm: 'mitm', plain: 'plain' } as const;

type Stage = 'connect' | 'absolute' | 'base' | 'mitm' | 'plain';

/** What the check is sent of a request. The sidecar reads the MCP message, from the body. */
type Reads = Readonly<{ body: boolean; mcp: boolean; upgrade?: boolean }>;

/** Where requests of one kind go. */
type Lane = Readonly<{
  stage: Stage;
  scheme: 'http' | 'https';
  context: Readonly<Record<string, string>>;
  /** Rewrites of a base-URL route. */
  action: JsonObject;
}> &
  Common;

/** What the settings say of every route. */
export type Common = Readonly<{
  /** How long what follows an upgrade may last. */
  upgradedMs: number;
  /** Whether requests may be leased. */
  leases: boolean;
}>;

/** Headers that the agent, Envoy or the sidecar adds on the way and no destination may see. */
export const removedUpstream = [
  'proxy-authorization',
  'proxy-connection',
  'x-sallyport-source',
  'x-sallyport-connection',
  'x-sallyport-class',
  'x-sallyport-connect',
  'x-sallyport-agent',
  'x-sallyport-proof',
  'x-forwarded-proto',
  'x-envoy-external-address',
  'x-envoy-internal',
];

/** Of a destination's answer: what only the proxy may say to its client. What is added of it comes after. */
const removedDownstream = ['x-sallyport-error', 'x-sallyport-hold', 'proxy-authenticate'];

const matcher = (name: string, fields: JsonObject): JsonObject => ({ name, ...fields });
const regex = (expression: string): JsonObject => ({ safe_regex: { regex: expression } });
const onAuthority = (expression: string): JsonObject =>
  matcher(':authority', { string_match: regex(expression) });
const onMethods = (methods: readonly string[]): JsonObject =>
  matcher(':method', { string_match: regex(methods.map(literal).join('|')) });
const isUpgrade = matcher('upgrade', { string_match: { exact: 'websocket', ignore_case: true } });
/** RFC 6455, section 4.1: the handshake is a GET. Extended CONNECT (RFC 8441) is one too by the time it is routed. */
const isHandshake = matcher(':method', { string_match: { exact: 'GET' } });
const isGrpc = matcher('content-type', { string_match: { prefix: 'application/grpc' } });

function perFilter(
  stage: Stage,
  reads: Reads,
  context: Readonly<Record<string, string>>,
  leases: boolean,
): JsonObject {
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
        grpc_service: authzService,
      },
    }),
    // Only a CONNECT: state that is shared with upstream keeps each request's connection apart, and open.
    ...(stage === 'connect'
      ? {}
      : { 'sallyport.state': any('envoy.config.route.v3.FilterConfig', { disabled: true }) }),
    // What is read is checked each time; so is an upgrade, which is one long request.
    ...(leases && stage !== 'connect' && !reads.body && reads.upgrade !== true
      ? { [leaseFilterName]: leased({ stage, ...context }) }
      : {}),
  };
}

function requestRoutes(
  lane: Lane,
  path: JsonObject,
  headers: readonly JsonObject[],
  reads: Reads,
): JsonObject[] {
  const route = (
    cluster: string,
    extra: readonly JsonObject[],
    what: Reads,
    action: JsonObject = {},
  ): JsonObject => {
    const all = [...headers, ...extra];
    return {
      match: { ...path, ...(all.length > 0 ? { headers: all } : {}) },
      route: {
        cluster,
        timeout: '0s',
        idle_timeout: duration(limits.streamIdleTimeoutMs),
        ...lane.action,
        ...action,
      },
      typed_per_filter_config: perFilter(lane.stage, what, lane.context, lane.leases),
    };
  };
  // ext_authz never waits for the body of an upgrade: what follows it is no request body.
  const upgrade = (cluster: string): JsonObject =>
    route(
      cluster,
      // Envoy upgrades other methods as well: where their bodies are read they stay with those that are.
      reads.body ? [isUpgrade, isHandshake] : [isUpgrade],
      { body: false, mcp: false, upgrade: true },
      { max_stream_duration: { max_stream_duration: duration(lane.upgradedMs) } },
    );
  return lane.scheme === 'https'
    ? [...(reads.mcp ? [] : [upgrade(clusterName.pinnedTlsH1)]), route(clusterName.pinnedTls, [], reads)]
    : [
        ...(reads.mcp ? [] : [upgrade(clusterName.pinnedPlain)]),
        // In the clear nothing tells that an upstream speaks HTTP/2, except that gRPC cannot do without.
        ...(reads.mcp ? [] : [route(clusterName.pinnedPlainH2, [isGrpc], reads)]),
        route(clusterName.pinnedPlain, [], reads),
      ];
}

const mcpRoutes = (lane: Lane, paths: readonly string[], headers: readonly JsonObject[]): JsonObject[] =>
  paths.length === 0 ? [] : requestRoutes(lane, regex(paths.join('|')), headers, { body: true, mcp: true });

/** Of which requests to a host the body is read: of none, of all, or of those with these methods. */
type BodyNeed = 'none' | 'every' | readonly string[];

function bodyNeedOf(needs: readonly Needs[]): BodyNeed {
  const reading = needs.filter((need) => need.body);
  if (reading.length === 0) return 'none';
  if (reading.some((need) => need.bodyMethods === undefined)) return 'every';
  return unique(reading.flatMap((need) => need.bodyMethods ?? [])).sort();
}

function plainRoutes(
  lane: Lane,
  path: JsonObject,
  headers: readonly JsonObject[],
  need: BodyNeed,
): JsonObject[] {
  const read = (body: boolean, extra: readonly JsonObject[] = []): JsonObject[] =>
    requestRoutes(lane, path, [...headers, ...extra], { body, mcp: false });
  if (need === 'none') return read(false);
  if (need === 'every') return read(true);
  return [...read(true, [onMethods(need)]), ...read(false)];
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
type HostClass = { hosts: string[]; body: BodyNeed; paths: readonly string[] };

function hostClasses(needs: NeedsIndex): HostClass[] {
  const classes = new Map<string, HostClass>();
  for (const host of needs.exact.keys()) {
    const mine = needs.of(host);
    const body = bodyNeedOf(mine);
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
  // Read of every method, or of a few: patterns that want the same share their routes, the wider need first.
  const byMethods = Map.groupBy(
    patterns.filter((need) => need.body),
    (need) => JSON.stringify(need.bodyMethods ?? []),
  );
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
    routes.push(...mcpRoutes(lane, paths, [onAuthority(authorityExpression(unique(hosts)))]));
  }
  for (const [, needs] of [...byMethods].sort(([a], [b]) => a.length - b.length)) {
    const host = onAuthority(authorityExpression(unique(needs.map((need) => need.host))));
    const need = bodyNeedOf(needs);
    const methods = need === 'every' || need === 'none' ? [] : [onMethods(need)];
    routes.push(...requestRoutes(lane, everyPath, [host, ...methods], { body: true, mcp: false }));
  }
  routes.push(...plainRoutes(lane, everyPath, [], 'none'));
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
    typed_per_filter_config: perFilter('connect', { body: false, mcp: false }, {}, false),
  });
  return [
    connect({ dynamic_metadata: isMode('tunnel') }, clusterName.innerTunnel),
    connect({ dynamic_metadata: isMode('opaque') }, clusterName.innerOpaque),
    connect({}, clusterName.inner),
  ];
}

function baseRoutes(policy: CompiledPolicy, needs: NeedsIndex, common: Common): JsonObject[] {
  const routes: JsonObject[] = [];
  for (const [prefix, upstream] of policy.routes) {
    const base = upstream.basePath.replace(/\/+$/, '');
    const defaultPort = upstream.scheme === 'https' ? 443 : 80;
    const authority = `${authorityHost(upstream.host)}${upstream.port === defaultPort ? '' : `:${upstream.port}`}`;
    const lane: Lane = {
      stage: 'base',
      scheme: upstream.scheme,
      context: { prefix, upstream: `${upstream.scheme}://${authority}${base}` },
      ...common,
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
    const paths = unique(mine.flatMap((need) => need.mcpPaths))
      .flatMap((glob) => restExpressions(glob, base))
      .map((rest) => `${literal(prefix)}${rest}`);
    routes.push(
      ...mcpRoutes(lane, paths, []),
      ...plainRoutes(lane, { path_separated_prefix: prefix }, [], bodyNeedOf(mine)),
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
  common: Common,
): JsonObject => ({
  name: 'own',
  domains: ownAuthorities,
  routes: [
    ...baseRoutes(policy, needs, common),
    nothingHere({ connect_matcher: {} }),
    nothingHere(everyPath),
  ],
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
      routes: [...before, ...mcpRoutes(lane, paths, []), ...plainRoutes(lane, everyPath, [], body)],
    })),
    { name: 'every', domains: ['*'], routes: [...before, ...patternRoutes(lane, needs.patterns)] },
  ];
}

const table = (name: string, hosts: readonly JsonObject[]): JsonObject => ({
  name,
  request_headers_to_remove: removedUpstream,
  response_headers_to_remove: removedDownstream,
  // Of a leased request too: nothing but its metadata says by which decision it went.
  response_headers_to_add: [
    {
      header: { key: 'x-sallyport-decision', value: `%DYNAMIC_METADATA(${filterName.extAuthz}:decision)%` },
      append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
    },
  ],
  virtual_hosts: hosts,
});

/** @param ownAuthorities `host:port` of the proxy's own listeners, as a client may write them. */
export function routeTables(
  policy: CompiledPolicy,
  ownAuthorities: readonly string[],
  common: Common,
): JsonObject[] {
  const needs = indexNeeds(policy.needs);
  const classes = hostClasses(needs);
  const lane = (stage: Stage, scheme: 'http' | 'https'): Lane => ({
    stage,
    scheme,
    context: {},
    action: {},
    ...common,
  });
  return [
    table(routeTable.explicit, [
      ownHost(policy, needs, ownAuthorities, common),
      ...virtualHosts(lane('absolute', 'http'), needs, classes, connectRoutes()),
    ]),
    table(routeTable.mitm, virtualHosts(lane('mitm', 'https'), needs, classes, [])),
    table(routeTable.plain, virtualHosts(lane('plain', 'http'), needs, classes, [])),
  ];
}
