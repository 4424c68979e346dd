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
  checkRequestBytesMax: 2 * 1024 * 1024,
  mcpDepthMax: 64,

  // Policy.
  policyBytesMax: 16 * 1024 * 1024,
  policyRulesMax: 20_000,
  policyAgentsMax: 10_000,
  policyQuotasMax: 1_000,
  policyHostsPerRuleMax: 1_000,
  policyNameCharsMax: 128,
  policyErrorsShownMax: 50,
  celExpressionCharsMax: 4_096,
  celNodesMax: 500,
  settingsBytesMax: 1024 * 1024,

  // Names and addresses.
  dnsTimeoutMs: 5_000,
  dnsCacheEntriesMax: 10_000,
  dnsCacheTtlMsMax: 60_000,
  dnsAddressesMax: 32,
  dnsConcurrentMax: 256,

  // Certificates minted for inspected names.
  certificateCacheMax: 1_000,
  certificateLifetimeMs: 24 * 60 * 60 * 1000,
  certificateRenewBeforeMs: 6 * 60 * 60 * 1000,
  certificateMintsConcurrentMax: 32,

  // Quotas.
  quotaKeysMax: 100_000,
  quotaWindowMsMin: 1_000,
  quotaWindowMsMax: 32 * 24 * 60 * 60 * 1000,
  quotaLimitMax: 1_000_000_000,
  /** A window is counted in this many slots; a call leaves the window at most one slot late, never early. */
  quotaSlotsPerWindow: 60,

  // Holds.
  holdWaitMsMax: 80_000,
  holdTimeoutMsMax: 30 * 24 * 60 * 60 * 1000,
  holdsOpenMax: 10_000,
  holdsOpenPerAgentMax: 500,
  holdsWaitingMax: 1_000,
  holdBodyPreviewBytesMax: 64 * 1024,
  holdNoteCharsMax: 1_000,
  holdsKeptTerminalMax: 50_000,

  // The check.
  checkTimeoutMs: 90_000,
  checksConcurrentMax: 4_096,
  evaluationsPerRequestMax: 100,

  // The journal: written before the answer, synced in batches.
  journalRecordBytesMax: 64 * 1024,
  journalFileBytesMax: 64 * 1024 * 1024,
  journalFilesMax: 8,
  journalSyncMs: 1_000,
  journalSyncRecords: 100,
  /** Free space under which the journal refuses to write, so that the answer is a denial, not a loss. */
  diskFreeBytesMin: 16 * 1024 * 1024,

  // Connections.
  connectionsMax: 4_096,
  upstreamConnectTimeoutMs: 5_000,
  streamIdleTimeoutMs: 300_000,
  requestHeadersTimeoutMs: 15_000,
  tunnelDurationMsMax: 60 * 60 * 1000,
  /** Open tunnels end within this after the sidecar is gone. */
  tunnelsEndAfterSidecarLossMs: 10_000,
  inspectorTimeoutMs: 5_000,

  // Admin.
  adminBodyBytesMax: 1024 * 1024,
  adminPageItemsMax: 1_000,
  stopTimeoutMs: 10_000,
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
  must(limits.holdsOpenPerAgentMax < limits.holdsOpenMax, 'holdsOpenPerAgentMax < holdsOpenMax');
  must(limits.holdsWaitingMax <= limits.checksConcurrentMax, 'holdsWaitingMax <= checksConcurrentMax');
  must(
    limits.certificateRenewBeforeMs < limits.certificateLifetimeMs,
    'certificateRenewBeforeMs < certificateLifetimeMs',
  );
  must(
    limits.journalRecordBytesMax < limits.journalFileBytesMax,
    'journalRecordBytesMax < journalFileBytesMax',
  );
  return broken;
}
