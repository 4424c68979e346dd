/** Seals every key anew under another key-encryption key. The keys themselves stay what they are. */
import { renameSync } from 'node:fs';
import path from 'node:path';
import { SallyportError } from '../../config/errors.ts';
import { syncDirectory } from '../common/private-files.ts';
import { keyId, sealedBy } from './keys.ts';
import { changeKeys, readKeys } from './keys-file.ts';
import { type KekSource, nextKekFile, writeNewKek } from './keys-kek.ts';
import { type Kek, seal, unseal } from './seal.ts';

export type Rewrapped = Readonly<{ from: string; to: string; keys: readonly string[] }>;

/** One rename, from all under the one to all under the other. Each new seal is opened before it is kept. */
function reseal(file: string, from: Kek, to: Kek): readonly string[] {
  const done: string[] = [];
  changeKeys(file, (keys) =>
    keys.map((entry) => {
      if (entry.sealed === undefined) return entry;
      const plain = unseal(from, entry, entry.sealed);
      try {
        const sealed = seal(to, entry, plain);
        unseal(to, entry, sealed).fill(0);
        done.push(keyId(entry));
        return { ...entry, sealed };
      } finally {
        plain.fill(0);
      }
    }),
  );
  return done;
}

async function present(file: string, source: KekSource): Promise<Kek> {
  const wanted = sealedBy(readKeys(file));
  if (wanted === undefined)
    throw new SallyportError('NotFound', `${file} holds no sealed key: there is nothing to seal anew`);
  const kek = await source.get(wanted);
  if (kek.id !== wanted)
    throw new SallyportError(
      'StateUnavailable',
      `the keys in ${file} are sealed by the key-encryption key ${wanted}, and ${source.where} gives ${kek.id}: name the old one with --from-file or --from-command. Nothing was changed`,
    );
  return kek;
}

/** From a place that the settings named before to the one that they name now. */
export async function moveKek(file: string, from: KekSource, to: KekSource): Promise<Rewrapped> {
  const old = await present(file, from);
  const next = await to.get(undefined);
  return { from: old.id, to: next.id, keys: reseal(file, old, next) };
}

/**
 * A new key-encryption key in the place of the old one. It waits beside its place until all is sealed by it;
 * a crash in between is mended by whoever reads the file next.
 */
export async function renewKek(file: string, source: KekSource): Promise<Rewrapped> {
  if (source.file === undefined)
    throw new SallyportError(
      'SettingsInvalid',
      `${source.where} gives the key-encryption key: make it give a new one, and name the old one with --from-file or --from-command`,
    );
  const old = await present(file, source);
  const next = writeNewKek(nextKekFile(source.file));
  const keys = reseal(file, old, next);
  renameSync(nextKekFile(source.file), source.file);
  syncDirectory(path.dirname(source.file));
  return { from: old.id, to: next.id, keys };
}
