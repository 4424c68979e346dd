/**
 * Every limit of the product, with its unit in its name. What happens past each one is tested.
 * A limit that a user may move is a setting (`config/settings.ts`) whose bounds are taken from here.
 */
export const limits = {
  // What one request may weigh.
  requestHeaderBytesMax: 96 * 1024,
  requestHeadersMax: 100,
  pathBytesMax: 32 * 1024,
  authorityBytesMax: 512,
  /** Body that a rule reads (hold digests, conditions over the body, MCP). Above it the request is refused. */
  inspectedBodyBytesMax: 1024 * 1024,
  /** Of all requests together that the embedded plane reads at once; past it they are refused as Overloaded. */
  inspectedBodiesBytesMax: 256 * 1024 * 1024,
  /** Of a refused request’s body, read and dropped so that the client gets to its answer. */
  discardedBodyBytesMax: 4 * 1024 * 1024,
  checkRequestBytesMax: 2 * 1024 * 1024,
  mcpDepthMax: 64,
  mcpNameCharsMax: 256,

  // Policy.
  policyBytesMax: 16 * 1024 * 1024,
  policyRulesMax: 20_000,
  policyAgentsMax: 10_000,
  policyQuotasMax: 1_000,
  policyHostsPerRuleMax: 1_000,
  policyNameCharsMax: 128,
  policyErrorsShownMax: 50,
  /** YAML tokens, counted before the tree is built: a token costs the tree about 400 bytes. */
  policyTokensMax: 2_000_000,
  /** A change of the policy file is read once nothing changed for this long … */
  policyReloadQuietMs: 100,
  /** … and at the latest after this. */
  policyReloadDelayMsMax: 1_000,
  /** The file is also looked at this often, for file systems that tell no changes. */
  policyPollMs: 5_000,
  celExpressionCharsMax: 4_096,
  celNodesMax: 500,
  celDepthMax: 50,
  celLoopsMax: 4,
  /** Of the automaton of one `matches`. */
  celRegexStatesMax: 1_000,
  /** States times characters of the text that one `matches` may look at. */
  celRegexStepsMax: 20_000_000,
  shadowOutcomesMax: 16,
  policyCasesMax: 10_000,
  settingsBytesMax: 1024 * 1024,
  /** A Unix socket's path has at most 107 bytes (Linux, unix(7)); this leaves room for the socket's own name. */
  runDirBytesMax: 80,

  // Names and addresses.
  dnsTimeoutMs: 5_000,
  dnsCacheEntriesMax: 10_000,
  dnsCacheTtlMsMin: 1_000,
  dnsCacheTtlMsMax: 60_000,
  dnsAddressesMax: 32,
  dnsConcurrentMax: 256,
  /** A look-up that failed is not asked again before this. */
  dnsNegativeTtlMs: 1_000,
  /** The system's resolver tells no time to live; its answers are kept this long. */
  dnsSystemTtlMs: 5_000,
  /** When one family of addresses is answered, the other is waited for this long. */
  dnsSecondFamilyMs: 250,
  addressClassesMax: 10_000,

  // Who is at the other end of a connection.
  proxyCredentialBytesMax: 4_096,
  connectionUsersMax: 8_192,
  /** Of each kernel socket table that is searched for the peer; one row is 150 bytes. */
  socketTableBytesMax: 16 * 1024 * 1024,

  // Certificates minted for inspected names.
  certificateCacheMax: 1_000,
  certificateLifetimeMs: 24 * 60 * 60 * 1000,
  certificateRenewBeforeMs: 6 * 60 * 60 * 1000,
  certificateMintsConcurrentMax: 32,
  /** Handshakes that may wait for a certificate; more are refused. */
  certificateMintsWaitingMax: 2_000,
  /** The authority that agents trust; after it a new one has to be made. */
  authorityLifetimeMs: 5 * 365 * 24 * 60 * 60 * 1000,

  // Quotas.
  quotaKeysMax: 100_000,
  quotaWindowMsMin: 1_000,
  quotaWindowMsMax: 32 * 24 * 60 * 60 * 1000,
  quotaLimitMax: 1_000_000_000,
  /** A window is counted in this many slots; a call leaves the window at most one slot late, never early. */
  quotaSlotsPerWindow: 60,
  /** A window’s limit is prepaid in this many slices (of at least one call); a kill forfeits at most one slice a key. */
  quotaSlicesPerWindow: 64,
  /** Sweeps of a full store for keys to forget are at least this far apart. */
  quotaSweepMsMin: 1_000,

  // Holds.
  holdWaitMsMax: 80_000,
  holdTimeoutMsMax: 30 * 24 * 60 * 60 * 1000,
  holdsOpenMax: 10_000,
  holdsOpenPerAgentMax: 500,
  holdsWaitingMax: 1_000,
  holdBodyPreviewBytesMax: 32 * 1024,
  holdHeaderPreviewCharsMax: 1_024,
  holdNoteCharsMax: 1_000,
  holdsKeptTerminalMax: 10_000,
  holdExpireEveryMs: 1_000,

  // The check.
  checkTimeoutMs: 90_000,
  checksConcurrentMax: 4_096,
  evaluationsPerRequestMax: 100,
  /** Memory that one HTTP/2 session of the gRPC server may hold; past it the session is closed. */
  checkSessionMiBMax: 256,
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
  journalRecordBytesMax: 64 * 1024,
  /** What one caller-made field keeps of a record that would be larger than `journalRecordBytesMax`. */
  journalLongFieldCharsMax: 2_048,
  journalFileBytesMax: 64 * 1024 * 1024,
  journalFilesMax: 8,
  journalSyncMs: 1_000,
  journalSyncRecords: 100,
  /** Free space under which the journal refuses to write, so that the answer is a denial, not a loss. */
  diskFreeBytesMin: 16 * 1024 * 1024,
  /** How long one reading of the free space is believed. */
  diskFreeCacheMs: 1_000,

  // Databases and backups.
  /** How long a statement waits for another process's lock. */
  databaseBusyMs: 1_000,
  databaseWalBytesMax: 16 * 1024 * 1024,
  backupFilesMax: 10_000,
  backupBytesMax: 8 * 1024 * 1024 * 1024,
  backupPathCharsMax: 1_024,

  // Connections.
  connectionsMax: 4_096,
  upstreamConnectTimeoutMs: 5_000,
  streamIdleTimeoutMs: 300_000,
  requestHeadersTimeoutMs: 15_000,
  tunnelDurationMsMax: 60 * 60 * 1000,
  /** Open tunnels end within this after the sidecar is gone. */
  tunnelsEndAfterSidecarLossMs: 10_000,
  inspectorTimeoutMs: 5_000,
  clientHelloBytesMax: 32 * 1024,
  /** How long a refused connection may take to read its answer. */
  refusedSocketLingerMs: 2_000,
  /** Pools of connections to destinations, one for each pin and name. */
  upstreamPoolsMax: 512,
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
  /** Of the access log in one reading; more waits for the next. */
  logTailBytesMax: 4 * 1024 * 1024,
  /** How often the access log is read for what became of released holds. */
  logTailEveryMs: 250,
  envoyLogLookMs: 5_000,

  // Admin.
  adminBodyBytesMax: 1024 * 1024,
  adminPageItemsMax: 1_000,
  stopTimeoutMs: 10_000,
  healthProbeTimeoutMs: 2_000,
  /** How long the command line waits for the sidecar's answer, its start or its end. */
  commandWaitMs: 30_000,
  /** Of one answer of the admin API that the command line reads. */
  adminAnswerBytesMax: 64 * 1024 * 1024,
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
