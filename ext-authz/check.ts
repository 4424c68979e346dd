/**
 * One check, in call order: establish → gather → decide → commit. `establish` says who asks for what; `gather`
 * asks the rules, and then whom they name, and waits for them: a resolver, a person; `decide` takes what the call costs.
 * Rules are pure and come before any name is looked up, so that a refused name never reaches a resolver.
 * From `decide` on, everything is synchronous: two callers never pass each other on a quota or a hold.
 */
import { SallyportError, toSallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { HoldId, RuleName } from '../filters/common/brand.ts';
import { createShares } from '../filters/common/shares.ts';
import type { Clock } from '../filters/common/time.ts';
import type { Decision } from '../filters/decision.ts';
import type { Resolver } from '../filters/egress/resolver.ts';
import type { Call, Inspect, Pin } from '../filters/facts.ts';
import type { Debit, DebitResult } from '../filters/quota/quota.ts';
import type { Checker } from './checker.ts';
import type { CheckerDeps, Payment } from './checker-deps.ts';
import { createCommit } from './commit.ts';
import { type Draft, denial, type Progress, progressUnder } from './draft.ts';
import { type Asked, establish, factsOf } from './establish.ts';
import { createKnownAgent } from './known-agent.ts';
import { createLessor } from './lease.ts';
import { createOversight, type HoldVerdict, type Oversight } from './oversight.ts';

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
  const { commit, settle, refundUnsent } = createCommit(deps);
  const oversight = createOversight(deps);
  const known = createKnownAgent(deps);
  let running = 0;

  const check = async (call: Call, signal: AbortSignal): Promise<Decision> => {
    const startedMs = deps.clock.monotonicMs();
    const progress = progressUnder(deps.policy());
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
      const locked = deps.locked();
      if (locked !== undefined) {
        // For the record only: who is known or not is refused alike.
        progress.agent = known(call, progress.policy);
        throw new SallyportError('Lockdown', locked);
      }
      for (;;) {
        const asked = establish(deps, progress, call);
        giveBack ??= shares.take(asked.agent.name);
        if (giveBack === undefined)
          throw new SallyportError(
            'Overloaded',
            `${limits.checksConcurrentPerAgentMax} checks of this agent are running, and that is the limit`,
          );
        const gathered = await gather(deps, oversight, asked, progress, signal);
        if (passes(gathered) && deps.policy() !== progress.policy) {
          begin(progress);
          continue;
        }
        const { draft, payment, short } = decide(deps, oversight, asked, progress, gathered);
        // Leased calls that were not used flow back within seconds; who is refused meanwhile waits for them.
        const leftMs = startedMs + limits.leaseFlowBackMsMax - deps.clock.monotonicMs();
        const again =
          short !== undefined && (await deps.leases?.book.flowBack(short, leftMs, signal)) === true;
        if (!again) return commit(progress, draft, payment, call, startedMs);
        begin(progress);
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

  /** Under the policy of now: nothing passes by one that was replaced while a name was looked up or a person asked. */
  const begin = (progress: Progress): void => {
    progress.policy = deps.policy();
    progress.verdict = undefined;
  };

  const checker = { check, settle, refundUnsent };
  if (deps.leases === undefined) return checker;
  const { book, options } = deps.leases;
  return { ...checker, lessor: createLessor(deps, { commit, settle }, book, options) };
}

/** Whether the call may pass once it is paid, or the answer that it gets in any case. */
type Gathered =
  | Readonly<{
      kind: 'grant';
      /** The rule that lets it pass, and that says what it costs. */
      rule: RuleName;
      inspect: Inspect;
      pin: Pin;
      /** The approved hold that it uses. */
      release: Readonly<{ hold: HoldId; verdict: HoldVerdict }> | undefined;
    }>
  | Readonly<{ kind: 'answer'; draft: Draft }>;

const passes = (gathered: Gathered): boolean => gathered.kind === 'grant' || gathered.draft.kind === 'Allow';

async function gather(
  deps: CheckerDeps,
  oversight: Oversight,
  asked: Asked,
  progress: Progress,
  signal: AbortSignal,
): Promise<Gathered> {
  if (asked.call.stage !== 'request') return gatherTunnel(deps, asked, progress);
  const { policy } = progress;
  const facts = factsOf(deps.clock, asked);
  const verdict = deps.decisions?.evaluate(policy, facts) ?? policy.evaluate(facts);
  progress.verdict = verdict;
  switch (verdict.kind) {
    case 'none':
      return refused(unmatched(asked));
    case 'forbid':
      return refused(new SallyportError('Forbidden', verdict.reason));
    case 'allow': {
      const pin = await pinOf(deps, asked, verdict.internal);
      return { kind: 'grant', rule: verdict.rule, inspect: 'tls', pin, release: undefined };
    }
    case 'hold': {
      const held = await oversight(asked, verdict, progress, signal);
      if (held.kind === 'answer') return held;
      const { hold, pin } = held;
      return { kind: 'grant', rule: verdict.rule, inspect: 'tls', pin, release: { hold, verdict } };
    }
  }
}

/** A CONNECT, or the first bytes of a tunnel that is passed unread. */
async function gatherTunnel(deps: CheckerDeps, asked: Asked, progress: Progress): Promise<Gathered> {
  const { call, agent, destination } = asked;
  const isConnect = call.stage === 'connect';
  const verdict = progress.policy.connect(agent, destination, deps.clock.wallMs());
  switch (verdict.kind) {
    case 'none':
      progress.verdict = verdict;
      return refused(unmatched(asked));
    case 'forbid':
      progress.verdict = verdict.verdict;
      return refused(new SallyportError('Forbidden', verdict.verdict.reason));
    case 'intercept':
      return isConnect
        ? { kind: 'answer', draft: { kind: 'Allow', inspect: 'tls', pin: undefined, hold: undefined } }
        : refused(
            new SallyportError(
              'ProtocolNotAllowed',
              `${destination.host}:${destination.port} may not be passed unread any more`,
            ),
          );
    case 'unread': {
      progress.verdict = verdict.verdict;
      const { rule, internal } = verdict.verdict;
      const { inspect } = verdict;
      const pin = await pinOf(deps, asked, internal);
      // The CONNECT paid for the tunnel; its first bytes are only compared with it.
      return isConnect
        ? { kind: 'grant', rule, inspect, pin, release: undefined }
        : { kind: 'answer', draft: { kind: 'Allow', inspect, pin, hold: undefined } };
    }
  }
}

const pinOf = ({ resolver }: CheckerDeps, { agent, destination }: Asked, internal: boolean): Promise<Pin> =>
  resolver.pin(destination.host, destination.port, internal, agent.name);

/** The answer, with what was taken for it. */
type Decided = Readonly<{
  draft: Draft;
  payment: Payment | undefined;
  /** The quota that had no room. */
  short?: Debit | undefined;
}>;

function decide(
  deps: CheckerDeps,
  oversight: Oversight,
  asked: Asked,
  progress: Progress,
  gathered: Gathered,
): Decided {
  if (gathered.kind === 'answer') return { draft: gathered.draft, payment: undefined };
  const { rule, inspect, pin, release } = gathered;
  const debits = progress.policy.debits(factsOf(deps.clock, asked), rule);
  let payment: Payment | undefined;
  if (debits.length > 0) {
    const result = deps.quota.debit(debits);
    if (!result.ok) {
      progress.quotas = [result.state];
      return { draft: noRoom(result, deps.clock), payment: undefined, short: result.debit };
    }
    progress.quotas = result.states;
    payment = { debits, atMs: result.atMs, calls: 1 };
  }
  const allow: Draft = { kind: 'Allow', inspect, pin, hold: release?.hold };
  if (release === undefined) return { draft: allow, payment };
  let isReleased = false;
  try {
    isReleased = deps.holds.consume(release.hold);
  } finally {
    if (!isReleased && payment !== undefined) deps.quota.refund(payment.debits, payment.atMs);
  }
  if (isReleased) return { draft: allow, payment };
  return { draft: oversight.again(asked, release.verdict, progress), payment: undefined };
}

function noRoom({ debit, state, retryAfterMs }: Extract<DebitResult, { ok: false }>, clock: Clock): Draft {
  const { quota } = debit;
  if (debit.kind === 'rate') return { kind: 'RateLimited', quota, retry_after: retryAfterMs };
  return {
    kind: 'QuotaExceeded',
    quota,
    limit: state.limit,
    used: state.used,
    reset_at: Math.ceil(clock.wallMs() + state.resetMs),
    retryAfterMs,
  };
}

/** Why nothing matched, as closely as it can be told. */
function unmatched({ call, destination }: Asked): SallyportError {
  const { method, host, port, path } = destination;
  if (call.mcp.kind === 'invalid') return new SallyportError('McpInvalid', call.mcp.reason);
  if (call.body.kind === 'too-large')
    return new SallyportError('RequestTooLarge', `the body is larger than ${call.body.limitBytes} bytes`);
  return new SallyportError('EgressDenied', `no rule lets ${method} ${host}:${port}${path} pass`);
}

const refused = (failure: SallyportError): Gathered => ({ kind: 'answer', draft: denial(failure) });
