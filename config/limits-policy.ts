/** Limits of policies, of what they name, and of what they count and hold. See `config/limits.ts`. */
export const policyLimits = {
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
  /** Name of a host, or pattern of them, in a policy. */
  policyHostCharsMax: 255,
  /** Path patterns that one rule may list. */
  policyPathsPerRuleMax: 1_000,
  /** One path pattern. */
  policyPathCharsMax: 1_024,
  /** MCP methods that one rule may list. */
  policyMcpMethodsPerRuleMax: 64,
  /** MCP tools that one rule may list. */
  policyMcpToolsPerRuleMax: 1_000,
  /** An MCP method or tool as a rule names it. */
  policyMcpNameCharsMax: 128,
  /** Name of an agent, a rule, a quota or a group. */
  policyNameCharsMax: 128,
  /** Errors of a file that are told at once; the rest are counted. */
  policyErrorsShownMax: 50,
  /** YAML tokens, counted before the tree is built: a token costs the tree about 400 bytes. */
  policyTokensMax: 2_000_000,
  /** How far aliases may multiply what was written; a nested alias counts as all that it expands to. */
  yamlAliasValuesMax: 100,
  /** Entries of one rule in the index of rules; where they were more, the rule is found in a coarser place and compared in full. */
  policyIndexEntriesPerRuleMax: 256,
  /** A policy file up to this size is read in between; a larger one by a process of its own, which takes its memory with it. */
  policyInlineBytesMax: 16 * 1024,
  /** That process is ended after this … */
  policyReadMsMax: 60_000,
  /** … or when it needs more memory than this for the text as a tree … */
  policyReaderHeapBytesMax: 1_024 * 1024 * 1024,
  /** … or when the policy is larger than this once its aliases are written out. */
  policyExpandedBytesMax: 64 * 1024 * 1024,
  /** A policy goes from that process to the sidecar in lines of about this length. */
  policyLineCharsMin: 16 * 1024,
  /** Long work, such as compiling a changed policy, lets other work pass after this. */
  sliceMsMax: 5,
  /** Errors of one file that are looked for; after so many, what is wrong is known well enough. */
  policyErrorsFoundMax: 1_000,
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
  /** Count of a repetition in one `matches`. */
  celRegexRepeatMax: 1_000,
  /** Nesting of groups in one `matches`. */
  celRegexDepthMax: 50,
  /** States times characters of the text that one `matches` may look at. */
  celRegexStepsMax: 20_000_000,
  /** Decisions kept of one host and path, of all agents, methods and queries; past it the oldest goes. */
  cachedDecisionsPerPathMax: 16,
  /** Outcomes of shadow rules that one decision records. */
  shadowOutcomesMax: 16,
  /** Cases of one file of `sallyport test`. */
  policyCasesMax: 10_000,
  /** The settings file; a larger one is not read. */
  settingsBytesMax: 1024 * 1024,
  /** Nesting of the settings; deeper than any setting, it also ends on a YAML alias inside its own anchor. */
  settingsDepthMax: 16,
  /** Nesting of a settings file in TOML, as its parser counts it. */
  settingsTomlDepthMax: 64,
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
  /** Holds that end in one transaction and one write of the journal; more are as many more of them. */
  holdsPerChangeMax: 1_000,
  /** At a start, a hold that says it was opened later than this in the future is timed out. */
  holdClockSlackMs: 60_000,

  // Replay, suggestions and traces of what the journal holds.
  /** Groups of changed decisions that a replay tells apart; past it they are told by host alone. */
  replayGroupsMax: 10_000,
  /** Examples kept of one group. */
  replayExamplesMax: 20,
  /** Different requests that one suggestion is made from; more are counted and left out. */
  suggestRequestsMax: 100_000,
  /** From so many different ids at one place of a path on, a rule with `*` is suggested there. */
  suggestIdsMin: 8,
  /** The same of different words. */
  suggestNamesMin: 64,
  /** Records of one decision that are shown, oldest first. */
  traceRecordsMax: 1_000,
} as const;
