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

export type JournalRecord = DecisionRecord | HoldRecord;
