/** A draft becomes a decision: it gets its id and time, is written down before anything is answered, and can be undone. */
import { SallyportError, toSallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { PolicyVersion } from '../filters/common/brand.ts';
import type { Journal } from '../filters/common/journal.ts';
import type { Allow, Decision, DecisionHead } from '../filters/decision.ts';
import type { Call } from '../filters/facts.ts';
import { delegationChain } from '../filters/identity/chain.ts';
import { ownPlanes } from '../filters/metering/facts.ts';
import type { HoldStore } from '../filters/oversight/holds.ts';
import type { QuotaStore } from '../filters/quota/quota.ts';
import type { CheckerDeps, Payment } from './checker-deps.ts';
import { type Draft, denial, type Progress } from './draft.ts';
import { decisionRecord } from './record.ts';

export type Commit = Readonly<{
  /** Writes the decision down, or turns it into the denial that says it could not be. */
  commit(
    progress: Progress,
    draft: Draft,
    payment: Payment | undefined,
    call: Call,
    startedMs: number,
  ): Decision;
  /** As in `Checker`. */
  settle(decision: Decision, outcome: 'Sent' | 'NotSent'): void;
  refundUnsent(id: string, calls: number, unsent: number): void;
}>;

type Deps = Pick<CheckerDeps, 'clock' | 'ids' | 'log' | 'locked' | 'onDecision'> &
  Readonly<{
    journal: Pick<Journal, 'append'>;
    quota: Pick<QuotaStore, 'refund'>;
    holds: Pick<HoldStore, 'settle'>;
  }>;

/** `paymentsMax` is lowered by tests only. */
export type CommitOptions = Readonly<{ paymentsMax?: number }>;

export function createCommit(deps: Deps, options: CommitOptions = {}): Commit {
  const { paymentsMax = limits.paymentsOpenMax } = options;
  /** Of decisions that the ledger settles, each with those of its calls that are not settled yet. */
  const paid = new Map<string, Payment>();
  /** Of the others nobody ever tells what became of them: they are kept as long as their answer is on its way. */
  const answering = new WeakMap<Decision, Payment>();

  const keep = (decision: Decision, payment: Payment, via: Call['via']): void => {
    if (!ownPlanes.has(via)) {
      answering.set(decision, payment);
      return;
    }
    paid.set(decision.id, payment);
    if (paid.size <= paymentsMax) return;
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
      const locked = given.kind === 'Allow' ? deps.locked() : undefined;
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
      if (payment !== undefined) keep(decision, payment, call.via);
      deps.onDecision?.(decision, call, durationUs);
      return decision;
    },
    settle: (decision, outcome) => {
      const payment = paid.get(decision.id) ?? answering.get(decision);
      paid.delete(decision.id);
      answering.delete(decision);
      if (outcome === 'NotSent' && payment !== undefined) refund(payment);
      if (decision.kind === 'Allow' && decision.hold !== undefined)
        deps.holds.settle(decision.hold, outcome, 'data plane');
    },
    refundUnsent: (id, calls, unsent) => {
      const payment = paid.get(id);
      if (payment === undefined) return;
      const left = payment.calls - calls;
      if (left > 0) paid.set(id, { ...payment, calls: left });
      else paid.delete(id);
      if (unsent > 0) refund({ ...payment, calls: Math.min(unsent, payment.calls) });
    },
  };
}
