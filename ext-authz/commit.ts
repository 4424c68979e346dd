/** A draft becomes a decision: it gets its id and time, is written down before anything is answered, and can be undone. */
import { SallyportError, toSallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { PolicyVersion } from '../filters/common/brand.ts';
import type { Allow, Decision, DecisionHead } from '../filters/decision.ts';
import type { Call } from '../filters/facts.ts';
import { delegationChain } from '../filters/identity/chain.ts';
import type { Debit } from '../filters/quota/quota.ts';
import type { CheckerDeps } from './check.ts';
import type { Checker } from './checker.ts';
import { type Draft, denial, type Progress } from './draft.ts';
import { decisionRecord } from './record.ts';

/** What was taken for a call, so that it can be given back where the call never left. */
export type Payment = Readonly<{ debits: readonly Debit[]; atMs: number; calls: number }>;

export type Commit = Readonly<{
  /** Writes the decision down, or turns it into the denial that says it could not be. */
  commit(
    progress: Progress,
    draft: Draft,
    payment: Payment | undefined,
    call: Call,
    startedMs: number,
  ): Decision;
  settle: Checker['settle'];
  settleById: Checker['settleById'];
}>;

type Deps = Pick<
  CheckerDeps,
  'clock' | 'ids' | 'journal' | 'log' | 'quota' | 'holds' | 'locked' | 'onDecision'
>;

export function createCommit(deps: Deps): Commit {
  const paid = new Map<string, Payment>();

  const keep = (id: string, payment: Payment): void => {
    paid.set(id, payment);
    if (paid.size <= limits.paymentsOpenMax) return;
    const [oldest] = paid.keys();
    if (oldest !== undefined) paid.delete(oldest);
  };

  const head = (progress: Progress): DecisionHead => ({
    id: deps.ids.decision(),
    at: deps.clock.now(),
    policyVersion: progress.policy.version as PolicyVersion,
    rule:
      progress.verdict !== undefined && progress.verdict.kind !== 'none' ? progress.verdict.rule : undefined,
    agent: progress.agent,
    chain: progress.agent === undefined ? [] : delegationChain(progress.agent),
    destination: progress.destination,
    shadow: progress.verdict?.shadow ?? [],
    quotas: progress.quotas,
  });

  const refund = ({ debits, atMs, calls }: Payment): void => deps.quota.refund(debits, atMs, calls);

  const takeBack = (allow: Pick<Allow, 'hold'>, payment: Payment | undefined): void => {
    if (payment !== undefined) refund(payment);
    if (allow.hold !== undefined) deps.holds.settle(allow.hold, 'NotSent', 'sidecar');
  };

  return {
    commit: (progress, given, taken, call, startedMs) => {
      let draft = given;
      let payment = taken;
      // A lockdown may have come while a name was resolved or a person was asked.
      const locked = given.kind === 'Allow' ? deps.locked?.() : undefined;
      if (given.kind === 'Allow' && locked !== undefined) {
        takeBack(given, taken);
        draft = denial(new SallyportError('Lockdown', locked));
        payment = undefined;
      }
      const decision: Decision = { ...head(progress), ...draft };
      const durationUs = (deps.clock.monotonicMs() - startedMs) * 1_000;
      try {
        deps.journal.append(decisionRecord(decision, call, durationUs));
      } catch (thrown) {
        const failure = toSallyportError(thrown, 'StateUnavailable');
        deps.log.error(
          { err: failure, cause: failure.cause, decision: decision.id },
          'the decision could not be written down',
        );
        if (decision.kind === 'Allow') takeBack(decision, payment);
        return { ...head(progress), ...denial(failure) };
      }
      if (payment !== undefined) keep(decision.id, payment);
      deps.onDecision?.(decision, call, durationUs);
      return decision;
    },
    settle: (decision, outcome) => {
      const payment = paid.get(decision.id);
      paid.delete(decision.id);
      if (outcome === 'NotSent' && payment !== undefined) refund(payment);
      if (decision.kind === 'Allow' && decision.hold !== undefined)
        deps.holds.settle(decision.hold, outcome, 'data plane');
    },
    settleById: (id, notSent) => {
      const payment = paid.get(id);
      paid.delete(id);
      if (payment !== undefined && notSent > 0)
        refund({ ...payment, calls: Math.min(notSent, payment.calls) });
    },
  };
}
