/**
 * The key ring: every key that this sidecar signs with, sealed at rest, its versions and their states. Private
 * parts live in this process as key objects only. Changes are read from disk, made, and written under a lock,
 * so a command line may change the same file.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { SallyportError } from '../../config/errors.ts';
import { changeKeys, type KeyEntry, readKeys } from './keys-file.ts';
import type { KekSource } from './keys-kek.ts';
import { type Kek, seal, unseal } from './seal.ts';

export type { KeyEntry } from './keys-file.ts';

/** How a new version takes the place of the old one; drawn in `keys-file.ts`. */
type Rotation = 'trusted-first' | 'side-by-side';

export const keyKinds = {
  authority: { purpose: 'signs the certificates of inspected names', rotation: 'trusted-first' },
  log: { purpose: 'signs the checkpoints of the audit log', rotation: 'side-by-side' },
  witness: { purpose: 'cosigns the checkpoints of other logs', rotation: 'side-by-side' },
} as const satisfies Record<string, Readonly<{ purpose: string; rotation: Rotation }>>;
export type KeyName = keyof typeof keyKinds;
export const isKeyRingName = (name: string): name is KeyName => Object.hasOwn(keyKinds, name);

/** A key that was just made. `pkcs8` is DER, and is zero once it is sealed. */
export type KeyDraft = Readonly<{
  algorithm: KeyEntry['algorithm'];
  label: string;
  public: string;
  pkcs8: Buffer;
}>;

type Maker = () => Promise<readonly KeyDraft[]> | readonly KeyDraft[];

export type OpenKey = Readonly<{ entry: KeyEntry; privateKey: KeyObject }>;

/** `log-ed25519-v1` */
export const keyId = ({ name, algorithm, version }: KeyEntry): string => `${name}-${algorithm}-v${version}`;

export type KeyRing = Readonly<{
  file: string;
  kek: KekSource;
  /** Every key on record, the oldest first. */
  list(): readonly KeyEntry[];
  /** The keys of this name that have a private part, the oldest first. */
  open(name: KeyName): readonly OpenKey[];
  /** Makes the first version where there is none. */
  ensure(name: KeyName, make: Maker): Promise<void>;
  /**
   * Makes a new version beside the one that holds. `now`: the old one ends at once and is trusted no longer.
   * Refused while another rotation of this name is under way, unless `now` ends that too.
   */
  rotate(name: KeyName, make: Maker, options: Readonly<{ now: boolean; by: string }>): Promise<void>;
  /** Ends the rotations whose overlap is over and which `mayEnd`. True where something changed. */
  settle(overlapMs: number, mayEnd?: (name: KeyName, version: number) => boolean): boolean;
  /** Notes which audit record names these keys. */
  markRecorded(name: KeyName, version: number, record: string): void;
}>;

/** Ed25519 and ML-DSA-44, as notes are signed. `label` is the name that they sign under. */
export function noteKeyDrafts(label: string): readonly KeyDraft[] {
  const draft = (
    algorithm: 'ed25519' | 'ml-dsa-44',
    pair: Readonly<{ publicKey: KeyObject; privateKey: KeyObject }>,
  ): KeyDraft => ({
    algorithm,
    label,
    public: pair.publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    pkcs8: pair.privateKey.export({ type: 'pkcs8', format: 'der' }),
  });
  return [
    draft('ed25519', generateKeyPairSync('ed25519')),
    draft('ml-dsa-44', generateKeyPairSync('ml-dsa-44')),
  ];
}

const wrongKek = (file: string, wanted: string, got: Kek, where: string): SallyportError =>
  new SallyportError(
    'StateUnavailable',
    `the keys in ${file} are sealed by the key-encryption key ${wanted}, and ${where} gives ${got.id}: put back the right one, or after a change of place run \`sallyport keys rewrap --from-file OLD\`. Nothing was changed`,
  );

/** The one key-encryption key that seals these; undefined where none is sealed. */
export const sealedBy = (keys: readonly KeyEntry[]): string | undefined =>
  keys.find(({ sealed }) => sealed !== undefined)?.sealed?.kek;

async function kekFor(file: string, keys: readonly KeyEntry[], source: KekSource): Promise<Kek> {
  const wanted = sealedBy(keys);
  const kek = await source.get(wanted);
  if (wanted !== undefined && kek.id !== wanted) throw wrongKek(file, wanted, kek, source.where);
  return kek;
}

function opened(kek: Kek, entry: KeyEntry): KeyObject {
  if (entry.sealed === undefined) throw new SallyportError('Internal', `${keyId(entry)} has no private part`);
  const pkcs8 = unseal(kek, entry, entry.sealed);
  try {
    return createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
  } catch (cause) {
    throw new SallyportError('StateUnavailable', `${keyId(entry)} is sealed, and is no private key`, {
      cause,
    });
  } finally {
    pkcs8.fill(0);
  }
}

/** Without its private part, for ever. */
const retire = ({ sealed: _, ...entry }: KeyEntry, nowMs: number, revoked: boolean): KeyEntry => ({
  ...entry,
  state: 'retired',
  since_ms: nowMs,
  revoked,
});

