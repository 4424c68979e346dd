/** What is told of decisions and holds beside the journal: the log's line and the metrics. */
import type { Logger } from 'pino';
import { decisionRecord, holdRecord } from '../ext-authz/record.ts';
import type { OnRefusal } from '../ext-authz/refusal.ts';
import type { Journal } from '../filters/common/journal.ts';
import type { Clock } from '../filters/common/time.ts';
import type { Decision } from '../filters/decision.ts';
import type { Call } from '../filters/facts.ts';
import { decisionFields } from './decision-line.ts';
import type { CommandLine } from './invocation.ts';
import { countDecision, countHold, type Metrics } from './metrics.ts';
import type { State } from './state.ts';

export const observeDecision =
  (log: Logger, metrics: Metrics) =>
  (decision: Decision, call: Call, durationUs: number): void => {
    countDecision(metrics, decision, durationUs);
    if (log.isLevelEnabled('info'))
      log.info({ decision: decisionFields(decision, call, durationUs / 1_000) }, 'decision');
  };

/** A denial that the checker never saw is a decision too: in the journal, in the log, and counted. */
export const observeRefusal =
  (journal: Journal, log: Logger, metrics: Metrics): OnRefusal =>
  (deny, request) => {
    countDecision(metrics, deny, 0);
    if (log.isLevelEnabled('info')) log.info({ decision: decisionFields(deny, request) }, 'decision');
    try {
      journal.append(decisionRecord(deny, request, 0));
    } catch (err) {
      log.error({ err, decision: deny.id, code: deny.code }, 'a refusal could not be written down');
    }
  };

/** Each transition of a hold is durable in its store before this; the journal is where it is read in order. */
export function observeHolds(
  state: State,
  clock: Clock,
  log: Logger,
  metrics: Metrics,
  commandLine: CommandLine,
): void {
  state.holds.onTransition((hold) => {
    countHold(metrics, hold);
    const { id, state: reached, rule, agent, approvers, decidedBy: by } = hold;
    const wait = `hold ${id} waits for ${approvers}: ${commandLine(`holds approve ${id}`)} --by NAME (or deny)`;
    log.info(
      { hold: id, state: reached, rule, agent, by },
      reached === 'Pending' ? wait : `hold ${id} is ${reached}`,
    );
    try {
      state.journal.append(holdRecord(hold, clock.now()));
    } catch (err) {
      log.error({ err, hold: hold.id }, 'a transition is kept in the hold store, but not in the journal');
    }
  });
}
