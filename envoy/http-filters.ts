/** The HTTP connection manager and its filters, the same in every chain but for where requests come from. */
import { limits } from '../config/limits.ts';
import { accessLogOptions, httpAccessLog } from './access-log.ts';
import { clusterName } from './clusters.ts';
import { duration, extension, type JsonObject } from './json.ts';
import { leaseFilter } from './lease-filter.ts';
import { localReplies } from './local-replies.ts';
import type { EnvoyPaths } from './paths.ts';

export const filterName = {
  extAuthz: 'envoy.filters.http.ext_authz',
  noTrailers: 'sallyport.no_trailers',
} as const;

/** Keys of the filter state that carries facts of the CONNECT into its tunnel. Nothing there comes from inside it. */
export const stateKey = {
  mode: 'sallyport.mode',
  connect: 'sallyport.connect',
  agent: 'sallyport.agent',
  proof: 'sallyport.proof',
  source: 'sallyport.source',
  connection: 'sallyport.connection',
  decision: 'sallyport.decision',
} as const;

/** Unique among all Envoy processes of this sidecar: connection ids begin anew with each. */
export const connectionId = '%ENVIRONMENT(SALLYPORT_EPOCH)%-%CONNECTION_ID%';

export const authzService: JsonObject = {
  envoy_grpc: { cluster_name: clusterName.authz },
  timeout: duration(limits.checkTimeoutMs),
};

const extAuthz = (leases: boolean): JsonObject =>
  extension(filterName.extAuthz, 'envoy.extensions.filters.http.ext_authz.v3.ExtAuthz', {
    transport_api_version: 'V3',
    failure_mode_allow: false,
    status_on_error: { code: 'ServiceUnavailable' },
    include_tls_session: true,
    // Each route names the gRPC service that is asked. Named here, a client of it would be made for every request,
    // also for those that a lease pays for (3 µs of 60). What is named here nobody serves: without its route's
    // service a request is refused.
    http_service: {
      server_uri: { uri: 'http://nobody', cluster: 'nobody', timeout: duration(limits.checkTimeoutMs) },
    },
    // As over gRPC: the service is shown every header.
    allowed_headers: { patterns: [{ safe_regex: { regex: '.*' } }] },
    // A lease has written the pin already; nothing else can. Without one the request is checked.
    ...(leases
      ? {
          filter_enabled_metadata: {
            filter: filterName.extAuthz,
            path: [{ key: 'dst' }],
            value: { present_match: true },
            invert: true,
          },
        }
      : {}),
    // `pack_as_bytes` is honoured here only, not per route; routes that need no body switch this off.
    with_request_body: {
      max_request_bytes: limits.inspectedBodyBytesMax,
      allow_partial_message: false,
      pack_as_bytes: true,
    },
  });

/** Framing has no place in trailers (RFC 9110, section 6.5.1), nor what only we say. */
const notInTrailers = 'x-sallyport-.*|connection|content-length|host|transfer-encoding';

/** Trailers of a request are shown to no check, and no approval covers them: none passes. Those of an answer do. */
const noTrailers = extension(
  filterName.noTrailers,
  'envoy.extensions.filters.http.header_mutation.v3.HeaderMutation',
  {
    mutations: {
      request_trailers_mutations: [{ remove_on_match: { key_matcher: { safe_regex: { regex: '.*' } } } }],
      response_trailers_mutations: [
        { remove_on_match: { key_matcher: { safe_regex: { regex: notInTrailers } } } },
      ],
    },
  },
);

const shared = (key: string, format: string): JsonObject => ({
  object_key: key,
  // Hashable, so that connections to the inner listeners are never shared between different tunnels.
  factory_key: 'envoy.hashable_string',
  shared_with_upstream: 'TRANSITIVE',
  skip_if_empty: true,
  format_string: { omit_empty_values: true, text_format_source: { inline_string: format } },
});
const answer = (key: string): string => `%DYNAMIC_METADATA(${filterName.extAuthz}:${key})%`;

/** After the check: what it answered for a CONNECT becomes state of the connection inside. */
const connectState = extension(
  'sallyport.state',
  'envoy.extensions.filters.http.set_filter_state.v3.Config',
  {
    // The route is chosen again, by the answer's mode.
    clear_route_cache: true,
    on_request_headers: [
      shared(stateKey.mode, answer('mode')),
      shared(stateKey.agent, answer('agent')),
      shared(stateKey.proof, answer('proof')),
      shared(stateKey.decision, answer('decision')),
      shared(stateKey.connect, '%REQ(:AUTHORITY)%'),
      shared(stateKey.source, '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%'),
      shared(stateKey.connection, connectionId),
      {
        object_key: 'envoy.network.transport_socket.original_dst_address',
        shared_with_upstream: 'TRANSITIVE',
        skip_if_empty: true,
        format_string: {
          omit_empty_values: true,
          text_format_source: { inline_string: answer('dst') },
        },
      },
    ],
  },
);

