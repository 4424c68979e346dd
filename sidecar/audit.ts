/**
 * The audit log in a running sidecar: its keys, its witnesses, what retention lets go, and what is asked of it.
 * It is opened after the journal that it follows, and closed after it.
 */
import { existsSync, rmSync } from 'node:fs';
import type { Logger } from 'pino';
import { limits } from '../config/limits.ts';
import type { Settings } from '../config/settings.ts';
import { createRecorder, type Recorder } from '../filters/audit/audit-record.ts';
import { type Erased, eraseContent } from '../filters/audit/erase.ts';
import { auditDirectory, openIdentity } from '../filters/audit/identity.ts';
import type { KeyRing } from '../filters/audit/keys.ts';
import { type AuditLog, openAuditLog, readCheckpoint } from '../filters/audit/log.ts';
import { prune } from '../filters/audit/retention.ts';
import { type ContentRoom, createContentRoom, type Fullness } from '../filters/audit/room.ts';
import type { Ids } from '../filters/common/ids.ts';
import type { Clock } from '../filters/common/time.ts';
import type { Ending } from './ending.ts';
import type { Probe } from './health.ts';
import { openLogSigners } from './keys.ts';
import type { Metrics } from './metrics.ts';
import { receiptOf } from './receipts.ts';
import { restoredFile } from './restored.ts';
import type { State } from './state.ts';

export type Audit = Readonly<{
  log: AuditLog;
  /** A proof of this record under the newest checkpoint; undefined while that does not cover it. */
  receiptOf(record: string): Promise<string | undefined>;
  /** `which`: the id that records have, or the index of one leaf. */
  erase(which: string | number, by: string, why: string): Promise<Erased>;
  probes(): readonly Probe[];
}>;

/** What is put on record of a policy that takes the place of another. */
export type AppliedPolicy = Readonly<{ version: string; source: Readonly<{ rules: readonly unknown[] }> }>;

export type AuditOptions = Readonly<{
  settings: Settings['audit'];
  stateDir: string;
  keys: KeyRing;
  state: Pick<State, 'journal' | 'journalFile' | 'follow'>;
  policy: Readonly<{
    current(): Readonly<{ version: string }>;
    onApplied(listener: (policy: AppliedPolicy) => void): void;
  }>;
  clock: Clock;
  ids: Ids;
  log: Logger;
  metrics: Pick<Metrics, 'add' | 'set'>;
  ending: Ending;
}>;

const hourMs = 60 * 60 * 1000;
const dayMs = 24 * hourMs;

export async function openAudit(options: AuditOptions): Promise<Audit> {
  const { settings, stateDir, keys, state, clock, ids, log: logger, metrics, policy, ending } = options;
  const directory = auditDirectory(stateDir);
  const identity = openIdentity(stateDir, settings.origin);
  const isNew = readCheckpoint(directory) === undefined;
  const signers = await openLogSigners(keys, identity.origin, clock, isNew);
  const log = openAuditLog(stateDir, {
    ...{ identity, clock, signers, journal: state.journalFile },
    onError: (err) => logger.error({ err }, 'the audit log'),
  });
  const room = createContentRoom({
    bytesMax: settings.content_bytes_max,
    windowMs: settings.content_hours_min * hourMs,
    monotonicMs: clock.monotonicMs,
  });
  const begun = followed(log, room, state.journalFile.place().file);
  state.follow(begun.follower);
  log.onPublished(({ size }) => {
    metrics.add('auditCheckpoints');
    metrics.set('auditLeaves', size);
  });
  const record = createRecorder({
    ...{ ids, clock, policyVersion: () => policy.current().version },
    append: (one) => state.journal.append(one),
  });
  tellOfRestore(stateDir, record);
  policy.onApplied((now) => {
    try {
      record({
        action: 'policy_changed',
        resource: `policy:${now.version}`,
        why: '',
        details: { rules: now.source.rules.length },
      });
    } catch (err) {
      // Every decision names the policy version that made it, this one among them.
      logger.error({ err, policy: now.version }, 'a change of the policy could not be written down');
    }
  });
  startPruning({ ...options, auditLog: log, record, room, onBegun: begun.onBegun });
  const witnesses =
    settings.witnesses.length === 0
      ? undefined
      : (await import('./witness.ts')).startWitnesses({
          ...{ settings, log, directory, clock, logger, metrics },
        });
  if (witnesses !== undefined) ending.add('witnesses', witnesses.stop);

  const probes: readonly Probe[] = [
    {
      name: 'audit log',
      ask: () => {
        const { size, behind, failure } = log.health();
        if (failure !== undefined) return { status: 'Unhealthy', detail: failure };
        if (room.fullness() !== 'free')
          return {
            status: 'Degraded',
            detail: `more than audit.content_bytes_max, ${settings.content_bytes_max} bytes, within audit.content_hours_min, ${settings.content_hours_min} hours: agents that wrote much of it are refused`,
          };
        return { status: 'Healthy', detail: `${size} leaves, ${behind} records to come` };
      },
    },
    ...(witnesses === undefined ? [] : [{ name: 'witnesses', ask: witnesses.health }]),
  ];
  return {
    log,
    receiptOf: (id) => receiptOf(stateDir, log, id),
    erase: (which, by, why) =>
      eraseContent({ stateDir, journal: state.journalFile, log, record }, which, by, why),
    probes: () => probes,
  };
}

