/**
 * Grants leases: establish → match → region → pin → pay → commit, the same steps as a check. What
 * is not a plain Allow, uniform over a region, is no lease; the request is then checked, which tells its caller why.
 */
import { toSallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { DecisionId } from '../filters/common/brand.ts';
import type { Allow, LeaseTerms } from '../filters/decision.ts';
import type { Agent, Call, Destination, Pin } from '../filters/facts.ts';
import type { LeaseRegion } from '../filters/policy/lease-region.ts';
import type { CheckerDeps, LessorOptions, Payment } from './checker-deps.ts';
import type { Commit } from './commit.ts';
import { type Draft, progressUnder } from './draft.ts';
import { establish, factsOf } from './establish.ts';
import type { LeaseBook } from './lease-book.ts';
import type { LeaseProof } from './lease-proof.ts';

/** What the data plane says beside the request itself. */
export type LeaseWish = Readonly<{
  /** Names the state that would hold the lease: one worker of one listener. */
  vm: string;
  /** The lease that this one follows, and what is left of it; undefined for a first one. */
  renews: Readonly<{ id: string; left: number }> | undefined;
  /** The region in the paths that the data plane sees; undefined where it cannot be said in them. */
  onWire(region: LeaseRegion, path: string): LeaseRegion | undefined;
}>;

export type LeaseGrant =
  /** Requests that say `principal` of their connection and are in the region are paid by the lease. */
  | Readonly<{
      kind: 'lease';
      principal: string;
      region: LeaseRegion;
      allow: Allow;
      pin: Pin;
      lease: LeaseTerms;
    }>
  /** A lease is out already: who this is, and for what it is. */
  | Readonly<{ kind: 'known'; principal: string; region: LeaseRegion }>
  /** Not to be asked for again for `quietMs`, where that is not as long as ever. */
  | Readonly<{ kind: 'none'; why: string; quietMs?: number }>;

export type Lessor = Readonly<{
  /** Never rejects: what fails is no lease, and the request is checked. */
  grant(call: Call, wish: LeaseWish): Promise<LeaseGrant>;
  /** The data plane takes nothing more from this lease, and did not use so many of its calls. */
  report(id: DecisionId, left: number): void;
  /** Grants nothing until the returned function is called: what is granted is over a lease's life later. */
  pause(): () => void;
  /** Told what the data plane does, so that its silence can be believed. */
  readonly proof: LeaseProof;
  /** Grows with every change after which nothing that was granted before may be used: a policy, a lockdown. */
  sequence(): number;
}>;

/** What the last lease of a class tells about how many the next one needs. */
type Line = Readonly<{
  id: DecisionId;
  calls: number;
  grantedMs: number;
  endsMs: number;
  /** Calls a millisecond of the lease before it. */
  rate: number;
}>;

const none = (why: string) => ({ kind: 'none', why }) as const;

export function createLessor(
  deps: CheckerDeps,
  { commit, settle }: Pick<Commit, 'commit' | 'settle'>,
  book: LeaseBook,
  options: LessorOptions,
): Lessor {
  const lines = new Map<string, Line>();
  const pauses = new Set<symbol>();

  /** In the order of their grants, oldest first. */
  const forget = (nowMs: number): void => {
    for (const [key, line] of lines) {
      const isKept = line.grantedMs + limits.leaseLifeMsMax + limits.leaseRateKeptMs > nowMs;
      if (isKept && lines.size < limits.leasesOpenMax) break;
      lines.delete(key);
    }
  };

  /** Calls a millisecond that the lease before this one was used at; 0 where there was none lately. */
  const rateOf = (line: Line | undefined, wish: LeaseWish, nowMs: number): number => {
    if (line === undefined) return 0;
    if (wish.renews?.id !== line.id) return line.rate;
    return (
      Math.max(0, line.calls - wish.renews.left) / Math.max(1, Math.min(nowMs, line.endsMs) - line.grantedMs)
    );
  };

  /** What the class uses in a lease's life and half as much again; a first one is small, and the next grow from it. */
  const wanted = (line: Line | undefined, rate: number, lifeMs: number): number => {
    if (line === undefined) return limits.leaseFirstCallsMax;
    // Asked for, it is busy again, whatever it was when it was last leased.
    return Math.max(limits.leaseCallsMin, Math.min(line.calls * 8, Math.ceil(rate * lifeMs * 1.5)));
  };

  const grant = async (call: Call, wish: LeaseWish): Promise<LeaseGrant> => {
    const startedMs = deps.clock.monotonicMs();
    if (deps.locked() !== undefined) return none('the sidecar is locked down');
    if (pauses.size > 0) return none('routes are being changed');
    if (call.stage !== 'request') return none('a tunnel is checked once');
    if (book.count() >= limits.leasesOpenMax) return none('too many leases are out');
    const policy = deps.policy();
    const progress = progressUnder(policy);
    const asked = establish(deps, progress, call);
    const { agent, destination } = asked;
    const facts = factsOf(deps.clock, asked);
    const verdict = policy.evaluate(facts);
    progress.verdict = verdict;
    if (verdict.kind !== 'allow') return none(`the policy says ${verdict.kind}`);
    const scope = policy.leaseRegion(agent, destination, verdict.rule);
    if ('why' in scope) return none(scope.why);
    const region = wish.onWire(scope, destination.path);
    if (region === undefined) return none('the region cannot be told in paths of the route');
    const needs = policy.needsOf(destination.host, destination.path, destination.method);
    if (needs.body || needs.mcp) return none('rules read what these requests carry');

    const principal = principalOf(call, agent);
    const key = JSON.stringify([wish.vm, principal, placeOf(destination), region.prefix, region.exact]);
    /** One is out already, and this is not the question for the one after it. */
    const isOut = (line: Line | undefined): boolean =>
      line !== undefined &&
      wish.renews?.id !== line.id &&
      deps.clock.monotonicMs() < line.endsMs &&
      book.isOpen(line.id);
    if (isOut(lines.get(key))) return { kind: 'known', principal, region };
    const pin = await deps.resolver.pin(destination.host, destination.port, verdict.internal, agent.name);

    // From here on nothing waits: the policy, the quotas and the book are those of this moment.
    if (deps.policy() !== policy || pauses.size > 0) return none('the policy changed');
    const nowMs = deps.clock.monotonicMs();
    forget(nowMs);
    const line = lines.get(key);
    if (isOut(line)) return { kind: 'known', principal, region };
    const debits = policy.debits(facts, verdict.rule);
    const room = Math.floor(deps.quota.room(debits) / limits.leaseRoomPartsMin);
    const rate = rateOf(line, wish, nowMs);
    // A lease ends with the slot of the quotas' windows that it is counted in.
    const madeWithinMs = deps.quota.madeWithinMs(debits);
    if (madeWithinMs < limits.leaseLifeMsMin)
      return { ...none('the slot of a quota ends before it'), quietMs: madeWithinMs + 1 };
    const lifeMs = Math.min(options.lifeMs, madeWithinMs);
    const calls = Math.min(options.callsMax, room, wanted(line, rate, lifeMs));
    if (calls < limits.leaseCallsMin) return none('a lease would be too small');
    let payment: Payment | undefined;
    if (debits.length > 0) {
      const result = deps.quota.debit(debits, calls);
      if (!result.ok) return none(`quota ${result.debit.quota} has no room for it`);
      progress.quotas = result.states;
      payment = { debits, atMs: result.atMs, calls };
    }
    const lease: LeaseTerms = { calls, lifeMs, path: scope.prefix, exact: scope.exact };
    const draft: Draft = { kind: 'Allow', inspect: 'tls', pin, hold: undefined, lease };
    const decision = commit(progress, draft, payment, call, startedMs);
    if (decision.kind !== 'Allow') return none('the lease could not be written down');
    try {
      book.open({ id: decision.id, vm: wish.vm, calls, debits, atMs: payment?.atMs ?? 0 }, lifeMs);
      lines.delete(key);
      lines.set(key, { id: decision.id, calls, grantedMs: nowMs, endsMs: nowMs + lifeMs, rate });
    } catch (thrown) {
      settle(decision, 'NotSent');
      throw thrown;
    }
    return { kind: 'lease', principal, region, allow: decision, pin, lease };
  };

  let sequence = 0;
  let known = { policy: deps.policy(), locked: deps.locked() };
  return {
    report: book.report,
    pause: () => {
      const pause = Symbol('pause');
      pauses.add(pause);
      return () => void pauses.delete(pause);
    },
    proof: book.proof,
    sequence: () => {
      const now = { policy: deps.policy(), locked: deps.locked() };
      if (now.policy !== known.policy || now.locked !== known.locked) {
        known = now;
        sequence += 1;
      }
      return sequence;
    },
    grant: async (call, wish) => {
      try {
        return await grant(call, wish);
      } catch (thrown) {
        const failure = toSallyportError(thrown);
        if (failure.code === 'Internal') deps.log.error({ err: thrown }, 'a lease could not be granted');
        return none(failure.message);
      }
    },
  };
}

/** Everything of a connection that a decision about one of its requests depends on. */
const principalOf = ({ connection }: Call, agent: Agent): string =>
  [agent.name, agent.by, connection.tunnelAuthority, connection.sni].join(' ');

const placeOf = ({ scheme, host, port, method }: Destination): string =>
  `${method} ${scheme}://${host}:${port}`;
