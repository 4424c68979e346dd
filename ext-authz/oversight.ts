/**
 * What becomes of a request whose rule asks a person. The hold is durable before anything is answered; the
 * caller waits for the rule's `wait`, then is told to send the same request again. An approval is used once,
 * by exactly this request, and only while the same rule still decides.
 */
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { HoldId, PolicyVersion } from '../filters/common/brand.ts';
import { createShares } from '../filters/common/shares.ts';
import type { Pin } from '../filters/facts.ts';
import { delegationChain } from '../filters/identity/chain.ts';
import { requestDigest } from '../filters/oversight/digest.ts';
import type { Hold } from '../filters/oversight/holds.ts';
import { previewOf } from '../filters/oversight/preview.ts';
import type { Verdict } from '../filters/policy/compiled.ts';
import type { CheckerDeps } from './checker-deps.ts';
import { type Draft, denial, type Progress } from './draft.ts';
import { type Asked, factsOf } from './establish.ts';
import { asksUpgrade, readAsNeeded } from './read-as-needed.ts';

export type HoldVerdict = Extract<Verdict, { kind: 'hold' }>;

/** Either the request may go out by this approved hold, or this is the answer. */
export type Held =
  | Readonly<{ kind: 'release'; hold: HoldId; pin: Pin }>
  | Readonly<{ kind: 'answer'; draft: Draft }>;

export type Oversight = {
  /** @param signal aborted when the caller went away. */
  (asked: Asked, verdict: HoldVerdict, progress: Progress, signal: AbortSignal): Promise<Held>;
  /** Somebody else used the approval first: asks anew and answers at once. */
  again(asked: Asked, verdict: HoldVerdict, progress: Progress): Draft;
};

