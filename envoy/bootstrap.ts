/** What Envoy reads once at its start: where the rest is, its limits, and the admin socket. */
import type { Settings } from '../config/settings.ts';
import { any, extension, type JsonObject } from './json.ts';
import type { EnvoyPaths } from './paths.ts';

const overload = (name: string, threshold: number): JsonObject => ({
  name,
  triggers: [{ name: 'envoy.resource_monitors.fixed_heap', threshold: { value: threshold } }],
});

function common(settings: Settings, paths: EnvoyPaths): JsonObject {
  return {
    node: { id: 'sallyport', cluster: 'sallyport' },
    admin: { address: { pipe: { path: paths.adminSocket, mode: 0o600 } } },
    bootstrap_extensions: [
      {
        name: 'envoy.bootstrap.internal_listener',
        typed_config: any('envoy.extensions.bootstrap.internal_listener.v3.InternalListener'),
      },
    ],
    layered_runtime: {
      layers: [
        {
          name: 'static',
          // Envoy's default of 100 instructions is less than a rule's paths may need; the policy's limits bound them.
          static_layer: {
            're2.max_program_size.error_level': 1_000_000,
            're2.max_program_size.warn_level': 1_000_000,
          },
        },
      ],
    },
    overload_manager: {
      refresh_interval: '0.25s',
      resource_monitors: [
        extension(
          'envoy.resource_monitors.fixed_heap',
          'envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig',
          { max_heap_size_bytes: settings.envoy.heap_bytes_max },
        ),
        extension(
          'envoy.resource_monitors.global_downstream_max_connections',
          'envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig',
          { max_active_downstream_connections: settings.proxy.connections_max },
        ),
      ],
      actions: [
        overload('envoy.overload_actions.shrink_heap', 0.8),
        overload('envoy.overload_actions.disable_http_keepalive', 0.9),
        overload('envoy.overload_actions.stop_accepting_requests', 0.95),
        overload('envoy.overload_actions.stop_accepting_connections', 0.98),
      ],
    },
  };
}

/** A directory that Envoy watches; a file in it is replaced by rename. */
export const watchedFile = (directory: string, name: string): JsonObject => ({
  resource_api_version: 'V3',
  path_config_source: { path: `${directory}/${name}.json`, watched_directory: { path: directory } },
});

export const bootstrap = (settings: Settings, paths: EnvoyPaths): JsonObject => ({
  ...common(settings, paths),
  dynamic_resources: {
    cds_config: watchedFile(paths.clusters, 'clusters'),
    lds_config: watchedFile(paths.listeners, 'listeners'),
  },
});

/** The same with everything inline: what `envoy --mode validate` reads. */
export const staticBootstrap = (
  settings: Settings,
  paths: EnvoyPaths,
  listeners: readonly JsonObject[],
  clusters: readonly JsonObject[],
): JsonObject => ({
  ...common(settings, paths),
  static_resources: { listeners, clusters },
});
