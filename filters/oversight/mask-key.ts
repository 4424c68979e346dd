/**
 * The key of the marks that stand for masked values: made once for a state directory and never shown. Without
 * it nobody can try out which value a mark is of, and marks of two sidecars cannot be compared.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SallyportError } from '../../config/errors.ts';
import { openPrivateFile, syncDirectory } from '../common/private-files.ts';
import { type Mark, markWith } from './mask.ts';

/** As long as the hash: RFC 2104, section 3. */
const keyBytes = 32;

/** @throws SallyportError StateUnavailable where the key can neither be read nor made. */
export function openMark(stateDir: string): Mark {
  const file = join(stateDir, 'mask.key');
  try {
    return markWith(readKey(file) ?? makeKey(stateDir, file));
  } catch (cause) {
    throw new SallyportError('StateUnavailable', `cannot read or make ${file}`, { cause });
  }
}

/** Undefined where there is none, or only the beginning of one. */
function readKey(file: string): Buffer | undefined {
  let descriptor: number;
  try {
    descriptor = openPrivateFile(file, 'r');
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return undefined;
    throw thrown;
  }
  try {
    const key = readFileSync(descriptor);
    return key.length === keyBytes ? key : undefined;
  } finally {
    closeSync(descriptor);
  }
}

function makeKey(stateDir: string, file: string): Buffer {
  const key = randomBytes(keyBytes);
  const descriptor = openPrivateFile(`${file}.new`, 'w');
  try {
    writeFileSync(descriptor, key);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(`${file}.new`, file);
  syncDirectory(stateDir);
  return key;
}