export function createOversight(deps: CheckerDeps): Oversight {
  const waiters = new Map<HoldId, Set<() => void>>();
  let waiting = 0;
  const shares = createShares(limits.holdsWaitingPerAgentMax);
  deps.holds.onTransition((hold) => {
    if (hold.state === 'Pending') return;
    for (const wake of waiters.get(hold.id) ?? []) wake();
  });
  const isStopping = (): boolean => deps.stopping.aborted;
  deps.stopping.addEventListener('abort', () => {
    for (const wake of [...waiters.values()].flatMap((ofOne) => [...ofOne])) wake();
  });

  const open = ({ call, agent, destination }: Asked, verdict: HoldVerdict, progress: Progress): Hold => {
    const chain = delegationChain(agent);
    return deps.holds.open({
      agent: agent.name,
      agentId: agent.id,
      chain,
      rule: verdict.rule,
      ruleDigest: verdict.ruleDigest,
      policyVersion: progress.policy.version as PolicyVersion,
      approvers: verdict.approvers,
      quorum: verdict.quorum,
      notRequester: verdict.notRequester,
      digest: requestDigest(agent, chain, call, destination),
      request: previewOf(call, destination, deps.mark),
      reason: verdict.reason,
      timeoutMs: verdict.timeoutMs,
    });
  };

  const pending = (verdict: HoldVerdict, hold: Hold): Draft => ({
    kind: 'RequiresOversight',
    policy_id: verdict.rule,
    // A clock that was set since must not promise more time than the rule gives.
    timeout: Math.min(verdict.timeoutMs, Math.max(0, Math.ceil(hold.expiresMs - deps.clock.wallMs()))),
    hold: hold.id,
    retryAfterMs: deps.holdRetryAfterMs,
  });

  /** Until the hold leaves Pending, the wait is over, or the caller is gone. */
  const wait = (id: HoldId, waitMs: number, signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        const others = waiters.get(id);
        others?.delete(done);
        if (others?.size === 0) waiters.delete(id);
        waiting -= 1;
        resolve();
      };
      waiting += 1;
      const timer = setTimeout(done, waitMs);
      const others = waiters.get(id) ?? new Set();
      waiters.set(id, others.add(done));
      signal.addEventListener('abort', done);
    });

  /** The rule that holds this request under the policy of this moment, or the reason why none does any more. */
  const stillDecides = (hold: Hold, asked: Asked, progress: Progress): HoldVerdict => {
    const now = deps.policy();
    progress.policy = now;
    const { call, agent } = asked;
    const facts = factsOf(deps.clock, {
      ...asked,
      destination: readAsNeeded(now, call, asked.destination),
    });
    const verdict = now.agent(agent.name) === undefined ? undefined : now.evaluate(facts);
    if (verdict !== undefined) progress.verdict = verdict;
    if (verdict?.kind === 'forbid') throw new SallyportError('Forbidden', verdict.reason);
    if (verdict?.kind !== 'hold' || verdict.rule !== hold.rule || verdict.ruleDigest !== hold.ruleDigest) {
      throw new SallyportError(
        'HoldPolicyChanged',
        `rule ${hold.rule} no longer decides this request as it did`,
      );
    }
    return verdict;
  };

  /** Outcomes that a caller is told once; its next request asks anew. */
  const told = (hold: Hold, code: 'HoldDenied' | 'HoldTimedOut' | 'HoldCancelled', reason: string): Held => {
    deps.holds.acknowledge(hold.id);
    return { kind: 'answer', draft: { ...denial(new SallyportError(code, reason)), hold: hold.id } };
  };

  const oversight: Oversight = async (asked, verdict, progress, signal) => {
    const { call, agent, destination } = asked;
    if (asksUpgrade(call))
      throw new SallyportError(
        'ProtocolNotAllowed',
        `rule ${verdict.rule} asks a person, who would not see what is sent after an upgrade; send a plain request`,
      );
    // Where it may never go, nobody is asked.
    await deps.resolver.pin(destination.host, destination.port, verdict.internal, agent.name);
    const digest = requestDigest(agent, delegationChain(agent), call, destination);
    let hold = deps.holds.findForRequest(agent.name, digest) ?? open(asked, verdict, progress);
    if (hold.ruleDigest !== verdict.ruleDigest && (hold.state === 'Pending' || hold.state === 'Approved')) {
      hold = open(asked, verdict, progress);
    }
    if (
      hold.state === 'Pending' &&
      verdict.waitMs > 0 &&
      waiting < limits.holdsWaitingMax &&
      !signal.aborted &&
      !isStopping()
    ) {
      // Past either limit the caller is told to come back at once; one agent never takes everybody's places.
      const giveBack = shares.take(agent.name);
      if (giveBack !== undefined) {
        await wait(hold.id, verdict.waitMs, signal).finally(giveBack);
        hold = deps.holds.get(hold.id) ?? hold;
      }
    }
    switch (hold.state) {
      case 'Approved': {
        // Released now, it might not be sent any more: the approval stays for the next try.
        if (signal.aborted || isStopping()) return { kind: 'answer', draft: pending(verdict, hold) };
        const pin = await deps.resolver.pin(destination.host, destination.port, verdict.internal, agent.name);
        stillDecides(hold, asked, progress);
        return { kind: 'release', hold: hold.id, pin };
      }
      case 'Denied':
        return told(
          hold,
          'HoldDenied',
          hold.note === ''
            ? `${hold.decidedBy} denied this request`
            : `${hold.decidedBy} denied this request: ${hold.note}`,
        );
      case 'TimedOut':
        return told(hold, 'HoldTimedOut', 'nobody decided in time');
      case 'Cancelled':
        return told(
          hold,
          'HoldCancelled',
          hold.note === '' ? 'the hold was cancelled' : `the hold was cancelled: ${hold.note}`,
        );
      case 'Unknown':
        return {
          kind: 'answer',
          draft: {
            ...denial(
              new SallyportError(
                'HoldOutcomeUnknown',
                `hold ${hold.id} was released, and a crash hides whether the request was sent`,
              ),
            ),
            hold: hold.id,
          },
        };
      case 'Pending':
      case 'Escalated':
        return { kind: 'answer', draft: pending(verdict, hold) };
      // Another connection used the approval while this one waited.
      case 'Released':
      case 'Sent':
      case 'NotSent':
        return { kind: 'answer', draft: oversight.again(asked, verdict, progress) };
    }
  };
  oversight.again = (asked, verdict, progress) => pending(verdict, open(asked, verdict, progress));
  return oversight;
}
