/** What every record carries (mission rows A7, F1, G1): agent, delegation chain, time, what, resource, why, outcome. */
import type { WireTimestamp } from './time.ts';

/** The seeds' four outcomes. */
export type Outcome = 'Success' | 'Failure' | 'Denied' | 'Timeout';

export type RecordHead = Readonly<{
  at: WireTimestamp;
  /** SPIFFE ID; empty only where the caller is unknown. */
  agent: string;
  /** Outermost first, the agent itself last. */
  delegation_chain: readonly string[];
  policy_version: string;
}>;

export type DecisionRecord = RecordHead &
  Readonly<{
    type: 'decision';
    id: string;
    kind: 'Allow' | 'Deny' | 'RequiresOversight' | 'QuotaExceeded' | 'RateLimited';
    code: string;
    rule: string;
    /** Method and, for MCP, method and tool. */
    what: string;
    /** scheme://host:port/path without query. */
    resource: string;
    why: string;
    outcome: Outcome;
    pin: string;
    hold: string;
    shadow: readonly Readonly<{ rule: string; would: string }>[];
    via: string;
    request_id: string;
    duration_us: number;
    /** Requests that this decision stands for; absent: 1. More make it a lease, with its life and its paths. */
    calls?: number;
    lease_ms?: number;
    /** A directory (`/v1/`) with everything below it, or the whole path where `lease_exact`. */
    lease_path?: string;
    lease_exact?: boolean;
    /** Where in the connection's life it was made; absent: a request. */
    stage?: 'connect' | 'tunnel';
    /** Of an allowed connection whose requests are not read: how it is passed. */
    inspect?: 'sni' | 'tunnel';
    /** The request came inside a CONNECT. */
    tunnelled?: true;
    /** What the data plane read of the message; absent where no rule asked for it. */
    mcp_method?: string;
    mcp_tool?: string;
    mcp_invalid?: true;
    /** The quotas that the call was paid from, after it; or the one that had no room. */
    quotas?: readonly Readonly<{ name: string; used: number; limit: number }>[];
    /** As the caller sent it (W3C Trace Context, section 3.2). */
    traceparent?: string;
    /** Of a refusal by Envoy: its line in the access log. Never what a caller sent. */
    line?: string;
    /** Refusals that this record stands for, where they came too fast to be written down one by one; absent: 1. */
    count?: number;
  }>;

export type HoldRecord = RecordHead &
  Readonly<{
    type: 'hold';
    id: string;
    state: string;
    rule: string;
    digest: string;
    by: string;
    why: string;
    outcome: Outcome;
    what: string;
    resource: string;
  }>;

/** What was done to the log itself, to its keys or to what governs it; `agent` is empty. */
export type AuditRecord = RecordHead &
  Readonly<{
    type: 'audit';
    id: string;
    action:
      | 'content_pruned'
      | 'content_erased'
      | 'tiles_pruned'
      | 'log_restored'
      | 'key_rotated'
      | 'policy_changed';
    /** Who asked for it; empty where the sidecar did it by itself. */
    by: string;
    what: string;
    resource: string;
    why: string;
    outcome: Outcome;
    /** Names, numbers, public keys. */
    details: Readonly<Record<string, string | number>>;
  }>;

/** What became of the calls of a decision. A lease has one for each kind that its calls came to. */
export type SettlementRecord = RecordHead &
  Readonly<{
    type: 'settlement';
    /** The decision's. */
    id: string;
    /** They left; they provably did not; lines were lost, so nobody can know; they were never made. */
    kind: 'Sent' | 'NotSent' | 'Unknown' | 'Expired';
    calls: number;
    /** Body bytes from the agent, and to it, of all of them together. */
    bytes_in: number;
    bytes_out: number;
    duration_ms: number;
    /** Of the last one; 0 where there was none. */
    status: number;
    upstream: string;
    /** Start of the first and end of the last, milliseconds since the epoch; 0 where no line told. */
    first_ms: number;
    last_ms: number;
    rule: string;
    what: string;
    resource: string;
    outcome: Outcome;
    /** How far the ledger had been read; empty where no line led to this. */
    line: string;
  }>;

/** What was really used, as a CloudEvent (CloudEvents 1.0, section 3). */
export type UsageRecord = RecordHead &
  Readonly<{
    type: 'usage';
    /** The decision's. */
    id: string;
    what: string;
    resource: string;
    outcome: Outcome;
    event: UsageEvent;
  }>;

export type UsageEvent = Readonly<{
  specversion: '1.0';
  /** With `source` unique: a repeat is the same usage. */
  id: string;
  source: string;
  type: string;
  /** The agent's SPIFFE ID. */
  subject: string;
  /** RFC 3339. */
  time: string;
  datacontenttype: 'application/json';
  data: Readonly<{
    transaction_id: string;
    /** When it was settled, as records tell time. */
    at: WireTimestamp;
    delegation_chain: readonly string[];
    policy_version: string;
    rule: string;
    what: string;
    resource: string;
    calls: number;
    bytes_in: number;
    bytes_out: number;
    duration_ms: number;
    status: number;
  }>;
}>;

/** Something passed that no decision let pass; or, of kind `Gap`, lines were lost that would have told. */
export type IncidentRecord = RecordHead &
  Readonly<{
    type: 'incident';
    id: string;
    kind: 'NoDecision' | 'UnknownDecision' | 'Replayed' | 'BeyondLease' | 'Gap';
    /** That the request named; empty without. */
    decision: string;
    /** More than 1 where they came too fast to be written down one by one. */
    count: number;
    upstream: string;
    what: string;
    resource: string;
    why: string;
    outcome: Outcome;
    line: string;
  }>;

export type LockdownRecord = RecordHead &
  Readonly<{
    type: 'lockdown';
    id: string;
    action: 'locked' | 'lifted';
    by: string;
    what: string;
    resource: string;
    why: string;
    outcome: Outcome;
  }>;

export type JournalRecord =
  | DecisionRecord
  | HoldRecord
  | AuditRecord
  | SettlementRecord
  | UsageRecord
  | IncidentRecord
  | LockdownRecord;
