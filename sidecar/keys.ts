/** The keys of this sidecar: the ring as the settings say where its key-encryption key is, and what was plain before. */
import { existsSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import { SallyportError } from '../config/errors.ts';
import type { Settings } from '../config/settings.ts';
import { createAuthority, plainAuthority } from '../envoy/authority.ts';
import {
  type KeyDraft,
  type KeyName,
  type KeyRing,
  noteKeyDrafts,
  openKeyRing,
} from '../filters/audit/keys.ts';
import { kekSource } from '../filters/audit/keys-kek.ts';
import { type LogSigners, logSigners, noteSigners } from '../filters/audit/signers.ts';
import { syncDirectory } from '../filters/common/private-files.ts';
import type { Clock } from '../filters/common/time.ts';

const keysDirectory = (stateDir: string): string => path.join(stateDir, 'keys');
export const keysFile = (stateDir: string): string => path.join(keysDirectory(stateDir), 'keys.json');
/** Receipts of the records that name each later log key (`key-rotation.ts`). */
export const trailDirectory = (stateDir: string): string => path.join(keysDirectory(stateDir), 'trail');

/**
 * The authority of a release before keys were sealed: into the ring first, then its file goes. After a crash in
 * between the next start finds both, and the same certificate in both.
 */
async function sealPlainAuthority(stateDir: string, ring: KeyRing, clock: Clock, log: Logger): Promise<void> {
  const directory = path.join(stateDir, 'authority');
  const file = path.join(directory, 'authority.pem');
  if (!existsSync(file)) return;
  const draft = await plainAuthority(file, readFileSync(file, 'utf8'), clock);
  await ring.ensure('authority', () => [draft]);
  const isSealed = ring
    .list()
    .some(({ name, public: pem }) => name === 'authority' && pem.trim() === draft.public.trim());
  if (!isSealed)
    throw new SallyportError(
      'StateUnavailable',
      `${file} and ${ring.file} hold different authorities: remove the one that agents do not trust`,
    );
  rmSync(file);
  syncDirectory(directory);
  try {
    rmdirSync(directory);
  } catch (thrown) {
    // Whatever else somebody keeps there stays.
    log.debug({ err: thrown }, `${directory} stays`);
  }
  log.info(`the key of ${file} is sealed in ${ring.file} now; older backups still hold it as it was`);
}

export async function openKeys(
  settings: Settings['keys'],
  stateDir: string,
  clock: Clock,
  log: Logger,
): Promise<KeyRing> {
  const source = kekSource(settings, stateDir);
  if (source.weakness !== '') log.warn(`the key-encryption key (${source.where}): ${source.weakness}`);
  const ring = await openKeyRing(keysFile(stateDir), source, clock.wallMs);
  await sealPlainAuthority(stateDir, ring, clock, log);
  return ring;
}

/**
 * What signs the checkpoints of the log of this origin; its keys are made at the first call. A log that `isNew`
 * in a state directory where another one was gets keys of its own: one pair of keys never signs for two logs.
 */
export async function openLogSigners(
  ring: KeyRing,
  origin: string,
  clock: Clock,
  isNew: boolean,
): Promise<LogSigners> {
  await ring.ensure('log', () => noteKeyDrafts(origin));
  const other = ring.open('log').find(({ entry }) => entry.label !== origin);
  if (other !== undefined && !isNew)
    throw new SallyportError(
      'StateUnavailable',
      `the log keys in ${ring.file} are of ${other.entry.label}, and the audit log is ${origin}: put back the two that belong together`,
    );
  if (other !== undefined) await ring.rotate('log', () => noteKeyDrafts(origin), { now: true, by: '' });
  return logSigners(origin, () => noteSigners(ring, 'log'), clock.wallMs);
}

/** A new version of this key, under the name that the one before has. */
export function successorOf(
  ring: KeyRing,
  name: KeyName,
  clock: Clock,
): () => Promise<readonly KeyDraft[]> | readonly KeyDraft[] {
  if (name === 'authority') return () => createAuthority(clock);
  const label = ring.list().findLast((entry) => entry.name === name)?.label ?? '';
  return () => noteKeyDrafts(label);
}
