/**
 * The settings of the process, declared once: key, shape, default, environment variable, sentence.
 * `docs/configuration.md` is generated from here. Precedence: environment over file over default.
 */
import { z } from 'zod';
import { limits } from './limits.ts';

const ms = (min: number, max: number) => z.int().min(min).max(max);
const portOrZero = z.int().min(0).max(65_535);
const flag = z.boolean();
const days = z.int().min(1).max(36_500);
const text = z.string().max(4_096);
/** Of a C2SP signed note: name, 8 hex digits, base64 of type and public key. */
const vkey = z
  .string()
  .regex(/^[^\s+]{1,255}\+[0-9a-f]{8}\+[A-Za-z0-9+/=]{44,2000}$/, 'expected name+id+key');

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
  leases: z
    .strictObject({
      enabled: setting(
        flag.default(true),
        'Let one decision stand for many requests of a class, where the policy provably says the same of all of them (`sallyport explain` tells). Envoy only.',
      ),
      life_ms: setting(
        ms(limits.leaseLifeMsMin, limits.leaseLifeMsMax).default(500),
        'How long a lease lives; a change of the policy and a lockdown bite within it.',
      ),
      calls_max: setting(
        z.int().min(limits.leaseCallsMin).max(limits.leaseCallsMax).default(limits.leaseCallsMax),
        'Requests of one lease at most.',
      ),
    })
    .prefault({}),
  incidents: z
    .strictObject({
      lockdown: setting(
        flag.default(false),
        'Lock everything when a request was forwarded that nothing had let pass. Only an operator lifts it: `sallyport lockdown --lift`.',
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
  keys: z
    .strictObject({
      kek_file: setting(
        text.default(''),
        'File with the key-encryption key, which seals every other key at rest: 32 bytes in base64, for the sidecar’s user alone. Empty: `STATE_DIR.kek`, beside the state directory and not in it, made at the first start ([keys](keys.md)).',
      ),
      kek_command: setting(
        z.array(text.min(1)).max(64).default([]),
        'Program and arguments, run without a shell, that prints the same; instead of `kek_file`.',
      ),
      overlap_ms: setting(
        ms(0, limits.keyOverlapMsMax).default(24 * 3_600_000),
        'How long after `sallyport keys rotate` the old key stands beside the new one, for agents and neighbours to learn of it.',
      ),
    })
    .prefault({}),
  audit: z
    .strictObject({
      origin: setting(
        z
          .string()
          .regex(/^(?:[^\s+]{1,200})?$/)
          .default(''),
        'Name of the audit log in its checkpoints, a URL without scheme; kept from the first start on. Empty: one is made.',
      ),
      witnesses: setting(
        z
          .array(
            z.strictObject({
              url: text.min(1),
              vkeys: z.array(vkey).min(1).max(limits.witnessKeysMax),
              token_file: text.default(''),
              ca_file: text.default(''),
              cert_file: text.default(''),
              key_file: text.default(''),
            }),
          )
          .max(limits.witnessesMax)
          .default([]),
        'Witnesses that are asked to cosign checkpoints (C2SP tlog-witness): `url` before `/add-checkpoint`, `vkeys`; where it asks for them `token_file` (Bearer), `ca_file`, `cert_file` and `key_file`.',
      ),
      witness_quorum: setting(
        z.int().min(0).max(limits.witnessesMax).default(0),
        'Witnesses that have to cosign; without them `/health` is Degraded, and decisions go on. 0: none has to.',
      ),
      retention_days: setting(
        days.default(90),
        'How long the content of records is kept, at least until the log has taken it in. Their leaves and proofs stay.',
      ),
      content_bytes_max: setting(
        z
          .int()
          .min(2 * limits.journalFileBytesMax)
          .max(2 ** 50)
          .default(4 * 2 ** 30),
        'Content above this goes too, the oldest first, once it is older than `audit.content_hours_min`.',
      ),
      content_hours_min: setting(
        z.int().min(0).max(8_760).default(24),
        'Content younger than this does not go, whatever its size: agents that fill `audit.content_bytes_max` within it are refused instead. 0: it goes, and an agent can write away what others wrote.',
      ),
      tiles_days: setting(
        days.nullable().default(null),
        'How long leaves and proofs are kept; not less than `audit.retention_days`. null: for ever.',
      ),
      witness_every_ms: setting(
        ms(100, 3_600_000).default(10_000),
        'How often, at most, the newest checkpoint is shown to the witnesses.',
      ),
    })
    .prefault({}),
  witness: z
    .strictObject({
      listen: setting(
        text.default(''),
        'Address and port, such as `192.0.2.1:10085`, on which checkpoints of other logs are cosigned. Empty: none.',
      ),
      name: setting(
        z
          .string()
          .regex(/^(?:[^\s+]{1,200})?$/)
          .default(''),
        'Name of this witness in its cosignatures, a URL without scheme; kept from the first start on. Empty: one is made.',
      ),
      logs: setting(
        z
          .array(
            z.strictObject({
              origin: z.string().regex(/^[^\p{Cc}]{1,200}$/u),
              vkeys: z.array(vkey).min(1).max(limits.witnessKeysMax),
            }),
          )
          .max(limits.witnessLogsMax)
          .default([]),
        'The logs that are cosigned: `origin`, and the `vkeys` of which one has to have signed. Every other log gets 404.',
      ),
      token_file: setting(
        text.default(''),
        'File with a token that requests have to bring as `Authorization: Bearer`. Off loopback this or `witness.client_ca_file` has to be set.',
      ),
      cert_file: setting(text.default(''), 'PEM certificate chain of the listener. Empty: no TLS.'),
      key_file: setting(text.default(''), 'PEM key of `cert_file`.'),
      client_ca_file: setting(
        text.default(''),
        'PEM authorities of which clients have to show a certificate (mutual TLS). Off loopback this or `witness.token_file` has to be set.',
      ),
    })
    .prefault({}),
  telemetry: z
    .strictObject({
      otlp: z
        .strictObject({
          endpoint: setting(
            text.default(''),
            'Collector of OpenTelemetry spans, by its base URL such as http://127.0.0.1:4318 (OTLP/HTTP, JSON). Empty: no spans.',
          ),
          headers: setting(
            text.default(''),
            'Headers for the collector, `name=value` with commas between, values percent-encoded as in OTEL_EXPORTER_OTLP_HEADERS. In a settings file take them from a variable.',
          ),
          headers_file: setting(
            text.default(''),
            'File with more of them, a line `name: value` each; read at start.',
          ),
          ca_file: setting(
            text.default(''),
            'PEM file of the authorities that prove the collector. Empty: those of Node.',
          ),
          sample_one_in: setting(
            z.int().min(1).max(1_000_000).default(1),
            'Of so many decisions one is sent, and, up to so many in a second, each whose caller sampled its own trace.',
          ),
        })
        .prefault({}),
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
