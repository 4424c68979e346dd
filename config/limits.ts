/**
 * Every limit of the product, with its unit in its name. What happens past each one is tested.
 * A limit that a user may move is a setting (`config/settings.ts`) whose bounds are taken from here.
 */
export const limits = {
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

  // Policy.
  /** The policy file; a larger one is not read. */
  policyBytesMax: 16 * 1024 * 1024,
  /** Rules of one policy. */
  policyRulesMax: 20_000,
  /** Agents of one policy. */
  policyAgentsMax: 10_000,
  /** Quotas of one policy. */
  policyQuotasMax: 1_000,
  /** Hosts that one rule, or one group of hosts, may list. */
  policyHostsPerRuleMax: 1_000,
  /** Name of an agent, a rule, a quota or a group. */
  policyNameCharsMax: 128,
  /** Errors of a file that are told at once; the rest are counted. */
  policyErrorsShownMax: 50,
  /** YAML tokens, counted before the tree is built: a token costs the tree about 400 bytes. */
  policyTokensMax: 2_000_000,
  /** A change of the policy file is read once nothing changed for this long … */
  policyReloadQuietMs: 100,
  /** … and at the latest after this. */
  policyReloadDelayMsMax: 1_000,
  /** The file is also looked at this often, for file systems that tell no changes. */
  policyPollMs: 5_000,
  /** Text of one condition. */
  celExpressionCharsMax: 4_096,
  /** Nodes of one condition’s tree. */
  celNodesMax: 500,
  /** Nesting of one condition. */
  celDepthMax: 50,
  /** Loops (`all`, `exists` and the like) in one condition. */
  celLoopsMax: 4,
  /** Of the automaton of one `matches`. */
  celRegexStatesMax: 1_000,
  /** States times characters of the text that one `matches` may look at. */
  celRegexStepsMax: 20_000_000,
  /** Outcomes of shadow rules that one decision records. */
  shadowOutcomesMax: 16,
  /** Cases of one file of `sallyport test`. */
  policyCasesMax: 10_000,
  /** The settings file; a larger one is not read. */
  settingsBytesMax: 1024 * 1024,
  /** A Unix socket's path has at most 107 bytes (Linux, unix(7)); this leaves room for `/envoy/a/admin.sock`. */
  runDirBytesMax: 80,

  // Names and addresses.
  /** How long a look-up may take; the default of a setting. */
  dnsTimeoutMs: 5_000,
  /** Names whose answers are kept. */
  dnsCacheEntriesMax: 10_000,
  /** An answer is kept at least this long, whatever its own time to live. */
  dnsCacheTtlMsMin: 1_000,
  /** An answer is kept at most this long. */
  dnsCacheTtlMsMax: 60_000,
  /** Addresses of one name; one with more is refused. */
  dnsAddressesMax: 32,
  /** Look-ups at once; past it the request is refused. */
  dnsConcurrentMax: 256,
  /** Of these, look-ups of one agent. */
  dnsConcurrentPerAgentMax: 64,
  /** A look-up that failed is not asked again before this. */
  dnsNegativeTtlMs: 1_000,
  /** The system's resolver tells no time to live; its answers are kept this long. */
  dnsSystemTtlMs: 5_000,
  /** When one family of addresses is answered, the other is waited for this long. */
  dnsSecondFamilyMs: 250,
  /** Addresses whose class is remembered. */
  addressClassesMax: 10_000,

  // Who is at the other end of a connection.
  /** The `Proxy-Authorization` header; a longer one names nobody. */
  proxyCredentialBytesMax: 4_096,
  /** Connections whose Unix user is remembered. */
  connectionUsersMax: 8_192,
  /** Of each kernel socket table that is searched for the peer; one row is 150 bytes. */
  socketTableBytesMax: 64 * 1024 * 1024,
  /** How long one look-up in the kernel’s socket tables may take; nothing else runs meanwhile. */
  socketTableMsMax: 1_000,

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

  // Quotas.
  /** Keys (such as agent and host) that are counted at once. */
  quotaKeysMax: 100_000,
  /** Shortest window of a quota. */
  quotaWindowMsMin: 1_000,
  /** Longest window of a quota. */
  quotaWindowMsMax: 32 * 24 * 60 * 60 * 1000,
  /** Calls that a quota may allow in one window. */
  quotaLimitMax: 1_000_000_000,
  /** A window is counted in this many slots; a call leaves the window at most one slot late, never early. */
  quotaSlotsPerWindow: 60,
  /** A window’s limit is prepaid in this many slices (of at least one call); a kill forfeits at most one slice a key. */
  quotaSlicesPerWindow: 64,
  /** Sweeps of a full store for keys to forget are at least this far apart. */
  quotaSweepMsMin: 1_000,

  // Holds.
  /** How long a rule may keep the caller’s connection waiting for a person. */
  holdWaitMsMax: 80_000,
  /** How long a hold may stay open. */
  holdTimeoutMsMax: 30 * 24 * 60 * 60 * 1000,
  /** Open holds in all; past it the request is refused. */
  holdsOpenMax: 10_000,
  /** Open holds of one agent; past it the request is refused. */
  holdsOpenPerAgentMax: 500,
  /** Connections that wait for a person at once; past it the caller is told to come back. */
  holdsWaitingMax: 1_000,
  /** The same of one agent. */
  holdsWaitingPerAgentMax: 300,
  /** Of a body, what a person is shown. */
  holdBodyPreviewBytesMax: 32 * 1024,
  /** Of a header, what a person is shown. */
  holdHeaderPreviewCharsMax: 1_024,
  /** The note of whoever decides. */
  holdNoteCharsMax: 1_000,
  /** Ended holds that are kept; the oldest are forgotten first. */
  holdsKeptTerminalMax: 10_000,
  /** How often holds are looked through for those that timed out. */
  holdExpireEveryMs: 1_000,
  /** At a start, a hold that says it was opened later than this in the future is timed out. */
  holdClockSlackMs: 60_000,

  // The check.
  /** From the question to the answer, waiting for a person included. */
  checkTimeoutMs: 90_000,
  /** Checks at once; past it the request is refused as Overloaded. */
  checksConcurrentMax: 4_096,
  /** Of these, checks of one agent. */
  checksConcurrentPerAgentMax: 1_024,
  /** Evaluations in one AuthZEN request. */
  evaluationsPerRequestMax: 100,
  /** Memory that one HTTP/2 session of the gRPC server may hold; past it the session is closed. */
  checkSessionMiBMax: 256,
  /** Streams that watch the gRPC health service at once. */
  healthWatchersMax: 64,
  /** What a denial says in words; the rest is cut. */
  denialDetailCharsMax: 2_000,
  /** A client library is told not to wait by itself for longer than this. */
  clientRetryMsMax: 60_000,
  /** JSON-RPC id that is echoed in a denial; a longer one is answered with `null`. */
  rpcIdCharsMax: 256,
  /** `sun_path` of Linux, less its closing zero (unix(7)). */
  socketPathBytesMax: 107,

  // The journal: written before the answer, synced in batches.
  /** One record of the journal. */
  journalRecordBytesMax: 64 * 1024,
  /** What one caller-made field keeps of a record that would be larger than `journalRecordBytesMax`. */
  journalLongFieldCharsMax: 2_048,
  /** At this size a new journal file is begun. */
  journalFileBytesMax: 64 * 1024 * 1024,
  /** Journal files kept; the oldest is deleted. */
  journalFilesMax: 8,
  /** A record is synced to disk at the latest after this … */
  journalSyncMs: 1_000,
  /** … or once this many wait to be synced. */
  journalSyncRecords: 100,
  /** Free space under which the journal refuses to write, so that the answer is a denial, not a loss. */
  diskFreeBytesMin: 16 * 1024 * 1024,
  /** How long one reading of the free space is believed. */
  diskFreeCacheMs: 1_000,

  // Databases and backups.
  /** How long a statement waits for another process's lock. */
  databaseBusyMs: 1_000,
  /** To this size SQLite’s write-ahead log is cut back. */
  databaseWalBytesMax: 16 * 1024 * 1024,
  /** Files of one backup. */
  backupFilesMax: 10_000,
  /** Bytes of one backup, unpacked. */
  backupBytesMax: 8 * 1024 * 1024 * 1024,
  /** A file’s path in a backup. */
  backupPathCharsMax: 1_024,

  // Connections.
  /** Connections of clients at once; the default of a setting. */
  connectionsMax: 4_096,
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
  /** Of the access log in one reading; more waits for the next. */
  logTailBytesMax: 4 * 1024 * 1024,
  /** How often the access log is read for what became of released holds. */
  logTailEveryMs: 250,

  // Admin.
  /** Body of one request to the admin API. */
  adminBodyBytesMax: 1024 * 1024,
  /** Items of one page of a list. */
  adminPageItemsMax: 1_000,
  /** Until everything has ended after a stop was asked for. */
  stopTimeoutMs: 10_000,
  /** Until one part has answered for its health; one that does not is unhealthy. */
  healthProbeTimeoutMs: 2_000,
  /** How long the command line waits for the sidecar's answer, its start or its end. */
  commandWaitMs: 30_000,
  /** Of one answer of the admin API that the command line reads. */
  adminAnswerBytesMax: 64 * 1024 * 1024,
  /** Ports tried, from the wanted one up, where it is taken. */
  portsTried: 50,
} as const;

