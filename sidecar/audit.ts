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

const dayMs = 24 * 60 * 60 * 1000;

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
  state.follow(log);
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
  startPruning({ ...options, auditLog: log, record });
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

function startPruning(options: AuditOptions & Readonly<{ auditLog: AuditLog; record: Recorder }>): void {
  const { settings, stateDir, auditLog, record, clock, log: logger, ending } = options;
  const policy = {
    contentMs: settings.retention_days * dayMs,
    contentBytesMax: settings.content_bytes_max,
    tilesMs: settings.tiles_days === null ? undefined : settings.tiles_days * dayMs,
  };
  let running: Promise<void> | undefined;
  const look = (): void => {
    running ??= prune({ stateDir, log: auditLog, record, clock }, policy)
      .then(({ files }) => {
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
  ending.add('retention', async () => {
    clearInterval(timer);
    await running;
  });
}
