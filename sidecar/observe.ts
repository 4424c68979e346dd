/** What is told of decisions and holds beside the journal: the log's line and the metrics. */
import type { Logger } from 'pino';
import { decisionRecord } from '../ext-authz/record.ts';
import type { OnRefusal } from '../ext-authz/refusal.ts';
import type { Journal } from '../filters/common/journal.ts';
import type { Decision } from '../filters/decision.ts';
import type { Call } from '../filters/facts.ts';
import type { HoldStore } from '../filters/oversight/holds.ts';
import { decisionFields } from './decision-line.ts';
import type { CommandLine } from './invocation.ts';
import { countDecision, countHold, type Metrics } from './metrics.ts';

export const observeDecision =
  (log: Logger, metrics: Metrics) =>
  (decision: Decision, call: Call, durationUs: number): void => {
    countDecision(metrics, decision, durationUs);
    if (log.isLevelEnabled('info'))
      log.info({ decision: decisionFields(decision, call, durationUs / 1_000) }, 'decision');
  };

/**
 * A denial that the checker never saw is a decision too: in the journal, in the log, and counted. Throws where it
 * cannot be written down, and has told nobody then.
 */
export const writeRefusal =
  (journal: Pick<Journal, 'append'>, log: Logger, metrics: Metrics): OnRefusal =>
  (deny, request) => {
    journal.append(decisionRecord(deny, request, 0));
    tellRefusal(log, metrics)(deny, request);
  };

/** The same where the caller is answered already: the refusal stands, written down or not. */
export const observeRefusal =
  (journal: Pick<Journal, 'append'>, log: Logger, metrics: Metrics): OnRefusal =>
  (deny, request) => {
    tellRefusal(log, metrics)(deny, request);
    try {
      journal.append(decisionRecord(deny, request, 0));
    } catch (err) {
      log.error({ err, decision: deny.id, code: deny.code }, 'a refusal could not be written down');
    }
  };

const tellRefusal =
  (log: Logger, metrics: Metrics): OnRefusal =>
  (deny, request) => {
    countDecision(metrics, deny, 0);
    if (log.isLevelEnabled('info')) log.info({ decision: decisionFields(deny, request) }, 'decision');
  };

/** What a transition is told to beside the journal, where it is within the store's own transaction. */
export function observeHolds(
  holds: Pick<HoldStore, 'onTransition'>,
  { log, metrics, commandLine }: Readonly<{ log: Logger; metrics: Metrics; commandLine: CommandLine }>,
): void {
  holds.onTransition((hold) => {
    countHold(metrics, hold);
    const { id, state: reached, rule, agent, approvers, decidedBy: by } = hold;
    const wait = `hold ${id} waits for ${approvers}: ${commandLine(`holds approve ${id}`)} --by NAME (or deny)`;
    log.info(
      { hold: id, state: reached, rule, agent, by },
      reached === 'Pending' ? wait : `hold ${id} is ${reached}`,
    );
  });
}
