import { describe, expect, test } from 'vitest';
import { brokenLimitRelations, limits } from '../../config/limits.ts';

describe('relations between limits', () => {
  test('hold', () => expect(brokenLimitRelations()).toEqual([]));

  test.each<[string, Partial<Record<keyof typeof limits, number>>]>([
    ['leaseLifeMsMin < leaseLifeMsMax', { leaseLifeMsMin: limits.leaseLifeMsMax }],
    ['leaseRenewMs < leaseLifeMsMax', { leaseRenewMs: limits.leaseLifeMsMax }],
    ['leaseCallsMin <= leaseFirstCallsMax', { leaseCallsMin: limits.leaseFirstCallsMax + 1 }],
    ['leaseFirstCallsMax <= leaseCallsMax', { leaseFirstCallsMax: limits.leaseCallsMax + 1 }],
    ['leaseFlowBackMsMax < checkTimeoutMs', { leaseFlowBackMsMax: limits.checkTimeoutMs }],
    [
      'leaseLifeMsMax + ledgerInterimMs + ledgerFlushMs + leaseSettleSlackMs < leaseSettleMsMax',
      { ledgerInterimMs: limits.leaseSettleMsMax },
    ],
    ['leasesOpenMax <= paymentsOpenMax', { leasesOpenMax: limits.paymentsOpenMax + 1 }],
    ['ledgerRecentMax <= ledgerOpenMax', { ledgerRecentMax: limits.ledgerOpenMax + 1 }],
  ])('%s is told where it does not', (relation, changed) =>
    expect(brokenLimitRelations({ ...limits, ...changed })).toEqual([relation]),
  );
});
