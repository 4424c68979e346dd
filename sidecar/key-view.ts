/** Keys as they are shown: by `sallyport keys list` and the admin API. No private part, sealed or not. */
import { X509Certificate } from 'node:crypto';
import { type KeyEntry, keyId } from '../filters/audit/keys.ts';
import type { KekSource } from '../filters/audit/keys-kek.ts';
import { vkeyOf } from '../filters/audit/note.ts';
import { noteKeyOf } from '../filters/audit/signers.ts';

export type KeyView = Readonly<{
  id: string;
  name: string;
  version: number;
  algorithm: string;
  purpose: string;
  state: KeyEntry['state'];
  created: string;
  since: string;
  /** Ended at once: nothing trusts it any more. */
  revoked: boolean;
  /** Who asked for this version; empty for the first. */
  by: string;
  /** Id of the key-encryption key; null where the private part is gone. */
  sealed_by: string | null;
  /** How others know it: a verifier key of signed notes, or the SHA-256 of a certificate. */
  public: string;
  /** Id of the audit record that names it; empty for the first version, and until it is written. */
  record: string;
}>;

export type KeysView = Readonly<{
  file: string;
  kek: Readonly<{ where: string; weakness: string }>;
  keys: readonly KeyView[];
}>;

export const publicOf = (entry: KeyEntry): string =>
  entry.algorithm === 'ecdsa-p256'
    ? `sha256:${new X509Certificate(entry.public).fingerprint256.replaceAll(':', '').toLowerCase()}`
    : vkeyOf(noteKeyOf(entry));

const viewOf = (entry: KeyEntry): KeyView => ({
  id: keyId(entry),
  name: entry.name,
  version: entry.version,
  algorithm: entry.algorithm,
  purpose: entry.purpose,
  state: entry.state,
  created: new Date(entry.created_ms).toISOString(),
  since: new Date(entry.since_ms).toISOString(),
  revoked: entry.revoked,
  by: entry.by,
  sealed_by: entry.sealed?.kek ?? null,
  public: publicOf(entry),
  record: entry.record,
});

export const viewKeys = (
  file: string,
  { where, weakness }: Pick<KekSource, 'where' | 'weakness'>,
  keys: readonly KeyEntry[],
): KeysView => ({ file, kek: { where, weakness }, keys: keys.map(viewOf) });
