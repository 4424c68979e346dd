/** The denial of a check that never reached the policy: it could not be read, or there was no room for it. */
import type { SallyportError } from '../config/errors.ts';
import type { DecisionId, PolicyVersion } from '../filters/common/brand.ts';
import type { Clock } from '../filters/common/time.ts';
import type { Deny } from '../filters/decision.ts';
import type { Agent, Call, Destination } from '../filters/facts.ts';
import { delegationChain } from '../filters/identity/chain.ts';
import { denial } from './draft.ts';

/** Of a request that was refused before its check, what record and log tell. Empty where it could not be read. */
export type RefusedRequest = Readonly<
  Pick<Call, 'method' | 'authority' | 'path' | 'requestId' | 'via'> & {
    /** That told of it in Envoy's access log. */
    line?: string;
    /** It stands for so many. */
    count?: number;
  }
>;

export const unreadRequest = (via: Call['via']): RefusedRequest => ({
  method: '',
  authority: '',
  path: '',
  requestId: '',
  via,
});

/** Told of each denial that the checker never saw, for journal, log and metrics. Must not throw. */
export type OnRefusal = (deny: Deny, request: RefusedRequest) => void;

/** What was found before the refusal. */
export type Found = Readonly<{ agent?: Agent | undefined; destination?: Destination | undefined }>;

/** No policy took part. */
const noPolicy = '' as PolicyVersion;

export function refusal(error: SallyportError, clock: Clock, id: DecisionId, found: Found = {}): Deny {
  return {
    ...denial(error),
    id,
    at: clock.now(),
    policyVersion: noPolicy,
    rule: undefined,
    agent: found.agent,
    chain: found.agent === undefined ? [] : delegationChain(found.agent),
    destination: found.destination,
    shadow: [],
    quotas: [],
  };
}