const set = (key: string, value: string): JsonObject => ({
  append: { header: { key, value }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
});
const fromState = (key: string): string => `%FILTER_STATE(${key}:PLAIN)%`;
const removePrefix = (prefix: string): JsonObject => ({
  remove_on_match: { key_matcher: { prefix, ignore_case: true } },
});

/** `x-envoy-*` of a client could ask Envoy for retries and time-outs; a released hold must leave once only. */
const clean = [removePrefix('x-sallyport-'), removePrefix('x-envoy-')];
const outerHeaders = [
  ...clean,
  set('x-sallyport-source', '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%'),
  set('x-sallyport-connection', connectionId),
];
const innerHeaders = [
  ...clean,
  set('x-sallyport-source', fromState(stateKey.source)),
  // One outer HTTP/2 connection can carry several tunnels.
  set('x-sallyport-connection', `${fromState(stateKey.connection)}.%CONNECTION_ID%`),
  set('x-sallyport-connect', fromState(stateKey.connect)),
  set('x-sallyport-agent', fromState(stateKey.agent)),
  set('x-sallyport-proof', fromState(stateKey.proof)),
];

/**
 * Which class a request is of, for the lease filter's quickest look. No part of a leased request holds a space, so
 * the parts stay apart. Of a credential no more than the first letters: where one is, the filter looks closer. None
 * at all is an empty part and then the method's first letters, which an empty credential is not.
 */
const leaseClass = set(
  'x-sallyport-class',
  '%CONNECTION_ID% %REQ(PROXY-AUTHORIZATION):2% %REQ(PROXY-AUTHORIZATION?:METHOD):2% %REQ(:METHOD)% %REQ(:AUTHORITY)% %REQ(:PATH)%',
);

export function connectionManager(options: {
  name: string;
  inside: boolean;
  leases: boolean;
  paths: EnvoyPaths;
  routeConfig: JsonObject;
}): JsonObject {
  return extension(
    'envoy.filters.network.http_connection_manager',
    'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
    {
      stat_prefix: options.name,
      ...options.routeConfig,
      use_remote_address: true,
      skip_xff_append: true,
      generate_request_id: false,
      server_header_transformation: 'PASS_THROUGH',
      upgrade_configs: options.inside
        ? [{ upgrade_type: 'websocket' }]
        : [{ upgrade_type: 'CONNECT' }, { upgrade_type: 'websocket' }],
      normalize_path: true,
      merge_slashes: false,
      // The sidecar refuses them; an intermediary that rewrites them would hide what was asked.
      path_with_escaped_slashes_action: 'KEEP_UNCHANGED',
      strip_trailing_host_dot: true,
      max_request_headers_kb: limits.requestHeaderBytesMax / 1024,
      common_http_protocol_options: {
        max_headers_count: limits.requestHeadersMax,
        headers_with_underscores_action: 'ALLOW',
        idle_timeout: duration(limits.streamIdleTimeoutMs),
      },
      // Python's urllib opens its tunnels with `CONNECT … HTTP/1.0`.
      http_protocol_options: { accept_http_10: true, enable_trailers: true },
      http2_protocol_options: {
        allow_connect: true,
        max_concurrent_streams: limits.requestHeadersMax,
        initial_stream_window_size: 256 * 1024,
        initial_connection_window_size: 1024 * 1024,
      },
      stream_idle_timeout: duration(limits.streamIdleTimeoutMs),
      request_headers_timeout: duration(limits.requestHeadersTimeoutMs),
      early_header_mutation_extensions: [
        extension(
          'sallyport.headers',
          'envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation',
          {
            mutations: [
              ...(options.inside ? innerHeaders : outerHeaders),
              ...(options.leases ? [leaseClass] : []),
            ],
          },
        ),
      ],
      access_log_options: accessLogOptions,
      access_log: httpAccessLog(options.paths.accessLog, options.name),
      local_reply_config: localReplies,
      http_filters: [
        noTrailers,
        ...(options.leases ? [leaseFilter] : []),
        extAuthz(options.leases),
        ...(options.inside ? [] : [connectState]),
        extension('envoy.filters.http.router', 'envoy.extensions.filters.http.router.v3.Router', {
          suppress_envoy_headers: true,
        }),
      ],
    },
  );
}
