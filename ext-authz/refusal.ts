/** The denial of a check that never reached the policy: it could not be read, or there was no room for it. */
import type { SallyportError } from '../config/errors.ts';
import type { DecisionId, PolicyVersion } from '../filters/common/brand.ts';
import type { Clock } from '../filters/common/time.ts';
import type { Deny } from '../filters/decision.ts';

/** No policy took part. */
const noPolicy = '' as PolicyVersion;

export function refusal(error: SallyportError, clock: Clock, id: DecisionId): Deny {
  return {
    kind: 'Deny',
    code: error.code,
    reason: error.message,
    retryAfterMs: error.retryAfterMs,
    hold: undefined,
    id,
    at: clock.now(),
    policyVersion: noPolicy,
    rule: undefined,
    agent: undefined,
    chain: [],
    destination: undefined,
    shadow: [],
    quotas: [],
  };
}
