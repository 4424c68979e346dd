/**
 * Quotas, first form: calls counted in sliding windows. Pure types; the store has one embedded
 * implementation now and a shared one later, which pass the same contract suite.
 */
import type { QuotaState } from '../decision.ts';

/** One count that a request must be paid from. */
export type Debit = Readonly<{
  /** The quota's name in the policy. */
  quota: string;
  /** Canonical key: the quota's name and the values of its `key` fields, joined unambiguously. */
  key: string;
  limit: number;
  windowMs: number;
  kind: 'quota' | 'rate';
}>;

export type DebitResult =
  /** `atMs` is the store's own time of the debit: a refund names it, so that the right slot gets the call back. */
  | Readonly<{ ok: true; states: readonly QuotaState[]; atMs: number }>
  /** The first quota that has no room; nothing was taken from any. */
  | Readonly<{ ok: false; debit: Debit; state: QuotaState; retryAfterMs: number }>;

/**
 * Guarantee: in any window of `windowMs` no more than `limit` calls are granted for one key, whatever the
 * concurrency, and across a restart or kill of the process (what a kill forfeits is at most the prepaid slice).
 */
export interface QuotaStore {
  /**
   * Takes `calls` (one, unless said) from every debit, or none. Synchronous: two callers never pass each other.
   * Throws StateUnavailable, Overloaded.
   */
  debit(debits: readonly Debit[], calls?: number): DebitResult;
  /** How many calls every debit has room for now; Infinity without debits. Takes nothing. */
  room(debits: readonly Debit[]): number;
  /**
   * How long calls that are counted now may still be made: made later, they would leave the window too early.
   * Infinity without debits.
   */
  madeWithinMs(debits: readonly Debit[]): number;
  /** State without taking anything. */
  peek(debit: Debit): QuotaState;
  /**
   * Gives `calls` (one, unless said) back to each, for requests that provably never left, where they are still
   * counted. `atMs` is the result's: given back to any other time, a later call would leave the window too early.
   */
  refund(debits: readonly Debit[], atMs: number, calls?: number): void;
  close(): void;
}
