/** Settlements as records of the journal, and the usage event of what was really used. */
import type { Outcome, RecordHead, SettlementRecord, UsageEvent, UsageRecord } from '../common/record.ts';
import type { WireTimestamp } from '../common/time.ts';
import type { OpenFacts, Settlement, SettlementKind } from './use.ts';

/** CloudEvents 1.0, section 3.1: `source` and `id` together are unique; a decision's id is so by itself. */
export const usageSource = 'urn:sallyport:ledger';
export const usageType = 'sallyport.call';

const outcomes: Readonly<Record<SettlementKind, Outcome>> = {
  Sent: 'Success',
  NotSent: 'Failure',
  Unknown: 'Failure',
  Expired: 'Timeout',
};

const headOf = (facts: OpenFacts, at: WireTimestamp): RecordHead => ({
  at,
  agent: facts.agent,
  delegation_chain: facts.chain,
  policy_version: facts.policyVersion,
});

const whole = (ms: number | undefined): number => (ms === undefined ? 0 : Math.trunc(ms));

export const settlementRecord = (
  { facts, kind, ...told }: Settlement,
  at: WireTimestamp,
  line: string,
): SettlementRecord => ({
  type: 'settlement',
  id: facts.id,
  ...headOf(facts, at),
  kind,
  calls: told.calls,
  bytes_in: told.bytesIn,
  bytes_out: told.bytesOut,
  duration_ms: told.durationMs,
  status: told.status,
  upstream: told.upstream,
  first_ms: whole(told.firstMs),
  last_ms: whole(told.lastMs),
  rule: facts.rule,
  what: facts.what,
  resource: facts.resource,
  outcome: outcomes[kind],
  line,
});

/**
 * Undefined where nothing was used, or another decision pays: the first bytes of a tunnel are compared with its
 * CONNECT, and the CONNECT is what is charged.
 */
export function usageEvent({ facts, kind, ...told }: Settlement, at: WireTimestamp): UsageEvent | undefined {
  if (kind !== 'Sent' || facts.stage === 'tunnel') return undefined;
  return {
    specversion: '1.0',
    id: facts.id,
    source: usageSource,
    type: usageType,
    subject: facts.agent,
    time: new Date(whole(told.lastMs)).toISOString(),
    datacontenttype: 'application/json',
    data: {
      transaction_id: facts.id,
      at,
      delegation_chain: facts.chain,
      policy_version: facts.policyVersion,
      rule: facts.rule,
      what: facts.what,
      resource: facts.resource,
      calls: told.calls,
      bytes_in: told.bytesIn,
      bytes_out: told.bytesOut,
      duration_ms: told.durationMs,
      status: told.status,
    },
  };
}

export const usageRecord = (facts: OpenFacts, event: UsageEvent, at: WireTimestamp): UsageRecord => ({
  type: 'usage',
  id: facts.id,
  ...headOf(facts, at),
  what: facts.what,
  resource: facts.resource,
  outcome: 'Success',
  event,
});
