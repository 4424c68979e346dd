/** Envoy configurations that only the bench runs: the upstream, and the production one changed in one place. */
import { clusterName } from '../../envoy/clusters.ts';
import { filterName } from '../../envoy/http-filters.ts';
import { any, extension, type Json, type JsonObject } from '../../envoy/json.ts';

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The same tree with each object as `change` makes it; undefined leaves it out of its list or object. */
function changed(value: Json, change: (object: JsonObject) => JsonObject | undefined): Json | undefined {
  if (Array.isArray(value))
    return value.flatMap((item: Json) => {
      const made = changed(item, change);
      return made === undefined ? [] : [made];
    });
  if (!isObject(value)) return value;
  const inside: Record<string, Json> = {};
  for (const [key, member] of Object.entries(value)) {
    const made = changed(member, change);
    if (made !== undefined) inside[key] = made;
  }
  return change(inside);
}

function whole(config: JsonObject, change: (object: JsonObject) => JsonObject | undefined): JsonObject {
  const made = changed(config, change);
  if (!isObject(made)) throw new Error('the configuration is empty');
  return made;
}

const isFilter = (object: JsonObject, part: string): boolean => {
  const { name, typed_config: config } = object;
  return (
    typeof name === 'string' &&
    isObject(config) &&
    typeof config['@type'] === 'string' &&
    config['@type'].includes(part)
  );
};

/** No check, no lease: the pinned address is the upstream's, since nobody answers one. */
export const bareConfig = (config: JsonObject, upstreamPort: number): JsonObject =>
  whole(config, (object) => {
    if (isFilter(object, '.ext_authz.') || isFilter(object, '.http.lua.')) return undefined;
    if (object['name'] !== clusterName.pinnedPlain || object['type'] !== 'ORIGINAL_DST') return object;
    const { lb_policy: _policy, original_dst_lb_config: _pin, cleanup_interval: _interval, ...rest } = object;
    return {
      ...rest,
      type: 'STATIC',
      load_assignment: {
        cluster_name: clusterName.pinnedPlain,
        endpoints: [
          {
            lb_endpoints: [
              {
                endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: upstreamPort } } },
              },
            ],
          },
        ],
      },
    };
  });

/** The HTTP service says the pin in a header, and Envoy then keeps it under that header's name. */
export const httpConfig = (config: JsonObject, socket: string): JsonObject =>
  whole(config, (object) => {
    if (object['name'] === clusterName.authz && object['load_assignment'] !== undefined)
      return {
        name: clusterName.authz,
        type: 'STATIC',
        connect_timeout: '1s',
        circuit_breakers: object['circuit_breakers'] ?? {},
        load_assignment: {
          cluster_name: clusterName.authz,
          endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: socket } } } }] }],
        },
      };
    if (object['name'] === filterName.extAuthz && isFilter(object, '.filters.http.ext_authz.')) {
      return {
        ...object,
        typed_config: {
          ...(isObject(object['typed_config']) ? object['typed_config'] : {}),
          http_service: {
            server_uri: { uri: 'http://sallyport', cluster: clusterName.authz, timeout: '90s' },
            path_prefix: '/check',
            authorization_request: { headers_to_add: [{ key: 'x-sallyport-stage', value: 'absolute' }] },
            authorization_response: {
              allowed_client_headers_on_success: {
                patterns: [{ exact: 'x-sallyport-decision' }, { prefix: 'ratelimit' }],
              },
              dynamic_metadata_from_headers: { patterns: [{ prefix: 'x-sallyport-' }] },
            },
          },
          allowed_headers: { patterns: [{ safe_regex: { regex: '.*' } }] },
        },
      };
    }
    if (object['context_extensions'] !== undefined) {
      const { grpc_service: _grpc, ...rest } = object;
      return rest;
    }
    if (object['key'] === filterName.extAuthz && Array.isArray(object['path']))
      return { ...object, path: [{ key: 'x-sallyport-dst' }] };
    return object;
  });

/** Answers at once, itself. */
export const upstreamConfig = (port: number, adminSocket: string, answer: string): JsonObject => ({
  admin: { address: { pipe: { path: adminSocket } } },
  static_resources: {
    listeners: [
      {
        name: 'upstream',
        address: { socket_address: { address: '127.0.0.1', port_value: port } },
        filter_chains: [
          {
            filters: [
              extension(
                'envoy.filters.network.http_connection_manager',
                'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
                {
                  stat_prefix: 'upstream',
                  route_config: {
                    virtual_hosts: [
                      {
                        name: 'all',
                        domains: ['*'],
                        routes: [
                          {
                            match: { prefix: '/' },
                            direct_response: { status: 200, body: { inline_string: answer } },
                          },
                        ],
                      },
                    ],
                  },
                  http_filters: [
                    {
                      name: 'envoy.filters.http.router',
                      typed_config: any('envoy.extensions.filters.http.router.v3.Router'),
                    },
                  ],
                },
              ),
            ],
          },
        ],
      },
    ],
  },
});
