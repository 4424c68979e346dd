/**
 * A record as the seeds' audit service has it (mission row F1): who, delegation chain, what, resource, why,
 * outcome, time; and its event by the seeds' names, with names of the same kind where the seeds have none.
 */
import type { HoldRecord, JournalRecord, Outcome } from '../common/record.ts';
import type { WireTimestamp } from '../common/time.ts';

export type AuditEntry = Readonly<{
  event: string;
  who: string;
  delegation_chain: readonly string[];
  what: string;
  resource: string;
  why: string;
  outcome: Outcome;
  timestamp: WireTimestamp;
  policy_version: string;
  type: JournalRecord['type'];
  id: string;
  /** Number within the agent. */
  agent_seq: number;
  /** All that was written down. */
  record: JournalRecord;
}>;

const holdEvents: Readonly<Record<string, string>> = {
  Pending: 'oversight_requested',
  Approved: 'approved',
  Denied: 'denied',
  Escalated: 'escalated',
  TimedOut: 'timed_out',
  Cancelled: 'cancelled',
  Released: 'released',
  Sent: 'sent',
  NotSent: 'not_sent',
  Unknown: 'outcome_unknown',
};
const holdEvent = ({ state }: HoldRecord): string => holdEvents[state] ?? 'oversight_changed';

/** Every event that `eventOf` can name, for those who filter by one. */
export const eventNames: readonly string[] = [
  'egress_attempted',
  'quota_exceeded',
  ...Object.values(holdEvents),
  'egress_settled',
  'usage_recorded',
  'incident_detected',
  'lockdown_locked',
  'lockdown_lifted',
  'content_pruned',
  'content_erased',
  'tiles_pruned',
  'log_restored',
  'key_rotated',
  'policy_changed',
];

export function eventOf(record: JournalRecord): string {
  switch (record.type) {
    case 'decision':
      return record.kind === 'QuotaExceeded' || record.kind === 'RateLimited'
        ? 'quota_exceeded'
        : 'egress_attempted';
    case 'hold':
      return holdEvent(record);
    case 'settlement':
      return 'egress_settled';
    case 'usage':
      return 'usage_recorded';
    case 'incident':
      return 'incident_detected';
    case 'lockdown':
      return `lockdown_${record.action}`;
    case 'audit':
      return record.action;
  }
}

export function whyOf(record: JournalRecord): string {
  switch (record.type) {
    case 'settlement':
      return `${record.kind}: ${record.calls} ${record.calls === 1 ? 'call' : 'calls'}`;
    case 'usage':
      return record.event.type;
    case 'decision':
      return record.why === '' && record.code !== '' ? record.code : record.why;
    default:
      return record.why;
  }
}

export const entryOf = (record: JournalRecord, agentSeq: number): AuditEntry => ({
  event: eventOf(record),
  who: record.agent,
  delegation_chain: record.delegation_chain,
  what: record.what,
  resource: record.resource,
  why: whyOf(record),
  outcome: record.outcome,
  timestamp: record.at,
  policy_version: record.policy_version,
  type: record.type,
  id: record.id,
  agent_seq: agentSeq,
  record,
});

/** Milliseconds since the epoch. */
export const entryMs = ({ timestamp }: Pick<AuditEntry, 'timestamp'>): number =>
  Number(BigInt(timestamp.physical_ns) / 1_000_000n);
