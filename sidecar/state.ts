/** What a sidecar keeps: database, journal, quotas and holds, opened in one place and closed in reverse. */
import path from 'node:path';
import type { Logger } from 'pino';
import { toSallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import { followHoldOutcomes } from '../envoy/hold-outcomes.ts';
import { openDatabase } from '../filters/common/database.ts';
import type { Ids } from '../filters/common/ids.ts';
import type { Journal } from '../filters/common/journal.ts';
import { openJournal } from '../filters/common/journal-file.ts';
import type { Clock } from '../filters/common/time.ts';
import type { HoldStore } from '../filters/oversight/holds.ts';
import { openHoldStore } from '../filters/oversight/sqlite.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';
import type { QuotaStore } from '../filters/quota/quota.ts';
import { openQuotaStore } from '../filters/quota/sqlite.ts';
import { countedJournal } from './instrument.ts';
import type { Metrics } from './metrics.ts';

export type State = Readonly<{
  journal: Journal;
  quota: QuotaStore;
  holds: HoldStore;
  /** Why the newest record could not be written; empty where it was. */
  journalFailed(): string;
  close(): void;
}>;

export function openState(
  stateDir: string,
  options: Readonly<{
    clock: Clock;
    ids: Ids;
    log: Logger;
    policy: { current(): CompiledPolicy };
    metrics: Metrics;
  }>,
): State {
  const { clock, ids, log, policy } = options;
  const membersOf = (group: string): readonly string[] =>
    policy.current().source.approvers[group]?.members ?? [];
  const holdsDb = openDatabase(path.join(stateDir, 'holds.db'));
  const quotasDb = openDatabase(path.join(stateDir, 'quotas.db'), { synchronous: 'NORMAL' });
  const { journal, failed } = remembering(
    countedJournal(
      openJournal(stateDir, {
        clock,
        onError: (thrown) => log.error({ err: thrown }, 'the journal could not be synced'),
      }),
      options.metrics,
    ),
  );
  const quota = openQuotaStore(quotasDb, clock);
  const holds = openHoldStore(holdsDb, { clock, ids, membersOf });
  const outcomes = followHoldOutcomes(stateDir, holds);
  // What Envoy logged while no sidecar ran comes before the question what is unknown.
  while (outcomes()) log.info('reading the access log of the time without a sidecar');
  const recovered = holds.recover();
  if (recovered > 0)
    log.warn(
      { holds: recovered },
      `${recovered} approved requests may or may not have been sent when the last sidecar ended: sallyport holds list --state Unknown`,
    );
  const expire = (): void => {
    try {
      holds.expire();
    } catch (thrown) {
      // They stay Pending, and nothing passes by them.
      log.error({ err: thrown }, 'holds past their time could not be closed');
    }
  };
  expire();
  const timer = setInterval(expire, limits.holdExpireEveryMs).unref();
  let unread = '';
  const follow = setInterval(() => {
    try {
      outcomes();
      unread = '';
    } catch (thrown) {
      // Holds stay Released, and are Unknown at the next start. Said once, not four times a second.
      const { message } = toSallyportError(thrown);
      if (message !== unread) log.error({ err: thrown }, 'the access log could not be read');
      unread = message;
    }
  }, limits.logTailEveryMs).unref();
  return {
    journal,
    quota,
    holds,
    journalFailed: failed,
    close: () => {
      clearInterval(timer);
      clearInterval(follow);
      holds.close();
      quota.close();
      journal.close();
      holdsDb.close();
      quotasDb.close();
    },
  };
}

/** The journal, and whether its last write failed: `/health` has to say it before a caller meets it. */
function remembering(journal: Journal): { journal: Journal; failed: () => string } {
  let failure = '';
  return {
    failed: () => failure,
    journal: {
      append: (record) => {
        try {
          journal.append(record);
          failure = '';
        } catch (thrown) {
          failure = thrown instanceof Error ? thrown.message : String(thrown);
          throw thrown;
        }
      },
      tail: (limit) => journal.tail(limit),
      find: (id) => journal.find(id),
      close: () => journal.close(),
    },
  };
}
