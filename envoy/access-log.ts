/**
 * The access log: JSON lines in a file that Envoy owns, which the ledger reads (`ledger-line.ts`); the sidecar
 * being away loses no line. No query and no header beyond the authority: they may carry secrets. What a client
 * can make long is cut, so that every line has an end within one reading.
 */
import { limits } from '../config/limits.ts';
import { duration, extension, type JsonObject } from './json.ts';

const common = {
  /** `DownstreamEnd` and `TcpConnectionEnd` are the last of a stream; `DownstreamPeriodic` and `TcpPeriodic` are not. */
  type: '%ACCESS_LOG_TYPE%',
  at: '%START_TIME(%s.%9f)%',
  connection: '%ENVIRONMENT(SALLYPORT_EPOCH)%-%CONNECTION_ID%',
  tunnel: '%FILTER_STATE(sallyport.connection:PLAIN)%',
  agent: '%FILTER_STATE(sallyport.agent:PLAIN)%',
  connect: `%FILTER_STATE(sallyport.connect:PLAIN):${limits.ledgerAuthorityCharsMax}%`,
  flags: '%RESPONSE_FLAGS%',
  details: '%RESPONSE_CODE_DETAILS%',
  bytes_in: '%BYTES_RECEIVED%',
  bytes_out: '%BYTES_SENT%',
  duration_ms: '%DURATION%',
  upstream: '%UPSTREAM_REMOTE_ADDRESS%',
  upstream_failure: '%UPSTREAM_TRANSPORT_FAILURE_REASON%',
} as const;

const file = (path: string, fields: JsonObject): JsonObject[] => [
  extension('file', 'envoy.extensions.access_loggers.file.v3.FileAccessLog', {
    path,
    log_format: { json_format: fields, omit_empty_values: true },
  }),
];

export const httpAccessLog = (path: string, stage: string): JsonObject[] =>
  file(path, {
    ...common,
    stage,
    decision: '%DYNAMIC_METADATA(envoy.filters.http.ext_authz:decision)%',
    hold: '%DYNAMIC_METADATA(envoy.filters.http.ext_authz:hold)%',
    method: `%REQ(:METHOD):${limits.ledgerMethodCharsMax}%`,
    authority: `%REQ(:AUTHORITY):${limits.ledgerAuthorityCharsMax}%`,
    path: `%PATH(NQ:ORIG_OR_PATH):${limits.ledgerPathCharsMax}%`,
    protocol: '%PROTOCOL%',
    status: '%RESPONSE_CODE%',
    /** The catalogue's, of a refusal. */
    error: '%RESP(x-sallyport-error):64%',
    source: '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%',
  });

export const tcpAccessLog = (path: string, stage: string): JsonObject[] =>
  file(path, {
    ...common,
    stage,
    decision: '%DYNAMIC_METADATA(envoy.filters.network.ext_authz:decision)%',
    connect_decision: '%FILTER_STATE(sallyport.decision:PLAIN)%',
    sni: '%REQUESTED_SERVER_NAME%',
    source: '%FILTER_STATE(sallyport.source:PLAIN)%',
  });

/** A stream older than this is told of before it ends, and again so often: a kill of Envoy hides no old one. */
export const accessLogOptions: JsonObject = { access_log_flush_interval: duration(limits.ledgerInterimMs) };
