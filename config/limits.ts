import { policyLimits } from './limits-policy.ts';
import { processesLimits } from './limits-processes.ts';
import { requestsLimits } from './limits-requests.ts';
import { stateLimits } from './limits-state.ts';

/**
 * Every limit of the product, with its unit in its name. What happens past each one is tested.
 * A limit that a user may move is a setting (`config/settings.ts`) whose bounds are taken from here.
 */
export const limits = {
  ...requestsLimits,
  ...policyLimits,
  ...processesLimits,
  ...stateLimits,
} as const;

/** Relations between limits; each is asserted at start and by a test. Returns the broken ones. */
export function brokenLimitRelations(of: Readonly<Record<keyof typeof limits, number>> = limits): string[] {
  const broken: string[] = [];
  const must = (holds: boolean, relation: string): void => {
    if (!holds) broken.push(relation);
  };
  must(of.holdWaitMsMax < of.checkTimeoutMs, 'holdWaitMsMax < checkTimeoutMs');
  must(of.checkTimeoutMs < of.streamIdleTimeoutMs, 'checkTimeoutMs < streamIdleTimeoutMs');
  must(of.inspectedBodyBytesMax < of.checkRequestBytesMax, 'inspectedBodyBytesMax < checkRequestBytesMax');
  must(of.pathBytesMax < of.requestHeaderBytesMax, 'pathBytesMax < requestHeaderBytesMax');
  must(of.policyInlineBytesMax < of.policyBytesMax, 'policyInlineBytesMax < policyBytesMax');
  must(of.policyBytesMax < of.policyExpandedBytesMax, 'policyBytesMax < policyExpandedBytesMax');
  must(of.dnsCacheTtlMsMin <= of.dnsCacheTtlMsMax, 'dnsCacheTtlMsMin <= dnsCacheTtlMsMax');
  must(of.holdsOpenPerAgentMax < of.holdsOpenMax, 'holdsOpenPerAgentMax < holdsOpenMax');
  must(of.dnsConcurrentPerAgentMax < of.dnsConcurrentMax, 'dnsConcurrentPerAgentMax < dnsConcurrentMax');
  must(
    of.checksConcurrentPerAgentMax < of.checksConcurrentMax,
    'checksConcurrentPerAgentMax < checksConcurrentMax',
  );
  must(of.holdsWaitingPerAgentMax < of.holdsWaitingMax, 'holdsWaitingPerAgentMax < holdsWaitingMax');
  must(of.holdsWaitingMax <= of.checksConcurrentMax, 'holdsWaitingMax <= checksConcurrentMax');
  must(
    of.certificateRenewBeforeMs < of.certificateLifetimeMs,
    'certificateRenewBeforeMs < certificateLifetimeMs',
  );
  must(of.policyReloadQuietMs < of.policyReloadDelayMsMax, 'policyReloadQuietMs < policyReloadDelayMsMax');
  must(of.journalRecordBytesMax < of.journalFileBytesMax, 'journalRecordBytesMax < journalFileBytesMax');
  must(of.stopAnswerMs < of.stopTimeoutMs, 'stopAnswerMs < stopTimeoutMs');
  must(of.otlpBatchSpansMax <= of.otlpQueueSpansMax, 'otlpBatchSpansMax <= otlpQueueSpansMax');
  must(of.otlpStopMs < of.stopTimeoutMs, 'otlpStopMs < stopTimeoutMs');
  must(of.leaseLifeMsMin < of.leaseLifeMsMax, 'leaseLifeMsMin < leaseLifeMsMax');
  must(of.leaseRenewMs < of.leaseLifeMsMax, 'leaseRenewMs < leaseLifeMsMax');
  must(of.leaseCallsMin <= of.leaseFirstCallsMax, 'leaseCallsMin <= leaseFirstCallsMax');
  must(of.leaseFirstCallsMax <= of.leaseCallsMax, 'leaseFirstCallsMax <= leaseCallsMax');
  must(of.leaseFlowBackMsMax < of.checkTimeoutMs, 'leaseFlowBackMsMax < checkTimeoutMs');
  // The log's silence about a lease can be believed before the lease is given up.
  must(
    of.leaseLifeMsMax + of.ledgerInterimMs + of.ledgerFlushMs + of.leaseSettleSlackMs < of.leaseSettleMsMax,
    'leaseLifeMsMax + ledgerInterimMs + ledgerFlushMs + leaseSettleSlackMs < leaseSettleMsMax',
  );
  must(of.leasesOpenMax <= of.paymentsOpenMax, 'leasesOpenMax <= paymentsOpenMax');
  must(of.ledgerRecentMax <= of.ledgerOpenMax, 'ledgerRecentMax <= ledgerOpenMax');
  return broken;
}