function tellOfRestore(stateDir: string, record: Recorder): void {
  const file = restoredFile(stateDir);
  if (!existsSync(file)) return;
  record({
    action: 'log_restored',
    resource: 'backup',
    why: 'what was written after the backup is not in this log',
    details: {},
  });
  rmSync(file);
}

/** The log as the journal's follower, with the room that there is, and who is to be told of each new file. */
function followed(
  log: AuditLog,
  room: ContentRoom,
  current: string,
): Readonly<{ follower: AuditLog; onBegun(listener: () => void): void }> {
  let newest = current;
  let listener = (): void => undefined;
  return {
    follower: {
      ...log,
      refusal: (records) => log.refusal(records) ?? room.refusal(records),
      appended: (written) => {
        log.appended(written);
        room.wrote(written);
        const file = written.at(-1)?.file ?? newest;
        if (file === newest) return;
        newest = file;
        listener();
      },
    },
    onBegun: (next) => {
      listener = next;
    },
  };
}

function startPruning(
  options: AuditOptions &
    Readonly<{
      auditLog: AuditLog;
      record: Recorder;
      room: ContentRoom;
      onBegun(listener: () => void): void;
    }>,
): void {
  const { settings, stateDir, auditLog, record, room, clock, log: logger, ending } = options;
  const policy = {
    contentMs: settings.retention_days * dayMs,
    contentMsMin: settings.content_hours_min * hourMs,
    contentBytesMax: settings.content_bytes_max,
    tilesMs: settings.tiles_days === null ? undefined : settings.tiles_days * dayMs,
  };
  const tellOfRoom = (fullness: Fullness): void => {
    if (fullness === 'free') logger.info('there is room again for the content of records');
    else
      logger.error(
        `there is more than audit.content_bytes_max, ${settings.content_bytes_max} bytes, and nothing older than audit.content_hours_min, ${settings.content_hours_min} hours: ${fullness === 'over' ? 'every agent is' : 'agents that wrote much of it are'} refused`,
      );
  };
  let running: Promise<void> | undefined;
  const look = (): void => {
    running ??= prune({ stateDir, log: auditLog, record, clock }, policy)
      .then(({ files, fullness }) => {
        if (fullness !== room.fullness()) tellOfRoom(fullness);
        room.found(fullness);
        if (files.length > 0) logger.info({ files }, 'content was let go, as the settings say');
      })
      .catch((err: unknown) =>
        logger.error({ err }, 'retention could not let go what is due; it tries again'),
      )
      .finally(() => {
        running = undefined;
      });
  };
  const timer = setInterval(look, limits.auditPruneEveryMs).unref();
  look();
  // Ten minutes are enough to write more than may be kept.
  options.onBegun(look);
  ending.add('retention', async () => {
    clearInterval(timer);
    await running;
  });
}
