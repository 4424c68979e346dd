/**
 * The schema of every database file of the state directory, as ordered steps: step N (counted from 1) leads
 * from `user_version` N-1 to N. A step that was released is never edited; a change is a new step, with a
 * fixture of the version before it in `tests/filters/common/migrations.test.ts`. All files share one list,
 * so that a store may live in a file of its own or beside others.
 */
const holds = `
  CREATE TABLE holds (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    agent TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    chain TEXT NOT NULL,
    rule TEXT NOT NULL,
    rule_digest TEXT NOT NULL,
    policy_version TEXT NOT NULL,
    approvers TEXT NOT NULL,
    quorum INTEGER NOT NULL,
    not_requester INTEGER NOT NULL,
    digest TEXT NOT NULL,
    request TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_logical INTEGER NOT NULL,
    created_physical_ns TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    decided_ms INTEGER,
    decided_by TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    approvals TEXT NOT NULL DEFAULT '[]',
    settled_by TEXT NOT NULL DEFAULT '',
    acknowledged INTEGER NOT NULL DEFAULT 0
  ) STRICT;
  CREATE UNIQUE INDEX holds_open ON holds (agent, rule, digest) WHERE state IN ('Pending', 'Approved');
  CREATE INDEX holds_by_request ON holds (agent, digest, seq);
  CREATE INDEX holds_by_state ON holds (state, seq);
`;

const quotas = `
  CREATE TABLE quota_windows (
    key TEXT PRIMARY KEY,
    window_ms INTEGER NOT NULL,
    slot_ms INTEGER NOT NULL,
    newest_slot INTEGER NOT NULL,
    counts BLOB NOT NULL,
    written_ms INTEGER NOT NULL,
    empty_ms INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
`;

export const migrations: readonly string[] = [holds, quotas];
