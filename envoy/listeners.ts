/**
 * Listeners: the proxy's own (clear, and over mutual TLS), and two inside Envoy. A CONNECT ends at the outer
 * listener; what is inside comes to `inner`, whose chain is chosen by the check's answer, or to `raw`.
 *
 *   agent ─▶ explicit ─ CONNECT ─ check ─ mode intercept ─▶ inner: mitm (TLS) | plain (HTTP)
 *                                        ─ mode opaque ────▶ inner: opaque ─ check by SNI ─▶ pin
 *                                        ─ mode tunnel ────▶ raw ─▶ pin
 *                    ─ anything else ─ check ─▶ pin
 */
import { limits } from '../config/limits.ts';
import type { Settings } from '../config/settings.ts';
import { accessLogOptions, tcpAccessLog } from './access-log.ts';
import { clusterName, internalListener } from './clusters.ts';
import { authorityHost } from './globs.ts';
import { authzService, connectionManager, stateKey } from './http-filters.ts';
import { any, duration, extension, type JsonObject } from './json.ts';
import type { EnvoyPaths } from './paths.ts';
import { routeTable } from './routes.ts';

/** Asked of SDS where a client names no host in its hello. */
export const noServerName = 'no-sni.invalid';

export type ListenerOptions = Readonly<{
  settings: Settings;
  paths: EnvoyPaths;
  port: number;
  tlsPort: number | undefined;
  /** PEM of the authorities of client certificates; present where `tlsPort` is. */
  trustBundlePem: string | undefined;
  /** Name whose certificate the TLS listener shows to clients that send none. */
  ownName: string;
  /** Addresses whose TLS is read; their clients send no server name (RFC 6066, section 3: names only). */
  addresses: readonly string[];
  /** Route configuration of a connection manager: RDS, or inline for the check of a configuration. */
  routes: (table: string) => JsonObject;
}>;

const inspectors = [
  extension(
    'envoy.filters.listener.tls_inspector',
    'envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector',
  ),
  extension(
    'envoy.filters.listener.http_inspector',
    'envoy.extensions.filters.listener.http_inspector.v3.HttpInspector',
  ),
];

/** Certificates are asked of the sidecar name by name, so that none is minted that policy does not let it inspect. */
function onDemandTls(defaultName: string, context: JsonObject, fields: JsonObject): JsonObject {
  return extension(
    'envoy.transport_sockets.tls',
    'envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
    {
      // On-demand certificates do not go with resumed sessions.
      disable_stateless_session_resumption: true,
      disable_stateful_session_resumption: true,
      ...fields,
      common_tls_context: {
        alpn_protocols: ['h2', 'http/1.1'],
        tls_params: { tls_minimum_protocol_version: 'TLSv1_2', tls_maximum_protocol_version: 'TLSv1_3' },
        custom_tls_certificate_selector: extension(
          'envoy.tls.certificate_selectors.on_demand_secret',
          'envoy.extensions.transport_sockets.tls.cert_selectors.on_demand_secret.v3.Config',
          {
            config_source: {
              resource_api_version: 'V3',
              api_config_source: {
                api_type: 'DELTA_GRPC',
                transport_api_version: 'V3',
                grpc_services: [{ envoy_grpc: { cluster_name: clusterName.sds } }],
              },
            },
            certificate_mapper: extension(
              'envoy.tls.certificate_mappers.sni',
              'envoy.extensions.transport_sockets.tls.cert_mappers.sni.v3.SNI',
              { default_value: defaultName },
            ),
          },
        ),
        ...context,
      },
    },
  );
}

const stateInput = (key: string): JsonObject =>
  extension('state', 'envoy.extensions.matching.common_inputs.network.v3.FilterStateInput', { key });
const isEqual = (input: JsonObject, exact: string): JsonObject => ({
  single_predicate: { input, value_match: { exact } },
});
const chain = (name: string): JsonObject => ({
  action: { name, typed_config: any('google.protobuf.StringValue', { value: name }) },
});
const all = (...predicate: JsonObject[]): JsonObject => ({ and_matcher: { predicate } });

const isIntercepted = isEqual(stateInput(stateKey.mode), 'intercept');
const isTls = isEqual(
  extension('tls', 'envoy.extensions.matching.common_inputs.network.v3.TransportProtocolInput'),
  'tls',
);
const isHttp: JsonObject = {
  single_predicate: {
    input: extension('http', 'envoy.extensions.matching.common_inputs.network.v3.ApplicationProtocolInput'),
    value_match: { safe_regex: { google_re2: {}, regex: '.*(http/1|h2c).*' } },
  },
};
const isConnectTo = (address: string): JsonObject => ({
  single_predicate: {
    input: stateInput(stateKey.connect),
    value_match: { prefix: `${authorityHost(address)}:`, ignore_case: true },
  },
});

/** No answer of these kinds: no chain, and Envoy closes the connection. */
const chooseChain = (addresses: readonly string[]): JsonObject => ({
  matcher_list: {
    matchers: [
      { predicate: isEqual(stateInput(stateKey.mode), 'opaque'), on_match: chain('opaque') },
      ...addresses.map((address) => ({
        predicate: all(isIntercepted, isTls, isConnectTo(address)),
        on_match: chain(`mitm-${address}`),
      })),
      { predicate: all(isIntercepted, isTls), on_match: chain('mitm') },
      { predicate: all(isIntercepted, isHttp), on_match: chain('plain') },
    ],
  },
});

