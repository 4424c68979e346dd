/**
 * Rotation of keys in a running sidecar: the ring changes first, then whoever uses the key, then an audit record
 * names the new one. What a crash leaves undone is done by the next look.
 *
 * A log key's word on its successor is a receipt: the record that names the successor, proven by a checkpoint
 * that the old key signed beside the new one. A co-signed checkpoint alone would prove nothing, since anybody
 * can put a signature under a note. The old key is not destroyed before that receipt is on disk.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import { limits } from '../config/limits.ts';
import type { LiveAuthority } from '../envoy/authority.ts';
import { isKeyRingName, type KeyEntry, type KeyName, type KeyRing } from '../filters/audit/keys.ts';
import { replaceFile } from '../filters/audit/keys-file.ts';
import type { Ids } from '../filters/common/ids.ts';
import type { Journal } from '../filters/common/journal.ts';
import { ensurePrivateDirectory } from '../filters/common/private-files.ts';
import { type Clock, toWireTimestamp } from '../filters/common/time.ts';
import { type KeysView, publicOf, viewKeys } from './key-view.ts';
import { successorOf, trailDirectory } from './keys.ts';

export type KeyRotation = Readonly<{
  view(): KeysView;
  rotate(name: KeyName, options: Readonly<{ now: boolean; by: string }>): Promise<KeysView>;
  /** Writes the records that are missing, and ends what has overlapped long enough. A timer calls it. */
  look(): Promise<void>;
  /** The same, where nobody waits for it: what fails is logged, and tried again. */
  lookQuietly(): void;
  stop(): void;
}>;

export type RotationDeps = Readonly<{
  ring: KeyRing;
  overlapMs: number;
  stateDir: string;
  clock: Clock;
  ids: Ids;
  log: Logger;
  journal: Pick<Journal, 'append'>;
  policyVersion(): string;
  authority: Pick<LiveAuthority, 'caPem' | 'refresh'>;
  /** Gives agents the authorities that they trust from now on. */
  publishTrust(caPem: string): void;
  /** A proof of this record under a published checkpoint; undefined while none covers it. */
  receiptOf(record: string): Promise<string | undefined>;
}>;

type Version = Readonly<{ name: KeyName; version: number; entries: readonly KeyEntry[] }>;

function versionsOf(keys: readonly KeyEntry[]): readonly Version[] {
  const versions = new Map<string, Version>();
  for (const entry of keys) {
    const { name, version } = entry;
    if (!isKeyRingName(name)) continue;
    const id = `${name} ${version}`;
    versions.set(id, { name, version, entries: [...(versions.get(id)?.entries ?? []), entry] });
  }
  return [...versions.values()];
}

const trailFile = (stateDir: string, name: KeyName, version: number): string =>
  path.join(trailDirectory(stateDir), `${name}-v${version}.tlog-proof`);

export function createKeyRotation(deps: RotationDeps): KeyRotation {
  const { ring, overlapMs, stateDir, clock, ids, log, journal, authority } = deps;
  let trusted = authority.caPem;

  /** Parts that hold a key go by the ring as it is now. */
  const follow = async (): Promise<void> => {
    await authority.refresh();
    const now = authority.caPem;
    if (now !== trusted) deps.publishTrust(now);
    trusted = now;
  };

  const record = ({ name, version, entries }: Version): void => {
    const id = ids.of('aud');
    const before = ring.list().filter((entry) => entry.name === name && entry.version === version - 1);
    journal.append({
      ...{ type: 'audit', action: 'key_rotated', id, at: toWireTimestamp(clock.now()) },
      ...{ agent: '', delegation_chain: [], policy_version: deps.policyVersion() },
      by: entries[0]?.by ?? '',
      what: `rotate ${name}`,
      resource: `key:${name}`,
      why: before.some(({ revoked }) => revoked) ? 'the key before is revoked' : 'the key before ends later',
      outcome: 'Success',
      details: {
        version,
        ...Object.fromEntries(
          entries.map((entry) => [entry.algorithm.replaceAll('-', '_'), publicOf(entry)]),
        ),
      },
    });
    ring.markRecorded(name, version, id);
  };

  const once = async (): Promise<void> => {
    // The first version is what everybody is told to trust: no record can vouch for it.
    for (const version of versionsOf(ring.list()))
      if (version.version > 1 && version.entries.some((entry) => entry.record === '')) record(version);
    for (const { name, version, entries } of versionsOf(ring.list())) {
      const file = trailFile(stateDir, name, version);
      if (name !== 'log' || version === 1 || existsSync(file)) continue;
      const receipt = await deps.receiptOf(entries[0]?.record ?? '');
      if (receipt === undefined) continue;
      ensurePrivateDirectory(trailDirectory(stateDir));
      replaceFile(file, receipt);
    }
    const mayEnd = (name: KeyName, version: number): boolean =>
      name !== 'log' || existsSync(trailFile(stateDir, name, version + 1));
    if (ring.settle(overlapMs, mayEnd)) log.info('the rotation of a key is over: sallyport keys list');
    await follow();
  };

  let turn: Promise<unknown> = Promise.resolve();
  /** One change at a time. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const mine = turn.then(work);
    turn = mine.catch(() => undefined);
    return mine;
  };
  const look = (): Promise<void> => inTurn(once);
  const report = (err: unknown): void =>
    log.error({ err }, 'the rotation of a key could not go on; it is tried again');
  const lookQuietly = (): void => void look().catch(report);
  const timer = setInterval(lookQuietly, limits.keysLookMs).unref();

  const view = (): KeysView => viewKeys(ring.file, ring.kek, ring.list());
  return {
    view,
    rotate: (name, options) =>
      inTurn(async () => {
        await ring.rotate(name, successorOf(ring, name, clock), options);
        log.info(
          { key: name, by: options.by },
          `a new key ${name}${options.now ? '; the one before is revoked' : ''}`,
        );
        await follow();
        // The key is a new one already; a record that cannot be written now is written by a later look.
        await once().catch(report);
        return view();
      }),
    look,
    lookQuietly,
    stop: () => clearInterval(timer),
  };
}
