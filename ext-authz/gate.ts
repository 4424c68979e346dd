/**
 * What stands between a server and the checker, whatever the protocol: time, the caller's leaving, and that
 * everything which goes wrong is a denial. How many checks there may be at once is the checker's business.
 */
import type { Logger } from 'pino';
import { SallyportError, toSallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import { createIds } from '../filters/common/ids.ts';
import { type Clock, createClock } from '../filters/common/time.ts';
import type { Decision, Deny } from '../filters/decision.ts';
import type { Call } from '../filters/facts.ts';
import type { Checker } from './checker.ts';
import { type OnRefusal, refusal, unreadRequest } from './refusal.ts';
import type { Decoded } from './wire-request.ts';

export type GateOptions = Readonly<{
  checker: Checker;
  log: Logger;
  clock?: Clock;
  onRefusal: OnRefusal;
  checkTimeoutMs?: number;
}>;

export type Answer = Readonly<{
  /** Undefined where the request could not be read. */
  decoded: Decoded | undefined;
  decision: Decision;
}>;

export type Gate = Readonly<{
  /** Never rejects. `caller` is aborted by the server when the caller goes, and by the gate when time is up. */
  answer(read: () => Decoded, caller: AbortController): Promise<Answer>;
  /** A denial made here, for what fails outside of `answer`. */
  refuse(thrown: unknown, call?: Call): Deny;
  /** The answer provably did not reach the caller, so nothing was sent upstream. */
  undelivered(decision: Decision): void;
  /** Ends every check that still runs; new ones are refused. */
  close(): void;
}>;

export function createGate(options: GateOptions): Gate {
  const { checker, log } = options;
  const clock = options.clock ?? createClock();
  const ids = createIds(clock);
  const timeoutMs = options.checkTimeoutMs ?? limits.checkTimeoutMs;
  const running = new Set<AbortController>();
  let closed = false;

  const refuse = (thrown: unknown, call?: Call): Deny => {
    const error = toSallyportError(thrown);
    const deny = refusal(error, clock, ids.decision());
    // Every other refusal is told by `onRefusal`.
    if (error.code === 'Internal')
      log.error(
        { decision: deny.id, code: error.code, detail: error.message, err: error.cause },
        'a check failed',
      );
    options.onRefusal(deny, call ?? unreadRequest('envoy'));
    return deny;
  };

  const undelivered = (decision: Decision): void => {
    if (decision.kind !== 'Allow') return;
    try {
      checker.settle(decision, 'NotSent');
    } catch (thrown) {
      // What was taken for the call stays taken: dearer for the agent, never for the limit.
      log.error({ decision: decision.id, err: thrown }, 'a call that was not sent could not be settled');
    }
  };

  /** The checker's decision, or a refusal once time is up; a decision that comes later is undone. */
  const decide = (decoded: Decoded, caller: AbortController): Promise<Decision> =>
    new Promise((resolve) => {
      let late = false;
      const timer = setTimeout(() => {
        late = true;
        caller.abort();
        resolve(
          refuse(
            new SallyportError('ServiceUnavailable', `no decision was reached within ${timeoutMs} ms`),
            decoded.call,
          ),
        );
      }, timeoutMs);
      const finish = (decision: Decision): void => {
        clearTimeout(timer);
        if (late) undelivered(decision);
        else resolve(decision);
      };
      checker
        .check(decoded.call, caller.signal)
        .then(finish, (thrown: unknown) => finish(refuse(thrown, decoded.call)));
    });

  const answer = async (read: () => Decoded, caller: AbortController): Promise<Answer> => {
    let decoded: Decoded | undefined;
    try {
      if (closed) throw new SallyportError('ServiceUnavailable', 'the sidecar is stopping');
      decoded = read();
      running.add(caller);
      return { decoded, decision: await decide(decoded, caller) };
    } catch (thrown) {
      return { decoded, decision: refuse(thrown, decoded?.call) };
    } finally {
      running.delete(caller);
    }
  };

  return {
    answer,
    refuse,
    undelivered,
    close: () => {
      closed = true;
      for (const caller of running) caller.abort();
    },
  };
}
