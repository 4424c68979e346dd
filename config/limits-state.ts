/** Limits of what is kept: journal, audit log, keys, databases. See `config/limits.ts`. */
export const stateLimits = {
  // Keys sealed at rest.
  /** The file of the sealed keys. */
  keysFileBytesMax: 1024 * 1024,
  /** Keys on record, retired ones included; past it the oldest retired are forgotten. */
  keysMax: 256,
  /** What the key-encryption key’s file or command may give. */
  kekBytesMax: 4_096,
  /** How long the command that gives the key-encryption key may take. */
  kekCommandMs: 10_000,
  /** How long a change of the keys waits for another process’s change. */
  keysLockMs: 5_000,
  /** How often it is looked whether a rotation’s overlap is over. */
  keysLookMs: 30_000,
  /** Longest time that an old key stands beside the new one. */
  keyOverlapMsMax: 90 * 24 * 60 * 60 * 1000,

  // Signed notes and witnesses.
  /** A checkpoint with its signatures; one in ML-DSA-44 has 3.3 KiB. */
  noteBytesMax: 256 * 1024,
  /** Signatures of one checkpoint (signed-note wants at least 16). */
  noteSignaturesMax: 100,
  /** Name of a key, and origin of a log: a length of one byte (tlog-cosignature). */
  noteKeyNameBytesMax: 255,
  /** Hashes of a consistency proof (tlog-witness). */
  witnessProofHashesMax: 63,
  /** One request to the witness. */
  witnessRequestBytesMax: 128 * 1024,
  /** Until a request to the witness is read. */
  witnessRequestMs: 10_000,
  /** Connections to the witness at once. */
  witnessConnectionsMax: 64,
  /** Requests that the witness reads in one second of one address; past it they are refused with 429. */
  witnessSourceRequestsPerSecondMax: 20,
  /** The same, of all addresses together: the process decides calls as well. */
  witnessRequestsPerSecondMax: 100,
  /** Logs that this sidecar witnesses. */
  witnessLogsMax: 1_000,
  /** Witnesses that it asks. */
  witnessesMax: 16,
  /** Verifier keys of one log, or of one witness. */
  witnessKeysMax: 16,
  /** How long one witness may take to answer. */
  witnessAnswerMs: 10_000,
  /** One answer of a witness. */
  witnessAnswerBytesMax: 64 * 1024,

  // The journal: written before the answer, synced in batches.
  /** One record of the journal. */
  journalRecordBytesMax: 64 * 1024,
  /** What one caller-made field keeps of a record that would be larger than `journalRecordBytesMax`. */
  journalLongFieldCharsMax: 2_048,
  /** At this size a new journal file is begun. */
  journalFileBytesMax: 64 * 1024 * 1024,
  /** A record is synced to disk at the latest after this … */
  journalSyncMs: 1_000,
  /** … or once this many wait to be synced. */
  journalSyncRecords: 100,
  /** Free space under which the journal refuses to write, so that the answer is a denial, not a loss. */
  diskFreeBytesMin: 16 * 1024 * 1024,
  /** How long one reading of the free space is believed. */
  diskFreeCacheMs: 1_000,

  /** Agents whose sequences the journal counts; a record of one more is refused. */
  journalAgentsMax: 100_000,

  // The audit log: the journal's records as leaves of a Merkle tree.
  /** So many records are taken into the tree together … */
  auditBatchRecords: 100,
  /** … or what has come within this time. */
  auditBatchMs: 1_000,
  /** Checkpoints are at least this far apart; under load a batch is larger instead. */
  auditPublishMsMin: 100,
  /** Records written and not yet in the tree; past it no record is written, and every answer is a denial. */
  auditBehindRecordsMax: 10_000,
  /** After tiles or checkpoint could not be written, it is tried again after this. */
  auditRetryMs: 1_000,
  /** How often it is looked at what the retention policy lets go. */
  auditPruneEveryMs: 10 * 60 * 1000,
  /** Parts of `audit.content_bytes_max`: above it an agent that wrote one of them of late is refused … */
  auditAgentPartsPerContent: 4,
  /** … and everybody, once there is so many times as much as that setting says. */
  auditContentTimesMax: 2,
  /** Tiles that one look lets go; more wait for the next. */
  auditTilesPrunedMax: 10_000,
  /** Records that one erasure is about. */
  auditErasedRecordsMax: 1_000,
  /** Tiles that one reader of the log keeps in memory. */
  auditTilesCachedMax: 64,
  /** A receipt. */
  auditReceiptBytesMax: 512 * 1024,
  /** State of the log as kept beside it. */
  auditStateBytesMax: 16 * 1024 * 1024,

  // Databases and backups.
  /** How long a statement waits for another process's lock. */
  databaseBusyMs: 1_000,
  /** To this size SQLite’s write-ahead log is cut back. */
  databaseWalBytesMax: 16 * 1024 * 1024,
  /** Files of one backup. */
  backupFilesMax: 1_000_000,
  /** Bytes of one backup, unpacked. */
  backupBytesMax: 8 * 1024 * 1024 * 1024,
  /** A file’s path in a backup. */
  backupPathCharsMax: 1_024,
} as const;
