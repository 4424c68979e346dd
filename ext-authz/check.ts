/**
 * One check, in call order: identify → canonicalise → match → gather → decide → commit.
 * Matching is pure and comes before any name is looked up, so that a refused name never reaches a resolver.
 * From the last `await` on, everything is synchronous: two callers never pass each other on a quota or a hold.
 */
import type { Logger } from 'pino';
import { SallyportError, toSallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { Ids } from '../filters/common/ids.ts';
import type { Journal } from '../filters/common/journal.ts';
import { createShares } from '../filters/common/shares.ts';
import type { Clock } from '../filters/common/time.ts';
import type { Decision } from '../filters/decision.ts';
import { assertAgreement } from '../filters/egress/agreement.ts';
import { canonicalDestination } from '../filters/egress/canonical.ts';
import type { Resolver } from '../filters/egress/resolver.ts';
import type { Agent, Call, Destination, Pin } from '../filters/facts.ts';
import { identify } from '../filters/identity/identify.ts';
import type { UnixUsers } from '../filters/identity/unix-users.ts';
import type { HoldStore } from '../filters/oversight/holds.ts';
import type { Mark } from '../filters/oversight/mask.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';
import type { DecisionCache } from '../filters/policy/decision-cache.ts';
import type { Debit, QuotaStore } from '../filters/quota/quota.ts';
import type { Checker } from './checker.ts';
import { createCommit, type Payment } from './commit.ts';
import { type Draft, denial, type Progress } from './draft.ts';
import { createLessor, type LessorOptions } from './lease.ts';
import type { LeaseBook } from './lease-book.ts';
import { createOversight, type Oversight } from './oversight.ts';
import { readAsNeeded } from './read-as-needed.ts';

export type CheckerDeps = Readonly<{
  /** The snapshot that holds now; read once per check. */
  policy: () => CompiledPolicy;
  /** Name of the pod's one agent, or empty. */
  podAgent: string;
  /** Retry-After of a pending hold, in milliseconds. */
  holdRetryAfterMs: number;
  clock: Clock;
  ids: Ids;
  resolver: Resolver;
  users: UnixUsers;
  /** User that the data plane runs as, where it is one of its own: never the pod’s agent. */
  planeUid?: number | undefined;
  /** True where dialling this pin would reach the sidecar or its data plane. */
  isOwn: (pin: Pin) => boolean;
  quota: QuotaStore;
  holds: HoldStore;
  /** Stands for masked values in what a person is shown; absent: their length alone. */
  mark?: Mark;
  journal: Journal;
  log: Logger;
  /** Aborted when the sidecar stops: whoever waits for a person is told to come back, and nobody waits any more. */
  stopping?: AbortSignal;
  /** Why everything is refused; undefined where it is not. */
  locked?: () => string | undefined;
  /** Allows that need not be worked out again. */
  decisions?: DecisionCache;
  /** Present where leases are granted. */
  leases?: Readonly<{ book: LeaseBook; options: LessorOptions }>;
  /** Told after each decision is written; must not throw. */
  onDecision?: (decision: Decision, call: Call, durationUs: number) => void;
}>;

/** A request that came back to the proxy would be sent again, and again, until every connection is taken. */
const elsewhere = ({ resolver, isOwn }: CheckerDeps): Resolver => ({
  pin: async (host, port, internal, owner) => {
    const pin = await resolver.pin(host, port, internal, owner);
    if (isOwn(pin)) throw new SallyportError('AddressDenied', 'the destination is this proxy itself');
    return pin;
  },
  close: () => resolver.close(),
});

export function createChecker(given: CheckerDeps): Checker {
  const deps: CheckerDeps = { ...given, resolver: elsewhere(given) };
  const shares = createShares(limits.checksConcurrentPerAgentMax);
  const { commit, settle, settleById } = createCommit(deps);
  const oversight = createOversight(deps);
  let running = 0;

  const check = async (call: Call, signal: AbortSignal): Promise<Decision> => {
    const startedMs = deps.clock.monotonicMs();
    const progress: Progress = {
      policy: deps.policy(),
      agent: undefined,
      destination: undefined,
      verdict: undefined,
      quotas: [],
    };
    if (running >= limits.checksConcurrentMax) {
      return commit(
        progress,
        denial(
          new SallyportError(
            'Overloaded',
            `${running} checks are running, the limit is ${limits.checksConcurrentMax}`,
          ),
        ),
        undefined,
        call,
        startedMs,
      );
    }
    running += 1;
    let giveBack: (() => void) | undefined;
    try {
      const locked = deps.locked?.();
      if (locked !== undefined) throw new SallyportError('Lockdown', locked);
      const { podAgent, users, planeUid } = deps;
      for (;;) {
        const agent = identify(call, progress.policy, { podAgent, users, planeUid });
        progress.agent = agent;
        giveBack ??= shares.take(agent.name);
        if (giveBack === undefined)
          throw new SallyportError(
            'Overloaded',
            `${limits.checksConcurrentPerAgentMax} checks of this agent are running, and that is the limit`,
          );
        const { draft, payment, short } = await decide(deps, oversight, progress, call, agent, signal);
        // Leased calls that were not used flow back within seconds; who is refused meanwhile waits for them.
        const leftMs = startedMs + limits.leaseFlowBackMsMax - deps.clock.monotonicMs();
        const again =
          short !== undefined && (await deps.leases?.book.flowBack(short, leftMs, signal)) === true;
        if (!again) return commit(progress, draft, payment, call, startedMs);
        progress.policy = deps.policy();
        progress.verdict = undefined;
      }
    } catch (thrown) {
      const failure = toSallyportError(thrown);
      if (!(thrown instanceof SallyportError)) deps.log.error({ err: thrown }, 'a check failed');
      else if (failure.cause !== undefined)
        deps.log.warn({ code: failure.code, cause: failure.cause }, failure.message);
      return commit(progress, denial(failure), undefined, call, startedMs);
    } finally {
      running -= 1;
      giveBack?.();
    }
  };

  const checker = { check, settle, settleById };
  if (deps.leases === undefined) return checker;
  const { book, options } = deps.leases;
  return { ...checker, lessor: createLessor(deps, { commit, settle }, book, options) };
}

type Decided = Readonly<{
  draft: Draft;
  payment: Payment | undefined;
  /** The quota that had no room. */
  short?: Debit | undefined;
}>;

async function decide(
  deps: CheckerDeps,
  oversight: Oversight,
  progress: Progress,
  call: Call,
  agent: Agent,
  signal: AbortSignal,
): Promise<Decided> {
  const { policy } = progress;
  const asked = canonicalDestination(call);
  progress.destination = asked;
  const destination = readAsNeeded(policy, call, asked);
  progress.destination = destination;
  assertAgreement(call, destination);

  if (call.stage !== 'request') return decideTunnel(deps, progress, call, agent, destination);

  const facts = factsOf(deps, call, agent, destination);
  const verdict = deps.decisions?.evaluate(policy, facts) ?? policy.evaluate(facts);
  progress.verdict = verdict;
  switch (verdict.kind) {
    case 'none':
      return refused(unmatched(call, destination));
    case 'forbid':
      return refused(new SallyportError('Forbidden', verdict.reason));
    case 'allow': {
      const pin = await deps.resolver.pin(destination.host, destination.port, verdict.internal, agent.name);
      return pay(
        deps,
        progress,
        policy.debits(factsOf(deps, call, agent, destination), verdict.rule),
        () => ({
          kind: 'Allow',
          inspect: 'tls',
          pin,
          hold: undefined,
        }),
      );
    }
    case 'hold': {
      const held = await oversight(progress, verdict, call, agent, destination, signal);
      if (held.kind !== 'release') return { draft: held.draft, payment: undefined };
      const now = deps.policy();
      return pay(deps, progress, now.debits(factsOf(deps, call, agent, destination), verdict.rule), () => {
        if (!deps.holds.consume(held.hold))
          return oversight.again(verdict, call, agent, destination, progress);
        return { kind: 'Allow', inspect: 'tls', pin: held.pin, hold: held.hold };
      });
    }
  }
}

/** A CONNECT, or the first bytes of a tunnel that is passed unread. */
async function decideTunnel(
  deps: CheckerDeps,
  progress: Progress,
  call: Call,
  agent: Agent,
  destination: Destination,
): Promise<Decided> {
  const { policy } = progress;
  const verdict = policy.connect(agent, destination, deps.clock.wallMs());
  switch (verdict.kind) {
    case 'none':
      progress.verdict = verdict;
      return refused(unmatched(call, destination));
    case 'forbid':
      progress.verdict = verdict.verdict;
      return refused(new SallyportError('Forbidden', verdict.verdict.reason));
    case 'intercept':
      if (call.stage === 'tunnel')
        return refused(
          new SallyportError(
            'ProtocolNotAllowed',
            `${destination.host}:${destination.port} may not be passed unread any more`,
          ),
        );
      return {
        draft: { kind: 'Allow', inspect: 'tls', pin: undefined, hold: undefined },
        payment: undefined,
      };
    case 'unread': {
      progress.verdict = verdict.verdict;
      const pin = await deps.resolver.pin(
        destination.host,
        destination.port,
        verdict.verdict.internal,
        agent.name,
      );
      const allow: Draft = {
        kind: 'Allow',
        inspect: verdict.inspect,
        pin,
        hold: undefined,
      };
      // The CONNECT paid for the tunnel; its first bytes are only compared with it.
      if (call.stage === 'tunnel') return { draft: allow, payment: undefined };
      const facts = factsOf(deps, call, agent, destination);
      return pay(deps, progress, policy.debits(facts, verdict.verdict.rule), () => allow);
    }
  }
}

/** Takes the debits and then makes the draft; both without an `await` between. A draft that is no Allow pays nothing. */
function pay(deps: CheckerDeps, progress: Progress, debits: readonly Debit[], make: () => Draft): Decided {
  let payment: Payment | undefined;
  if (debits.length > 0) {
    const result = deps.quota.debit(debits);
    if (!result.ok) {
      progress.quotas = [result.state];
      const { debit, state, retryAfterMs } = result;
      if (debit.kind === 'rate')
        return {
          draft: { kind: 'RateLimited', quota: debit.quota, retry_after: retryAfterMs },
          payment: undefined,
          short: debit,
        };
      return {
        draft: {
          kind: 'QuotaExceeded',
          quota: debit.quota,
          limit: state.limit,
          used: state.used,
          reset_at: Math.ceil(deps.clock.wallMs() + state.resetMs),
          retryAfterMs,
        },
        payment: undefined,
        short: debit,
      };
    }
    progress.quotas = result.states;
    payment = { debits, atMs: result.atMs, calls: 1 };
  }
  let draft: Draft | undefined;
  try {
    draft = make();
  } finally {
    if (draft?.kind !== 'Allow' && payment !== undefined) deps.quota.refund(payment.debits, payment.atMs);
  }
  return { draft, payment: draft.kind === 'Allow' ? payment : undefined };
}

const factsOf = (deps: CheckerDeps, call: Call, agent: Agent, destination: Destination) => ({
  agent,
  destination,
  headers: call.headers,
  body: call.body,
  nowMs: deps.clock.wallMs(),
});

/** Why nothing matched, as closely as it can be told. */
function unmatched(call: Call, { method, host, port, path }: Destination): SallyportError {
  if (call.mcp.kind === 'invalid') return new SallyportError('McpInvalid', call.mcp.reason);
  if (call.body.kind === 'too-large')
    return new SallyportError('RequestTooLarge', `the body is larger than ${call.body.limitBytes} bytes`);
  return new SallyportError('EgressDenied', `no rule lets ${method} ${host}:${port}${path} pass`);
}

const refused = (failure: SallyportError): Decided => ({ draft: denial(failure), payment: undefined });
