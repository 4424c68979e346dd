/** What signs the log's checkpoints: the keys of the key ring (`keys.ts`), during a rotation the old ones beside the new. */
import { createPublicKey, type KeyObject, sign } from 'node:crypto';
import type { KeyEntry, KeyRing } from './keys.ts';
import { type NoteKey, noteKey, noteTypes, signatureLine, signedMessage, vkeyOf } from './note.ts';

export type LogSigners = Readonly<{
  /** Origin of the log, and name of its keys. */
  name: string;
  /** The signature lines, each with its line feed, for the text of a checkpoint (which ends in a line feed). */
  sign(body: string): string;
  /** Verifier keys of every key that signs now, the oldest first. */
  vkeys(): readonly string[];
}>;

/** A key that signs notes. */
export type NoteSigner = Readonly<{ key: NoteKey; privateKey: KeyObject }>;

export function signNote({ key, privateKey }: NoteSigner, body: string, timestampS: number): string {
  const signature = sign(null, signedMessage(key, body, timestampS), privateKey);
  if (key.type === noteTypes.ed25519) return signatureLine(key.name, key.id, signature);
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(BigInt(timestampS));
  return signatureLine(key.name, key.id, Buffer.concat([time, signature]));
}

/** `current` is asked at each signature: a rotation holds from the next one on. */
export const logSigners = (
  name: string,
  current: () => readonly NoteSigner[],
  wallMs: () => number,
): LogSigners => ({
  name,
  sign: (body) => {
    const timestampS = Math.floor(wallMs() / 1_000);
    return current()
      .map((signer) => signNote(signer, body, timestampS))
      .join('');
  },
  vkeys: () => current().map(({ key }) => vkeyOf(key)),
});

/** By entry, which never changes: reading a public key costs as much as a signature. */
const noteKeys = new WeakMap<KeyEntry, NoteKey>();

/** A log signs its checkpoints plainly in Ed25519; a witness states the time (tlog-checkpoint, tlog-cosignature). */
export function noteKeyOf(entry: KeyEntry): NoteKey {
  const known = noteKeys.get(entry);
  if (known !== undefined) return known;
  const { name, algorithm, label, public: publicPem } = entry;
  const plain = name === 'log' ? noteTypes.ed25519 : noteTypes.cosignatureEd25519;
  const type = algorithm === 'ml-dsa-44' ? noteTypes.cosignatureMlDsa44 : plain;
  const key = noteKey(label, type, createPublicKey(publicPem));
  noteKeys.set(entry, key);
  return key;
}

/** The keys of the ring that sign now, the oldest first. */
export const noteSigners = (ring: KeyRing, name: 'log' | 'witness'): readonly NoteSigner[] =>
  ring.open(name).map(({ entry, privateKey }) => ({ key: noteKeyOf(entry), privateKey }));
