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
  must(limits.policyInlineBytesMax < limits.policyBytesMax, 'policyInlineBytesMax < policyBytesMax');
  must(limits.policyBytesMax < limits.policyExpandedBytesMax, 'policyBytesMax < policyExpandedBytesMax');
  must(limits.dnsCacheTtlMsMin <= limits.dnsCacheTtlMsMax, 'dnsCacheTtlMsMin <= dnsCacheTtlMsMax');
  must(limits.holdsOpenPerAgentMax < limits.holdsOpenMax, 'holdsOpenPerAgentMax < holdsOpenMax');
  must(
    limits.dnsConcurrentPerAgentMax < limits.dnsConcurrentMax,
    'dnsConcurrentPerAgentMax < dnsConcurrentMax',
  );
  must(
    limits.checksConcurrentPerAgentMax < limits.checksConcurrentMax,
    'checksConcurrentPerAgentMax < checksConcurrentMax',
  );
  must(limits.holdsWaitingPerAgentMax < limits.holdsWaitingMax, 'holdsWaitingPerAgentMax < holdsWaitingMax');
  must(limits.holdsWaitingMax <= limits.checksConcurrentMax, 'holdsWaitingMax <= checksConcurrentMax');
  must(
    limits.certificateRenewBeforeMs < limits.certificateLifetimeMs,
    'certificateRenewBeforeMs < certificateLifetimeMs',
  );
  must(
    limits.policyReloadQuietMs < limits.policyReloadDelayMsMax,
    'policyReloadQuietMs < policyReloadDelayMsMax',
  );
  must(
    limits.journalRecordBytesMax < limits.journalFileBytesMax,
    'journalRecordBytesMax < journalFileBytesMax',
  );
  must(limits.stopAnswerMs < limits.stopTimeoutMs, 'stopAnswerMs < stopTimeoutMs');
  must(limits.otlpBatchSpansMax <= limits.otlpQueueSpansMax, 'otlpBatchSpansMax <= otlpQueueSpansMax');
  must(limits.otlpStopMs < limits.stopTimeoutMs, 'otlpStopMs < stopTimeoutMs');
  return broken;
}
