/**
 * A private key sealed at rest: AES-256-GCM (NIST SP 800-38D, 96 random bits of nonce) under the key-encryption
 * key. What the key is called, its version, purpose, algorithm, time and public part are bound as additional
 * data, so that no sealed key can be put in the place of another, nor shown under another certificate.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import { SallyportError } from '../../config/errors.ts';

export const kekBytes = 32;
const nonceBytes = 12;
const tagBytes = 16;

/** A key-encryption key. `id` names it without telling anything of its 256 random bits. */
export type Kek = Readonly<{ id: string; key: KeyObject }>;

/** What a sealed key is bound to. */
export type SealedHead = Readonly<{
  name: string;
  version: number;
  purpose: string;
  algorithm: string;
  created_ms: number;
  /** Name in signed notes; empty for a certificate. */
  label: string;
  /** Public key or certificate, in PEM. */
  public: string;
}>;

/** base64 of nonce, ciphertext and tag; `kek` is the id of what opens it. */
export type Sealed = Readonly<{ kek: string; nonce: string; box: string }>;

/** Takes the bytes: they are zero afterwards. */
export function kekOf(bytes: Buffer): Kek {
  const id = createHash('sha256').update('sallyport kek id\n').update(bytes).digest('hex').slice(0, 16);
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return { id, key };
}

/** A JSON list: no two heads have the same text. */
const boundTo = (head: SealedHead): Buffer =>
  Buffer.from(
    JSON.stringify([
      'sallyport sealed key v1',
      head.name,
      head.version,
      head.purpose,
      head.algorithm,
      head.label,
      head.created_ms,
      head.public,
    ]),
    'utf8',
  );

export function seal(kek: Kek, head: SealedHead, plain: Uint8Array): Sealed {
  const nonce = randomBytes(nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', kek.key, nonce, { authTagLength: tagBytes });
  cipher.setAAD(boundTo(head));
  const box = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  return { kek: kek.id, nonce: nonce.toString('base64'), box: box.toString('base64') };
}

/** Whoever is given the bytes overwrites them. */
export function unseal(kek: Kek, head: SealedHead, sealed: Sealed): Buffer {
  const which = `key ${head.name} version ${head.version} (${head.algorithm})`;
  if (sealed.kek !== kek.id)
    throw new SallyportError(
      'StateUnavailable',
      `${which} is sealed by the key-encryption key ${sealed.kek}, and the one at hand is ${kek.id}`,
    );
  const nonce = Buffer.from(sealed.nonce, 'base64');
  const box = Buffer.from(sealed.box, 'base64');
  try {
    const decipher = createDecipheriv('aes-256-gcm', kek.key, nonce, { authTagLength: tagBytes });
    decipher.setAAD(boundTo(head));
    decipher.setAuthTag(box.subarray(-tagBytes));
    return Buffer.concat([decipher.update(box.subarray(0, -tagBytes)), decipher.final()]);
  } catch (cause) {
    throw new SallyportError(
      'StateUnavailable',
      `${which} cannot be opened: what is stored of it was changed, or is of another key`,
      { cause },
    );
  }
}
