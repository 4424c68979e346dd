/** Limits of connections, processes and what they say of themselves. See `config/limits.ts`. */
export const processesLimits = {
  // Certificates minted for inspected names.
  /** Certificates kept; past it the one that was used longest ago goes. */
  certificateCacheMax: 1_000,
  /** From a certificate’s making to its end. */
  certificateLifetimeMs: 24 * 60 * 60 * 1000,
  /** A certificate is made anew this long before it ends. */
  certificateRenewBeforeMs: 6 * 60 * 60 * 1000,
  /** Certificates made at once; more wait. */
  certificateMintsConcurrentMax: 32,
  /** Handshakes that may wait for a certificate; more are refused. */
  certificateMintsWaitingMax: 2_000,
  /** The authority that agents trust; after it a new one has to be made. */
  authorityLifetimeMs: 5 * 365 * 24 * 60 * 60 * 1000,

  // Spans for an OpenTelemetry collector.
  /** Spans that wait to be sent; past it they are dropped and counted. */
  otlpQueueSpansMax: 4_096,
  /** Traces in one second that are sampled since their callers ask for it … */
  otlpAskedPerSecondMax: 200,
  /** … and of these, traces of one agent; past either, they are sampled as all others are. */
  otlpAskedPerAgentPerSecondMax: 50,
  /** Spans of one request to the collector. */
  otlpBatchSpansMax: 512,
  /** A span waits at most so long for others to be sent with it. */
  otlpFlushMs: 1_000,
  /** How long the collector may take to answer. */
  otlpAnswerMs: 5_000,
  /** Of its answer that is read. */
  otlpAnswerBytesMax: 64 * 1024,
  /** How often one batch is sent at most; then it is dropped and counted. */
  otlpTriesMax: 5,
  /** Wait before a batch is sent again, doubled each time … */
  otlpRetryMsMin: 500,
  /** … up to this. */
  otlpRetryMsMax: 15_000,
  /** At a stop, until the spans that wait have been sent. */
  otlpStopMs: 2_000,
  /** Decisions and holds whose later spans are still to come; past it the oldest are forgotten. */
  otlpOpenMax: 10_000,
  /** The file of headers for the collector. */
  otlpHeadersBytesMax: 16 * 1024,

  // Connections.
  /** Connections of clients at once; the default of a setting. */
  connectionsMax: 4_096,
  /** They are shared out in so many parts: one agent gets one, and so do all that are nobody’s (embedded plane); one of two ports, all but one (Envoy). */
  connectionPartsMin: 4,
  /** Until a destination accepts the connection. */
  upstreamConnectTimeoutMs: 5_000,
  /** A request or tunnel in which nothing moves is ended after this. */
  streamIdleTimeoutMs: 300_000,
  /** Until a client has sent its headers, or its TLS handshake is done. */
  requestHeadersTimeoutMs: 15_000,
  /** How long a tunnel may last; the default of a setting. */
  tunnelDurationMsMax: 60 * 60 * 1000,
  /** Open tunnels end within this after the sidecar is gone. */
  tunnelsEndAfterSidecarLossMs: 10_000,
  /** Until the first bytes in a tunnel show what they are. */
  inspectorTimeoutMs: 5_000,
  /** The first message of TLS, read for its server name. */
  clientHelloBytesMax: 32 * 1024,
  /** TLS records that this message may be cut into. */
  clientHelloRecordsMax: 256,
  /** How long a refused connection may take to read its answer. */
  refusedSocketLingerMs: 2_000,
  /** Pools of connections to destinations, one for each pin and name. */
  upstreamPoolsMax: 512,
  /** HTTP/2 requests that one connection may have under way. */
  streamsPerConnectionMax: 100,
  /** Requests that one HTTP/1.1 connection may have under way (RFC 9112, section 9.3.2: pipelining). */
  requestsPipelinedMax: 256,
  /** An idle connection of a client is kept this long. */
  clientKeepAliveMs: 60_000,

  // The Envoy process.
  /** IP addresses of a policy whose TLS is read: each has a filter chain, since such a client names no host. */
  interceptedAddressesMax: 256,
  /** From its start until Envoy serves. */
  envoyReadyMs: 15_000,
  /** Until Envoy shows a changed configuration as its own. */
  envoyApplyMs: 10_000,
  /** `envoy --mode validate` of a whole configuration. */
  envoyValidateMs: 20_000,
  /** One answer of Envoy’s admin socket. */
  envoyAdminReplyBytesMax: 64 * 1024 * 1024,
  /** How long that answer may take. */
  envoyAdminReplyMs: 5_000,
  /** Wait before Envoy is started again after it ended; doubled with each failure. */
  envoyRestartMsMin: 100,
  /** The longest such wait. */
  envoyRestartMsMax: 10_000,
  /** Fetching the binary. */
  envoyInstallMs: 10 * 60 * 1000,
  /** Access log and process log: at this size a file is put aside, and the oldest are deleted. */
  envoyLogFileBytesMax: 64 * 1024 * 1024,
  /** Files kept of each log, the current one included. */
  envoyLogFilesMax: 4,
  /** How often their size is looked at. */
  envoyLogLookMs: 5_000,

  // Admin.
  /** Body of one request to the admin API. */
  adminBodyBytesMax: 1024 * 1024,
  /** Faults of one request that are told at once. */
  requestProblemsShownMax: 10,
  /** Items of one page of a list. */
  adminPageItemsMax: 1_000,
  /** Until everything has ended after a stop was asked for. */
  stopTimeoutMs: 10_000,
  /** At a stop, until the answers to callers that waited for a person have gone out. */
  stopAnswerMs: 500,
  /** A signal to stop that comes again within this is the same one: a process group and npm each pass it on. */
  signalRepeatMs: 1_000,
  /** Until one part has answered for its health; one that does not is unhealthy. */
  healthProbeTimeoutMs: 2_000,
  /** How long the command line waits for the sidecar's answer, its start or its end. */
  commandWaitMs: 30_000,
  /** Of one answer of the admin API that the command line reads. */
  adminAnswerBytesMax: 64 * 1024 * 1024,
  /** Ports tried, from the wanted one up, where it is taken. */
  portsTried: 50,
} as const;
