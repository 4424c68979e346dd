/**
 * The access log: JSON lines in a file that Envoy owns. The ledger reads it later; the sidecar being away loses
 * no line. No query and no header beyond the authority: they may carry secrets.
 */
import { extension, type JsonObject } from './json.ts';

const common = {
  at: '%START_TIME(%s.%9f)%',
  connection: '%ENVIRONMENT(SALLYPORT_EPOCH)%-%CONNECTION_ID%',
  tunnel: '%FILTER_STATE(sallyport.connection:PLAIN)%',
  agent: '%FILTER_STATE(sallyport.agent:PLAIN)%',
  connect: '%FILTER_STATE(sallyport.connect:PLAIN)%',
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
    log_format: { json_format: fields },
  }),
];

export const httpAccessLog = (path: string, stage: string): JsonObject[] =>
  file(path, {
    ...common,
    stage,
    decision: '%DYNAMIC_METADATA(envoy.filters.http.ext_authz:decision)%',
    hold: '%DYNAMIC_METADATA(envoy.filters.http.ext_authz:hold)%',
    method: '%REQ(:METHOD)%',
    authority: '%REQ(:AUTHORITY)%',
    path: '%PATH(NQ:ORIG_OR_PATH)%',
    protocol: '%PROTOCOL%',
    status: '%RESPONSE_CODE%',
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
