/**
 * The settings of the process, declared once: key, shape, default, environment variable, sentence.
 * `docs/configuration.md` is generated from here. Precedence: environment over file over default.
 */
import { z } from 'zod';
import { limits } from './limits.ts';

const ms = (min: number, max: number) => z.int().min(min).max(max);
const portOrZero = z.int().min(0).max(65_535);
const flag = z.boolean();
const text = z.string().max(4_096);

/** One setting: its schema (with default and sentence) and the variable that overrides it. */
const setting = <T extends z.ZodType>(schema: T, sentence: string): T => schema.describe(sentence);

export const settingsSchema = z.strictObject({
  policy: setting(
    text.default('config/examples/policy.yaml'),
    'Path of the policy file, from the working directory.',
  ),
  state_dir: setting(
    text.default(''),
    'Where journal, holds, quotas and keys are kept. Empty: /var/lib/sallyport as root, else ~/.local/state/sallyport.',
  ),
  run_dir: setting(
    text.default(''),
    'Where sockets and generated Envoy files are. Empty: /run/sallyport as root, else run/ inside the state directory.',
  ),
  data_plane: setting(
    z.enum(['auto', 'envoy', 'embedded']).default('auto'),
    '`auto`: Envoy 1.40 where it can be had, otherwise the embedded data plane; which one is said at start.',
  ),
  proxy: z
    .strictObject({
      host: setting(text.default('127.0.0.1'), 'Address that the proxy listens on.'),
      port: setting(
        portOrZero.default(10_080),
        'Port of the explicit proxy. In use: named, and the next free one is taken. 0: any free one.',
      ),
      tls_port: setting(
        portOrZero.nullable().default(null),
        'Port of the same proxy over mutual TLS, where agents are known by client certificate. null: none.',
      ),
      connections_max: setting(
        z.int().min(1).max(65_536).default(limits.connectionsMax),
        'Connections from agents at once.',
      ),
      tunnel_duration_ms_max: setting(
        ms(1_000, 24 * 3_600_000).default(limits.tunnelDurationMsMax),
        'A tunnel that is passed unread ends after this.',
      ),
    })
    .prefault({}),
  identity: z
    .strictObject({
      pod_agent: setting(
        text.default(''),
        'Name of the one agent of this pod: every connection is it unless a user, credential or certificate says otherwise. Empty: none.',
      ),
      trust_bundle_file: setting(
        text.default(''),
        'PEM file of the authorities whose client certificates are believed on `proxy.tls_port`.',
      ),
    })
    .prefault({}),
  agent: z
    .strictObject({
      user: setting(
        text.default('20201'),
        'Unix user, by name or number, that `sallyport run` gives the agent when it runs as root.',
      ),
      envoy_user: setting(
        text.default('20202'),
        'Unix user, by name or number, that Envoy runs as when the sidecar is root. Not 1337, which is Istio’s.',
      ),
    })
    .prefault({}),
  resolver: z
    .strictObject({
      hosts: setting(
        z.record(z.string(), z.union([text, z.array(text).min(1).max(limits.dnsAddressesMax)])).default({}),
        'Fixed addresses by host name, like /etc/hosts; classified like every other address.',
      ),
      servers: setting(
        z.array(text).max(8).default([]),
        'DNS servers as address or address:port. Empty: those of the system.',
      ),
      timeout_ms: setting(ms(50, 60_000).default(limits.dnsTimeoutMs), 'How long one name may take.'),
    })
    .prefault({}),
  upstream: z
    .strictObject({
      ca_files: setting(
        z.array(text).max(32).default([]),
        'PEM files of further authorities that prove a destination’s name, beside the system’s and Node’s.',
      ),
      connect_timeout_ms: setting(
        ms(50, 60_000).default(limits.upstreamConnectTimeoutMs),
        'How long a connection to a destination may take to open.',
      ),
    })
    .prefault({}),
  ext_authz: z
    .strictObject({
      grpc_port: setting(
        portOrZero.nullable().default(null),
        'TCP port on loopback for ext_authz over gRPC, for an Envoy that is not ours; wants the admin token as `authorization: Bearer`. null: none.',
      ),
      http_port: setting(portOrZero.nullable().default(null), 'The same over HTTP. null: none.'),
      grpc_socket: setting(
        text.default(''),
        'Unix socket (mode 0600) for ext_authz over gRPC, for an Envoy of the sidecar’s user that is not ours. Empty: none.',
      ),
      http_socket: setting(text.default(''), 'The same over HTTP. Empty: none.'),
    })
    .prefault({}),
  admin: z
    .strictObject({
      port: setting(
        portOrZero.nullable().default(null),
        'TCP port on loopback for the admin API; every call wants the token. null: Unix socket only.',
      ),
    })
    .prefault({}),
  decisions: z
    .strictObject({
      cache_ttl_ms: setting(
        ms(0, 60_000).default(60_000),
        'How long an allow may be answered from the decision cache.',
      ),
      cache_entries_max: setting(
        z.int().min(0).max(1_000_000).default(10_000),
        'Entries of the decision cache.',
      ),
    })
    .prefault({}),
  quota: z
    .strictObject({
      cache_ttl_ms: setting(
        ms(0, 3_600_000).default(60_000),
        'How long an unused quota key stays in memory (seed: metering.quota_cache_ttl_seconds).',
      ),
      aggregation_interval_ms: setting(
        ms(1_000, 3_600_000).default(300_000),
        'How often counts are aggregated (seed: metering.aggregation_interval_seconds).',
      ),
    })
    .prefault({}),
  oversight: z
    .strictObject({
      timeout_ms: setting(
        ms(1_000, limits.holdTimeoutMsMax).default(3_600_000),
        'Time-out of a hold whose rule names none (seed: oversight.default_timeout_seconds).',
      ),
      retry_after_ms: setting(ms(100, 3_600_000).default(5_000), 'Retry-After of a pending hold.'),
    })
    .prefault({}),
  messaging: z
    .strictObject({
      message_bytes_max: setting(
        z
          .int()
          .min(1)
          .max(1 << 30)
          .default(1_048_576),
        'Largest message inline (seed: messaging.max_message_size_bytes).',
      ),
      delivery_timeout_ms: setting(
        ms(1_000, 3_600_000).default(30_000),
        'How long a delivery is tried (seed: messaging.delivery_timeout_seconds).',
      ),
    })
    .prefault({}),
  runtime: z
    .strictObject({
      warm_pool_min: setting(
        z.int().min(0).max(10_000).default(10),
        'Warm sidecars kept at least (seed: runtime.warm_pool_min_size).',
      ),
      warm_pool_max: setting(
        z.int().min(1).max(10_000).default(100),
        'Warm sidecars kept at most (seed: runtime.warm_pool_max_size).',
      ),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: setting(
        z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace']).default('info'),
        'Least level that is logged.',
      ),
      format: setting(
        z.enum(['auto', 'json', 'pretty']).default('auto'),
        '`auto`: readable lines on a terminal, JSON otherwise.',
      ),
    })
    .prefault({}),
  envoy: z
    .strictObject({
      binary: setting(text.default(''), 'Path of an Envoy 1.40 binary. Empty: the one that setup installed.'),
      concurrency: setting(z.int().min(1).max(64).default(1), 'Worker threads of Envoy.'),
      heap_bytes_max: setting(
        z
          .int()
          .min(16 << 20)
          .max(2 ** 40)
          .default(256 << 20),
        'Heap at which Envoy’s overload manager stops accepting.',
      ),
    })
    .prefault({}),
  demo: setting(flag.default(false), 'Start the example upstreams of the first screen.'),
});

/** Settings after defaults. Empty `state_dir` and `run_dir` are already replaced by real paths. */
export type Settings = z.output<typeof settingsSchema>;

/** `SALLYPORT_PROXY_PORT` for `proxy.port`. */
export const settingVariable = (path: readonly string[]): string =>
  `SALLYPORT_${path.join('_').toUpperCase()}`;
