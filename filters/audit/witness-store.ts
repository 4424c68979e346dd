/** Checkpoints with cosignatures, as files: what a witness cosigned last of each log, and what was got for the own. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { SallyportError } from '../../config/errors.ts';
import { ensurePrivateDirectory } from '../common/private-files.ts';
import { replaceFile } from './keys-file.ts';
import type { WitnessStore } from './witness.ts';

/** Where the newest checkpoint with a quorum of cosignatures is, beside the own log. */
export const witnessedFile = 'checkpoint.witnessed';

/** A file for each log, named by the hash of its origin. */
export function openWitnessStore(directory: string): WitnessStore {
  ensurePrivateDirectory(directory);
  const fileOf = (originHash: string): string => path.join(directory, `${originHash}.checkpoint`);
  return {
    read: (originHash) => {
      const file = fileOf(originHash);
      try {
        return readFileSync(file, 'utf8');
      } catch (cause) {
        if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
        throw new SallyportError('StateUnavailable', `cannot read ${file}`, { cause });
      }
    },
    write: (originHash, note) => replaceFile(fileOf(originHash), note),
  };
}
