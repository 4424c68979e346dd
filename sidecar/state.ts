/** What a sidecar keeps: database, journal, quotas and holds, opened in one place and closed in reverse. */
import path from 'node:path';
import type { Logger } from 'pino';
import { limits } from '../config/limits.ts';
import { holdRecord } from '../ext-authz/record.ts';
import { finishErasing } from '../filters/audit/erase.ts';
import type { AuditLog } from '../filters/audit/log.ts';
import { openDatabase } from '../filters/common/database.ts';
import type { Ids } from '../filters/common/ids.ts';
import type { Journal } from '../filters/common/journal.ts';
import { type JournalFile, openJournal } from '../filters/common/journal-file.ts';
import type { JournalRecord } from '../filters/common/record.ts';
import type { Clock } from '../filters/common/time.ts';
import type { HoldStore } from '../filters/oversight/holds.ts';
import type { Mark } from '../filters/oversight/mask.ts';
import { openMark } from '../filters/oversight/mask-key.ts';
import { openHoldStore } from '../filters/oversight/sqlite.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';
import type { QuotaStore } from '../filters/quota/quota.ts';
import { openQuotaStore } from '../filters/quota/sqlite.ts';
import { createIncidents } from './incidents.ts';
import { countedJournal } from './instrument.ts';
import { type CommandLine, invocation } from './invocation.ts';
import { type Ledger, openLedger } from './ledger.ts';
import { type Lockdown, openLockdown } from './lockdown.ts';
import type { Metrics } from './metrics.ts';
import { observeHolds, writeRefusal } from './observe.ts';

export type State = Readonly<{
  journal: Journal;
  /** The journal as its follower sees it. */
  journalFile: JournalFile;
  /** From now on the journal waits for the log, which is closed after it. */
  follow(log: AuditLog): void;
  quota: QuotaStore;
  holds: HoldStore;
  mark: Mark;
  ledger: Ledger;
  lockdown: Lockdown;
  /** Why the newest record could not be written; empty where it was. */
  journalFailed(): string;
  close(): Promise<void>;
}>;

export function openState(
  stateDir: string,
  options: Readonly<{
    clock: Clock;
    ids: Ids;
    log: Logger;
    policy: { current(): CompiledPolicy };
    metrics: Metrics;
    /** Of `incidents.lockdown`. */
    locksOnIncident: boolean;
    commandLine: CommandLine;
    /** Told of each record that was written; must not throw. */
    onRecord?: ((record: JournalRecord) => void) | undefined;
  }>,
): State {
  const { clock, ids, log, policy, metrics } = options;
  const membersOf = (group: string): readonly string[] =>
    policy.current().source.approvers[group]?.members ?? [];
  const mark = openMark(stateDir);
  const holdsDb = openDatabase(path.join(stateDir, 'holds.db'));
  const quotasDb = openDatabase(path.join(stateDir, 'quotas.db'), { synchronous: 'NORMAL' });
  finishErasing(stateDir);
  const journalFile = openJournal(stateDir, {
    clock,
    onError: (thrown) => log.error({ err: thrown }, 'the journal could not be synced'),
  });
  let follower: AuditLog | undefined;
  const { journal, failed } = remembering(countedJournal(journalFile, options.metrics, options.onRecord));
  const quota = openQuotaStore(quotasDb, clock);
  const holds = openHoldStore(holdsDb, {
    ...{ clock, ids, membersOf },
    record: (changed) => journal.append(...changed.map((hold) => holdRecord(hold, clock.now()))),
  });
  observeHolds(holds, options);
  const lockdown = openLockdown({ stateDir, journal, ids, clock });
  const incidents = createIncidents({
    ...{ journal, ids, clock, log, metrics },
    onRefusal: writeRefusal(journal, log, metrics),
    onBypass: (incident) => {
      if (!options.locksOnIncident) return;
      try {
        lockdown.lock('sallyport', `incident ${incident.id}: ${incident.why}`);
      } catch (err) {
        log.error({ err, incident: incident.id }, 'the lockdown for an incident could not be kept');
      }
    },
  });
  // What was logged while no sidecar ran comes before the question what is unknown.
  const ledger = openLedger({ stateDir, journal, holds, incidents, clock, log, metrics });
  const recovered = holds.recover();
  if (recovered > 0)
    log.warn(
      { holds: recovered },
      `${recovered} approved requests may or may not have been sent when the last sidecar ended: ${invocation} holds list --state Unknown`,
    );
  const expire = (): void => {
    try {
      holds.expire();
    } catch (thrown) {
      // They stay Pending, and nothing passes by them.
      log.error({ err: thrown }, 'holds past their time could not be closed');
    }
  };
  const keepLockdown = (): void => {
    try {
      lockdown.keep();
    } catch (err) {
      log.error({ err }, 'the lockdown could not be kept');
    }
  };
  expire();
  const timers = [
    setInterval(expire, limits.holdExpireEveryMs).unref(),
    setInterval(keepLockdown, limits.lockdownKeepEveryMs).unref(),
  ];
  return {
    journal: ledger.watch(journal),
    journalFile,
    follow: (next) => {
      follower = next;
      journalFile.follow(next);
    },
    quota,
    holds,
    mark,
    ledger,
    lockdown,
    journalFailed: failed,
    close: async () => {
      for (const timer of timers) clearInterval(timer);
      // What one of them could not write keeps none of the others open.
      const closers = [
        ...[ledger.close, holds.close, quota.close, journal.close, async () => follower?.close()],
        ...[holdsDb.close, quotasDb.close],
      ];
      const failures: unknown[] = [];
      for (const close of closers) {
        try {
          await close();
        } catch (thrown) {
          failures.push(thrown);
        }
      }
      if (failures.length > 0) throw failures[0];
    },
  };
}

/** The journal, and whether its last write failed: `/health` has to say it before a caller meets it. */
function remembering(journal: Journal): { journal: Journal; failed: () => string } {
  let failure = '';
  return {
    failed: () => failure,
    journal: {
      append: (...records) => {
        try {
          journal.append(...records);
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