/** The entry as it is once the rotation of its name is over. */
function ended(entry: KeyEntry, all: readonly KeyEntry[], nowMs: number): KeyEntry {
  if (entry.state === 'next') return { ...entry, state: 'active', since_ms: nowMs };
  const isReplaced =
    entry.state === 'active' && all.some(({ name, state }) => name === entry.name && state === 'next');
  return isReplaced || entry.state === 'retiring' ? retire(entry, nowMs, false) : entry;
}

export async function openKeyRing(
  file: string,
  source: KekSource,
  wallMs: () => number = Date.now,
): Promise<KeyRing> {
  let keys = readKeys(file);
  const privateKeys = new Map<string, KeyObject>();
  if (sealedBy(keys) !== undefined) {
    const kek = await kekFor(file, keys, source);
    for (const entry of keys)
      if (entry.sealed !== undefined) privateKeys.set(keyId(entry), opened(kek, entry));
  }

  const take = (after: readonly KeyEntry[]): void => {
    keys = after;
    const known = new Set(after.filter(({ sealed }) => sealed !== undefined).map(keyId));
    for (const id of privateKeys.keys()) if (!known.has(id)) privateKeys.delete(id);
  };

  /** A new version of `name` by `place`, which sees what is on disk at that moment. */
  const add = async (
    name: KeyName,
    by: string,
    make: Maker,
    place: (
      before: readonly KeyEntry[],
      nowMs: number,
    ) => Readonly<{ kept: readonly KeyEntry[]; state: KeyEntry['state'] }>,
  ): Promise<void> => {
    const kek = await kekFor(file, readKeys(file), source);
    const drafts = await make();
    const made = new Map<string, KeyObject>();
    try {
      const after = changeKeys(file, (before) => {
        const wanted = sealedBy(before);
        if (wanted !== undefined && wanted !== kek.id) throw wrongKek(file, wanted, kek, source.where);
        const nowMs = wallMs();
        const { kept, state } = place(before, nowMs);
        const version =
          1 + Math.max(0, ...before.filter((key) => key.name === name).map((key) => key.version));
        const entries = drafts.map(({ algorithm, label, public: publicPem, pkcs8 }): KeyEntry => {
          const head = {
            ...{ name, version, purpose: keyKinds[name].purpose, algorithm, label },
            ...{ created_ms: nowMs, public: publicPem },
          };
          const entry = {
            ...head,
            ...{ state, since_ms: nowMs, revoked: false, by, record: '' },
            sealed: seal(kek, head, pkcs8),
          };
          // What is kept is what can be opened again: a seal that does not open must not reach the disk.
          made.set(keyId(entry), opened(kek, entry));
          return entry;
        });
        return [...kept, ...entries];
      });
      for (const [id, privateKey] of made) privateKeys.set(id, privateKey);
      take(after);
    } finally {
      for (const { pkcs8 } of drafts) pkcs8.fill(0);
    }
  };

  return {
    file,
    kek: source,
    list: () => keys,
    open: (name) =>
      keys.flatMap((entry) => {
        const privateKey = privateKeys.get(keyId(entry));
        return entry.name === name && privateKey !== undefined ? [{ entry, privateKey }] : [];
      }),
    ensure: async (name, make) => {
      if (keys.some((entry) => entry.name === name)) return;
      await add(name, '', make, (before) => {
        if (before.some((entry) => entry.name === name))
          throw new SallyportError(
            'StateUnavailable',
            `another process made the key ${name} just now; start again`,
          );
        return { kept: before, state: 'active' };
      });
    },
    rotate: (name, make, { now, by }) =>
      add(name, by, make, (before, nowMs) => {
        const own = before.filter((entry) => entry.name === name);
        if (!own.some(({ state }) => state === 'active'))
          throw new SallyportError(
            'NotFound',
            `there is no key ${name} yet: it is made when it is first used`,
          );
        if (now)
          return {
            kept: before.map((entry) =>
              entry.name === name && entry.state !== 'retired' ? retire(entry, nowMs, true) : entry,
            ),
            state: 'active',
          };
        const under = own.find(({ state }) => state === 'next' || state === 'retiring');
        if (under !== undefined)
          throw new SallyportError(
            'RequestMalformed',
            `a rotation of ${name} is under way since ${new Date(under.since_ms).toISOString()}; it ends by itself, or with --now`,
          );
        if (keyKinds[name].rotation === 'trusted-first') return { kept: before, state: 'next' };
        return {
          kept: before.map((entry) =>
            entry.name === name && entry.state === 'active'
              ? { ...entry, state: 'retiring', since_ms: nowMs }
              : entry,
          ),
          state: 'active',
        };
      }),
    settle: (overlapMs, mayEnd = () => true) => {
      const due = (entry: KeyEntry): boolean =>
        (entry.state === 'next' || entry.state === 'retiring') &&
        wallMs() - entry.since_ms >= overlapMs &&
        isKeyRingName(entry.name) &&
        mayEnd(entry.name, entry.version);
      if (!keys.some(due)) return false;
      take(
        changeKeys(file, (onDisk) => {
          const nowMs = wallMs();
          const ending = new Set(onDisk.filter(due).map(({ name }) => name));
          return onDisk.map((entry) => (ending.has(entry.name) ? ended(entry, onDisk, nowMs) : entry));
        }),
      );
      return true;
    },
    markRecorded: (name, version, record) =>
      take(
        changeKeys(file, (onDisk) =>
          onDisk.map((entry) =>
            entry.name === name && entry.version === version ? { ...entry, record } : entry,
          ),
        ),
      ),
  };
}
