/**
 * Clusters. Upstream ones are ORIGINAL_DST with the address that ext_authz answered in its metadata: Envoy
 * never resolves a name, and no header of a client can choose the address.
 */

import { limits } from '../config/limits.ts';
import type { Settings } from '../config/settings.ts';
import { any, duration, extension, type JsonObject } from './json.ts';
import type { EnvoyPaths } from './paths.ts';

export const clusterName = {
  authz: 'authz',
  /** Leases are asked for here, over HTTP/1.1. */
  lease: 'lease',
  sds: 'sds',
  /** To the inner listener, for connections whose requests are read. */
  inner: 'inner',
  /** To the inner listener, for TLS passed unread; ends with the sidecar. */
  innerOpaque: 'inner_opaque',
  /** To the raw listener, for tunnels; ends with the sidecar. */
  innerTunnel: 'inner_tunnel',
  pinnedPlain: 'pinned_plain',
  pinnedPlainH2: 'pinned_plain_h2',
  pinnedTls: 'pinned_tls',
  pinnedTlsH1: 'pinned_tls_h1',
} as const;

export const internalListener = { inner: 'inner', raw: 'raw' } as const;

const many = limits.connectionsMax * limits.requestHeadersMax;
/** The default of 1,024 would refuse the 1,025th hold; the sidecar has its own limits and says so in words. */
const breakers = {
  thresholds: [
    { max_connections: many, max_pending_requests: many, max_requests: many, max_retries: 0 },
    {
      priority: 'HIGH',
      max_connections: many,
      max_pending_requests: many,
      max_requests: many,
      max_retries: 0,
    },
  ],
} as const;

const httpOptions = (fields: JsonObject): JsonObject => ({
  'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': any(
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
    fields,
  ),
});

const single = (name: string, endpoint: JsonObject): JsonObject => ({
  cluster_name: name,
  endpoints: [{ lb_endpoints: [{ endpoint }] }],
});

/**
 * A connection over which no lease was asked for so long is closed: once every lease that was granted over it has
 * ended, and the access log was to be told of each of its calls (`ext-authz/lease-proof.ts`).
 */
export const leaseIdleMs = ({ leases }: Settings): number =>
  2 * leases.life_ms + limits.ledgerInterimMs + 2 * limits.leaseTimerSlackMs;

/** A service of the sidecar on its Unix socket. */
const sidecar = (name: string, path: string, protocol: JsonObject, idleMs?: number): JsonObject => ({
  name,
  type: 'STATIC',
  connect_timeout: '1s',
  circuit_breakers: breakers,
  typed_extension_protocol_options: httpOptions({
    explicit_http_config: protocol,
    ...(idleMs === undefined ? {} : { common_http_protocol_options: { idle_timeout: duration(idleMs) } }),
  }),
  load_assignment: single(name, { address: { pipe: { path } } }),
});
const http2: JsonObject = { http2_protocol_options: {} };
const http1: JsonObject = { http_protocol_options: {} };

/**
 * How Envoy notices that the sidecar is gone: it asks the sidecar's health socket about the endpoints of the
 * unread clusters, and closes their connections when it fails. Interval, time-out and threshold stay within
 * `limits.tunnelsEndAfterSidecarLossMs` even for a sidecar that hangs: the last good answer may be one interval
 * old, then two checks have to time out with an interval between them.
 */
const lossStepMs = limits.tunnelsEndAfterSidecarLossMs / 5;
const sidecarHealth: JsonObject = {
  timeout: duration(lossStepMs),
  interval: duration(lossStepMs),
  // Without traffic Envoy would ask once a minute only.
  no_traffic_interval: duration(lossStepMs),
  unhealthy_interval: '0.25s',
  no_traffic_healthy_interval: duration(lossStepMs),
  unhealthy_threshold: 2,
  healthy_threshold: 1,
  reuse_connection: false,
  transport_socket_match_criteria: { health: true },
  http_health_check: { path: '/healthz', host: 'sidecar' },
};

