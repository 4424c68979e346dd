/** A decision in the making. */
import { type ErrorEntry, errors, type SallyportError } from '../config/errors.ts';
import type { Decision, DecisionHead, Deny, QuotaState } from '../filters/decision.ts';
import type { Agent, Destination } from '../filters/facts.ts';
import type { CompiledPolicy, Verdict } from '../filters/policy/compiled.ts';

/** What is known so far; it only grows, so that a failure at any step still names what was found. */
export type Progress = {
  policy: CompiledPolicy;
  agent: Agent | undefined;
  destination: Destination | undefined;
  verdict: Verdict | undefined;
  quotas: readonly QuotaState[];
};

/** Nothing is known yet but the snapshot that decides. */
export const progressUnder = (policy: CompiledPolicy): Progress => ({
  policy,
  agent: undefined,
  destination: undefined,
  verdict: undefined,
  quotas: [],
});

/** A decision before it has its id and time. */
export type Draft = Decision extends infer D
  ? D extends Decision
    ? Omit<D, keyof DecisionHead>
    : never
  : never;

/** The denial that an error of the catalogue is told as. */
export function denial(failure: SallyportError): Omit<Deny, keyof DecisionHead> {
  const known: ErrorEntry = errors[failure.code];
  return {
    kind: 'Deny',
    code: failure.code,
    reason: failure.message,
    retryAfterMs: known.retry === 'after' ? failure.retryAfterMs : undefined,
    hold: undefined,
  };
}
