/** The check as every server and data plane calls it. Implemented in `ext-authz/check.ts`. */
import type { Decision } from '../filters/decision.ts';
import type { Call } from '../filters/facts.ts';
import type { Lessor } from './lease.ts';

export interface Checker {
  /**
   * Decides one call. Never throws: what fails is a Deny with the catalogue's code.
   * @param signal aborted when the caller went away; a waiting hold then stays Pending and the check ends.
   */
  check(call: Call, signal: AbortSignal): Promise<Decision>;
  /**
   * Told by a data plane that knows the outcome: the request of this Allow left, or provably did not.
   * Settles the hold it consumed, refunds its quota when it did not leave.
   */
  settle(decision: Decision, outcome: 'Sent' | 'NotSent'): void;
  /**
   * Told by the ledger: so many more calls of a decision are settled, and of these so many provably never left;
   * their quotas get them back. What a lease did not use flows back by its own way (`lease-book.ts`).
   */
  refundUnsent(id: string, calls: number, unsent: number): void;
  /** Present where leases are granted. */
  readonly lessor?: Lessor;
}