/** Relations between limits; each is asserted at start and by a test. Returns the broken ones. */
export function brokenLimitRelations(): string[] {
  const broken: string[] = [];
  const must = (holds: boolean, relation: string): void => {
    if (!holds) broken.push(relation);
  };
  must(limits.holdWaitMsMax < limits.checkTimeoutMs, 'holdWaitMsMax < checkTimeoutMs');
  must(limits.checkTimeoutMs < limits.streamIdleTimeoutMs, 'checkTimeoutMs < streamIdleTimeoutMs');
  must(
    limits.inspectedBodyBytesMax < limits.checkRequestBytesMax,
    'inspectedBodyBytesMax < checkRequestBytesMax',
  );
  must(limits.pathBytesMax < limits.requestHeaderBytesMax, 'pathBytesMax < requestHeaderBytesMax');
  must(limits.dnsCacheTtlMsMin <= limits.dnsCacheTtlMsMax, 'dnsCacheTtlMsMin <= dnsCacheTtlMsMax');
  must(limits.holdsOpenPerAgentMax < limits.holdsOpenMax, 'holdsOpenPerAgentMax < holdsOpenMax');
  must(
    limits.dnsConcurrentPerAgentMax < limits.dnsConcurrentMax,
    'dnsConcurrentPerAgentMax < dnsConcurrentMax',
  );
  must(
    limits.checksConcurrentPerAgentMax < limits.checksConcurrentMax,
    'checksConcurrentPerAgentMax < checksConcurrentMax',
  );
  must(limits.holdsWaitingPerAgentMax < limits.holdsWaitingMax, 'holdsWaitingPerAgentMax < holdsWaitingMax');
  must(limits.holdsWaitingMax <= limits.checksConcurrentMax, 'holdsWaitingMax <= checksConcurrentMax');
  must(
    limits.certificateRenewBeforeMs < limits.certificateLifetimeMs,
    'certificateRenewBeforeMs < certificateLifetimeMs',
  );
  must(
    limits.policyReloadQuietMs < limits.policyReloadDelayMsMax,
    'policyReloadQuietMs < policyReloadDelayMsMax',
  );
  must(
    limits.journalRecordBytesMax < limits.journalFileBytesMax,
    'journalRecordBytesMax < journalFileBytesMax',
  );
  return broken;
}