const raw = extension('raw', 'envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer');
const internalSocket = extension(
  'envoy.transport_sockets.internal_upstream',
  'envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport',
  { transport_socket: raw },
);

const internal = (name: string, listener: string): JsonObject => ({
  name,
  type: 'STATIC',
  connect_timeout: '2s',
  circuit_breakers: breakers,
  load_assignment: single(name, {
    address: { envoy_internal_address: { server_listener_name: listener } },
  }),
  transport_socket: internalSocket,
});

const internalUnread = (name: string, listener: string, healthSocket: string): JsonObject => ({
  ...internal(name, listener),
  load_assignment: single(name, {
    address: { envoy_internal_address: { server_listener_name: listener } },
    health_check_config: { address: { pipe: { path: healthSocket } } },
  }),
  transport_socket_matches: [{ name: 'health', match: { health: true }, transport_socket: raw }],
  health_checks: [sidecarHealth],
  close_connections_on_host_health_failure: true,
  common_lb_config: { healthy_panic_threshold: { value: 0 } },
});

const pinned = (name: string, connectTimeoutMs: number, fields: JsonObject): JsonObject => ({
  name,
  type: 'ORIGINAL_DST',
  lb_policy: 'CLUSTER_PROVIDED',
  connect_timeout: duration(connectTimeoutMs),
  cleanup_interval: '60s',
  circuit_breakers: breakers,
  original_dst_lb_config: {
    metadata_key: { key: 'envoy.filters.http.ext_authz', path: [{ key: 'dst' }] },
  },
  ...fields,
});

export function clusters(settings: Settings, paths: EnvoyPaths): JsonObject[] {
  const timeoutMs = settings.upstream.connect_timeout_ms;
  const upstreamHttp2 = { max_concurrent_streams: 100 };
  const upstreamHttp1 = { enable_trailers: true };
  const tls = extension(
    'envoy.transport_sockets.tls',
    'envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
    {
      common_tls_context: {
        tls_params: { tls_minimum_protocol_version: 'TLSv1_2', tls_maximum_protocol_version: 'TLSv1_3' },
        validation_context: { trusted_ca: { filename: paths.upstreamCa } },
      },
    },
  );
  // SNI and the name to be proved follow the request's authority, whatever the address.
  const named = { auto_sni: true, auto_san_validation: true };
  return [
    sidecar(clusterName.authz, paths.authzSocket, http2),
    ...(settings.leases.enabled
      ? [sidecar(clusterName.lease, paths.leaseSocket, http1, leaseIdleMs(settings))]
      : []),
    sidecar(clusterName.sds, paths.sdsSocket, http2),
    internal(clusterName.inner, internalListener.inner),
    internalUnread(clusterName.innerOpaque, internalListener.inner, paths.healthSocket),
    internalUnread(clusterName.innerTunnel, internalListener.raw, paths.healthSocket),
    pinned(clusterName.pinnedPlain, timeoutMs, {
      typed_extension_protocol_options: httpOptions({
        explicit_http_config: { http_protocol_options: upstreamHttp1 },
      }),
    }),
    pinned(clusterName.pinnedPlainH2, timeoutMs, {
      typed_extension_protocol_options: httpOptions({
        explicit_http_config: { http2_protocol_options: upstreamHttp2 },
      }),
    }),
    pinned(clusterName.pinnedTls, timeoutMs, {
      typed_extension_protocol_options: httpOptions({
        upstream_http_protocol_options: named,
        auto_config: { http2_protocol_options: upstreamHttp2, http_protocol_options: upstreamHttp1 },
      }),
      transport_socket: tls,
    }),
    // A WebSocket on an upstream connection that chose HTTP/2 would become an extended CONNECT, which few accept.
    pinned(clusterName.pinnedTlsH1, timeoutMs, {
      typed_extension_protocol_options: httpOptions({
        upstream_http_protocol_options: named,
        explicit_http_config: { http_protocol_options: upstreamHttp1 },
      }),
      transport_socket: tls,
    }),
  ];
}