function tunnelTo(stage: string, options: ListenerOptions, fields: JsonObject): JsonObject {
  return extension(
    'envoy.filters.network.tcp_proxy',
    'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',
    {
      stat_prefix: stage,
      cluster: clusterName.pinnedPlain,
      max_downstream_connection_duration: duration(options.settings.proxy.tunnel_duration_ms_max),
      access_log_options: accessLogOptions,
      access_log: tcpAccessLog(options.paths.accessLog, stage),
      ...fields,
    },
  );
}

const metadata = (key: string, value: string): JsonObject => ({ key, value });
const fromState = (key: string): string => `%FILTER_STATE(${key}:PLAIN)%`;

const opaqueCheck = extension(
  'envoy.filters.network.ext_authz',
  'envoy.extensions.filters.network.ext_authz.v3.ExtAuthz',
  {
    stat_prefix: 'opaque',
    transport_api_version: 'V3',
    failure_mode_allow: false,
    include_tls_session: true,
    grpc_service: {
      ...authzService,
      // The network filter has no context extensions.
      initial_metadata: [
        metadata('x-sallyport-stage', 'opaque'),
        metadata('x-sallyport-source', fromState(stateKey.source)),
        metadata('x-sallyport-connection', `${fromState(stateKey.connection)}.%CONNECTION_ID%`),
        metadata('x-sallyport-connect', fromState(stateKey.connect)),
        metadata('x-sallyport-agent', fromState(stateKey.agent)),
        metadata('x-sallyport-proof', fromState(stateKey.proof)),
      ],
    },
  },
);

/** With two ports neither takes all of `proxy.connections_max`, which holds for both together (bootstrap). */
const portShare = ({ settings }: ListenerOptions): JsonObject =>
  extension(
    'envoy.filters.network.connection_limit',
    'envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit',
    {
      stat_prefix: 'port_share',
      max_connections: Math.ceil(settings.proxy.connections_max * (1 - 1 / limits.connectionPartsMin)),
    },
  );

function explicit(
  name: string,
  port: number,
  options: ListenerOptions,
  tls: JsonObject | undefined,
): JsonObject {
  return {
    name,
    address: { socket_address: { address: options.settings.proxy.host, port_value: port } },
    // A second process could otherwise share the port and take a part of the connections.
    enable_reuse_port: false,
    filter_chains: [
      {
        ...(tls === undefined
          ? {}
          : {
              transport_socket: tls,
              transport_socket_connect_timeout: duration(limits.requestHeadersTimeoutMs),
            }),
        filters: [
          ...(options.tlsPort === undefined ? [] : [portShare(options)]),
          connectionManager({
            name,
            inside: false,
            leases: options.settings.leases.enabled,
            paths: options.paths,
            routeConfig: options.routes(routeTable.explicit),
          }),
        ],
      },
    ],
  };
}

export function listeners(options: ListenerOptions): JsonObject[] {
  const inside = (table: string): JsonObject =>
    connectionManager({
      name: table,
      inside: true,
      leases: options.settings.leases.enabled,
      paths: options.paths,
      routeConfig: options.routes(table),
    });
  const mitm = (name: string, defaultName: string): JsonObject => ({
    name,
    transport_socket_connect_timeout: duration(limits.requestHeadersTimeoutMs),
    transport_socket: onDemandTls(defaultName, {}, {}),
    filters: [inside(routeTable.mitm)],
  });
  const list = [
    explicit('explicit', options.port, options, undefined),
    {
      name: internalListener.inner,
      internal_listener: {},
      // Counted once, at the outer listener.
      ignore_global_conn_limit: true,
      listener_filters: inspectors,
      listener_filters_timeout: duration(limits.inspectorTimeoutMs),
      continue_on_listener_filters_timeout: false,
      filter_chain_matcher: chooseChain(options.addresses),
      filter_chains: [
        mitm('mitm', noServerName),
        ...options.addresses.map((address) => mitm(`mitm-${address}`, address)),
        { name: 'plain', filters: [inside(routeTable.plain)] },
        {
          name: 'opaque',
          filters: [
            opaqueCheck,
            // With the default mode Envoy would connect before the check has run.
            tunnelTo('opaque', options, {
              upstream_connect_mode: 'ON_DOWNSTREAM_DATA',
              max_early_data_bytes: 65_536,
            }),
          ],
        },
      ],
    },
    {
      name: internalListener.raw,
      internal_listener: {},
      ignore_global_conn_limit: true,
      // No inspector: the server may speak first. Only a CONNECT with mode `tunnel` leads here.
      filter_chains: [{ filters: [tunnelTo('tunnel', options, {})] }],
    },
  ];
  if (options.tlsPort !== undefined) {
    const tls = onDemandTls(
      options.ownName,
      {
        validation_context: {
          trusted_ca: { inline_string: options.trustBundlePem ?? '' },
          match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { prefix: 'spiffe://' } }],
        },
      },
      { require_client_certificate: true },
    );
    list.push(explicit('explicit_tls', options.tlsPort, options, tls));
  }
  return list;
}
