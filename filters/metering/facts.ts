/** Which decisions the ledger waits for, and what it keeps of them. */
import { shorten } from '../common/journal-record.ts';
import type { DecisionRecord } from '../common/record.ts';
import type { OpenFacts } from './use.ts';

/** Our own data planes, whose log is read. Another Envoy, or a caller of AuthZEN, keeps its own. */
export const ownPlanes: ReadonlySet<string> = new Set(['envoy', 'embedded']);

/** Undefined where nothing can leave by it: a denial, or a CONNECT whose requests are decided each for itself. */
export function openFactsOf(record: DecisionRecord, epoch: string): OpenFacts | undefined {
  if (record.kind !== 'Allow' || record.pin === '' || !ownPlanes.has(record.via)) return undefined;
  return {
    id: record.id,
    agent: record.agent,
    chain: record.delegation_chain,
    policyVersion: record.policy_version,
    rule: record.rule,
    // Settlement and usage tell them again, and are kept in memory until then.
    what: shorten(record.what),
    resource: shorten(record.resource),
    hold: record.hold,
    calls: record.calls ?? 1,
    leaseMs: record.lease_ms,
    stage: record.stage ?? 'request',
    atMs: Number(BigInt(record.at.physical_ns) / 1_000_000n),
    epoch,
  };
}
