/** Limits of requests and of what is decided, leased and settled about them. See `config/limits.ts`. */
export const requestsLimits = {
  // What one request may weigh.
  /** All headers of a request together; past it the request is refused. */
  requestHeaderBytesMax: 96 * 1024,
  /** Headers of one request; past it the request is refused. */
  requestHeadersMax: 100,
  /** Path and query of a request; past it the request is refused. */
  pathBytesMax: 32 * 1024,
  /** Host and port as the request names them. */
  authorityBytesMax: 512,
  /** Body that a rule reads (hold digests, conditions over the body, MCP). Above it the request is refused. */
  inspectedBodyBytesMax: 1024 * 1024,
  /** Of all requests together that the embedded plane reads at once; past it they are refused as Overloaded. */
  inspectedBodiesBytesMax: 256 * 1024 * 1024,
  /** Of a refused request’s body, read and dropped so that the client gets to its answer. */
  discardedBodyBytesMax: 4 * 1024 * 1024,
  /** One question of Envoy to the sidecar: headers, body and what is known of the connection. */
  checkRequestBytesMax: 2 * 1024 * 1024,
  /** Nesting of JSON that rules read; deeper is no strict message. */
  mcpDepthMax: 64,
  /** MCP method, tool or resource name. */
  mcpNameCharsMax: 256,

  // Ledger.
  /** A stream that lasts longer is told in the access log before it ends, and again so often. */
  ledgerInterimMs: 1_000,
  /** Envoy writes its access log to the file at least this often. */
  ledgerFlushMs: 200,
  /** How often the access log is read. */
  ledgerReadEveryMs: 100,
  /** Of the access log at once; a longer line is not read, and is told as a gap. */
  ledgerReadBytesMax: 32 * 1024,
  /** What a line of the access log keeps of the method … */
  ledgerMethodCharsMax: 64,
  /** … of host and port … */
  ledgerAuthorityCharsMax: 512,
  /** … and of the path: with all of it escaped a line still has its end within one reading. */
  ledgerPathCharsMax: 2_048,
  /** How long one turn of reading takes: between two of them checks are answered. */
  ledgerTurnMs: 3,
  /** Decisions that let something pass and are not settled; past it nothing more is let pass. */
  ledgerOpenMax: 100_000,
  /** Of these, decisions of one agent; past it nothing more of this agent is let pass. */
  ledgerOpenPerAgentMax: 50_000,
  /** Settled decisions that are remembered, to tell one that is used again from one that never was. */
  ledgerRecentMax: 20_000,
  /** Decisions that one look settles without a line of theirs; more wait for the next. */
  ledgerSettledPerTickMax: 250,
  /** How often it is looked for decisions that nothing more can come of. */
  ledgerSweepMs: 500,
  /** Beyond the time within which the log tells of every stream, until a decision of which it told nothing is settled as Expired. */
  ledgerLateMs: 5_000,
  /** A stream that the log tells of no more, though it never ended, is settled after this. */
  ledgerSilentMs: 30_000,
  /** Behind the access log by more than this the ledger is Degraded. */
  ledgerBehindMs: 5_000,
  /** How often the ledger’s own state is written at most … */
  ledgerStateMs: 2_000,
  /** … and never for more than one part in so many of the time. */
  ledgerStatePartsMin: 50,
  /** The file of that state. */
  ledgerStateBytesMax: 256 * 1024 * 1024,
  /** Refusals by Envoy itself that are written down in one second; the rest are counted. */
  refusalsPerSecondMax: 50,
  /** Incidents that are written down in one second; the rest are counted in one record. */
  incidentsPerSecondMax: 100,

  // Lockdown.
  /** Why everything was locked. */
  lockdownReasonCharsMax: 500,
  /** Until open connections have ended. */
  lockdownEndsMsMax: 1_000,
  /** A lockdown that could not be written down is tried again this often. */
  lockdownKeepEveryMs: 1_000,
  /** Envoy is asked to end, and killed after this. */
  lockdownKillMs: 300,

  // Leases.
  /** Requests that one lease is for at most; `leases.calls_max` lowers it. */
  leaseCallsMax: 65_536,
  /** A smaller lease is not worth the asking: such requests are checked one by one. */
  leaseCallsMin: 4,
  /** Of a class that was not leased lately. */
  leaseFirstCallsMax: 512,
  /** The rate of a class is remembered so long after its last lease. */
  leaseRateKeptMs: 60_000,
  /** The room that a quota has is taken for this many parts, and a lease takes one at most: no agent starves another. */
  leaseRoomPartsMin: 8,
  /** A lease lives so long at most: a change of the policy bites within it. */
  leaseLifeMsMax: 1_000,
  /** A shorter lease is not worth the asking. */
  leaseLifeMsMin: 50,
  /** Misses of a class within `leaseHeatMs` before a lease of it is asked for. */
  leaseMissesMin: 4,
  /** Misses that lie further apart do not make a class busy. */
  leaseHeatMs: 1_000,
  /** After a refusal the data plane asks for no lease of the class for this long. */
  leaseQuietMs: 500,
  /** A lease in use is followed by the next one when it has no longer to live than this, or half of its calls. */
  leaseRenewMs: 100,
  /** A question for a lease is given up after this; the request is then checked. */
  leaseAskTimeoutMs: 1_000,
  /** Connections whose agent the lease filter remembers; past it all of them are asked about anew. */
  leasePeersMax: 8_192,
  /** Agents, methods and authorities together in the lease filter; past it all of them are forgotten. */
  leaseClassesMax: 256,
  /** Connections, methods and authorities that the lease filter counts the requests of before it knows the agent. */
  leaseHeatsMax: 512,
  /** Regions of paths in one class of the lease filter. */
  leaseRegionsMax: 32,
  /** Of a request’s credential, method, authority and path together; one with longer ones is not leased. */
  leaseTextBytesMax: 2_048,
  /** Requests, by connection and path, that the lease filter recognises at first sight. */
  leaseShortcutsMax: 4_096,
  /** Rules, or quotas, of other paths that are looked at to lease more than one path at once. */
  leaseNeighboursMax: 512,
  /** Ended leases that one question reports. */
  leaseReportsMax: 64,
  /** States of the lease filter, one a worker and listener, of which it is known until when they have run. */
  leaseVmsMax: 1_024,
  /** Envoy’s timers fire so much before their time at most. */
  leaseTimerSlackMs: 50,
  /** Leases out at once; past it requests are checked one by one. */
  leasesOpenMax: 10_000,
  /** How often ended leases are looked for. */
  leaseSweepEveryMs: 100,
  /** Beyond interval and flush of the access log, until its silence about a decision is believed. */
  leaseSettleSlackMs: 300,
  /** What is not known of an ended lease by then is forfeited. */
  leaseSettleMsMax: 10_000,
  /** Decisions whose payment is kept until it is known whether their calls left; past it the oldest are not given back. */
  paymentsOpenMax: 100_000,
  /** Refused for a quota of which leased calls may still flow back, a request waits for them so long at most … */
  leaseFlowBackMsMax: 3_000,
  /** … and so many requests of one quota at once. */
  leaseFlowBackWaitersMax: 512,

  // The check.
  /** From the question to the answer, waiting for a person included. */
  checkTimeoutMs: 90_000,
  /** Checks at once; past it the request is refused as Overloaded. */
  checksConcurrentMax: 4_096,
  /** Of these, checks of one agent. */
  checksConcurrentPerAgentMax: 1_024,
  /** Evaluations in one AuthZEN request. */
  evaluationsPerRequestMax: 100,
  /** Of requests under way on one connection of the gRPC server; it then takes no more until some are read. */
  checkSessionMiBMax: 256,
  /** All headers of one gRPC request, packed and unpacked; past it the connection is ended. */
  checkHeaderBytesMax: 64 * 1024,
  /** Frames that these headers may be cut into. */
  checkHeaderFramesMax: 32,
  /** SETTINGS frames on one connection of the gRPC server, each of which changes every open stream; past it the connection is ended. */
  checkSettingsFramesMax: 32,
  /** Frames of one connection that are read in one turn of the event loop; a header block counts as eight, and so does a request that has come whole. */
  checkFramesPerTurnMax: 128,
  /** Frames on one connection that bring no request (pings, resets, windows, empty data, requests that are refused or given up), from one look for late requests to the next; past it the connection is ended. */
  checkIdleFramesMax: 10_000,
  /** So many more of them for each request that comes whole. */
  checkIdleFramesPerRequestMax: 16,
  /** Until the caller has taken an answer that has to wait for its windows; past it the answer is given up. */
  checkAnswerTimeoutMs: 15_000,
  /** Streams that watch the gRPC health service at once. */
  healthWatchersMax: 64,
  /** Of the message that asks for health, which needs no token and is kept by each watcher. */
  healthMessageBytesMax: 1_024,
  /** What a denial says in words; the rest is cut. */
  denialDetailCharsMax: 2_000,
  /** A client library is told not to wait by itself for longer than this. */
  clientRetryMsMax: 60_000,
  /** JSON-RPC id that is echoed in a denial; a longer one is answered with `null`. */
  rpcIdCharsMax: 256,
  /** `sun_path` of Linux, less its closing zero (unix(7)). */
  socketPathBytesMax: 107,
} as const;
