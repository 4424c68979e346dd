/**
 * Where the key-encryption key comes from: a file, or a command that prints it. Both give 32 bytes in base64.
 *
 * The default file lies beside the state directory, not in it, so that a copy of the directory, or a backup of
 * it, does not hold what opens its keys. Inside is only the last resort, and is said.
 */

import { randomBytes } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  statSync,
} from 'node:fs';
import path from 'node:path';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { replaceFile } from './keys-file.ts';
import { type Kek, kekBytes, kekOf } from './seal.ts';

export type KekSource = Readonly<{
  /** For a person: which file, or which program. */
  where: string;
  /** Why it protects less than it could; empty where it does not. */
  weakness: string;
  /**
   * The key that opens what is sealed by `wanted`. With nothing sealed yet (undefined) a default file that is
   * not there is made; otherwise its absence is an error, and nothing is ever written over.
   */
  get(wanted: string | undefined): Promise<Kek>;
  /** The file that `keys rewrap` may give a new key; undefined for a command. */
  file: string | undefined;
}>;

const refused = (what: string, cause?: unknown): SallyportError =>
  new SallyportError('SettingsInvalid', what, { cause });

const newKeyHint = (file: string): string =>
  `put back the file it was, or where there never was one make it: (umask 077; head -c ${kekBytes} /dev/urandom | base64 > ${file})`;

function decodeKek(text: Buffer, where: string): Kek {
  const trimmed = text.toString('latin1').trim();
  const bytes = Buffer.from(trimmed, 'base64');
  if (bytes.length !== kekBytes || bytes.toString('base64') !== trimmed)
    throw refused(`${where} has to give ${kekBytes} bytes in base64 (44 letters), and gives something else`);
  return kekOf(bytes);
}

const codeOf = (thrown: unknown): string =>
  thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';

/** Undefined where there is no such file. */
function readKek(file: string): Kek | undefined {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'r');
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT') return undefined;
    throw refused(`the key-encryption key ${file} cannot be read: ${codeOf(thrown)}`, thrown);
  }
  try {
    const found = fstatSync(descriptor);
    if (!found.isFile()) throw refused(`the key-encryption key ${file} has to be a file`);
    // A group may read it: that is how an orchestrator hands a secret to a user that is not root.
    if ((found.mode & 0o026) !== 0)
      throw refused(
        `the key-encryption key ${file} has mode ${(found.mode & 0o777).toString(8)}: others may read or change it; chmod 600 ${file}`,
      );
    const bytes = Buffer.alloc(limits.kekBytesMax + 1);
    const length = readSync(descriptor, bytes, 0, bytes.length, 0);
    const text = bytes.subarray(0, length);
    try {
      return decodeKek(text, `the key-encryption key ${file}`);
    } finally {
      bytes.fill(0);
    }
  } finally {
    closeSync(descriptor);
  }
}

/** 32 random bytes into a file of mode 0600, synced. */
export function writeNewKek(file: string): Kek {
  const bytes = randomBytes(kekBytes);
  replaceFile(file, `${bytes.toString('base64')}\n`);
  return kekOf(bytes);
}

/** Where `keys rewrap` puts the new key until everything is sealed by it. */
export const nextKekFile = (file: string): string => `${file}.next`;

function fileSource(file: string, mayMake: boolean, weakness: string): KekSource {
  return {
    where: `file ${file}`,
    weakness,
    file,
    get: async (wanted) => {
      const found = readKek(file);
      if (wanted === undefined) {
        if (found !== undefined) return found;
        if (mayMake) return writeNewKek(file);
        throw refused(`the key-encryption key ${file} is not there: ${newKeyHint(file)}`);
      }
      if (found?.id === wanted) return found;
      // A rewrap that was interrupted after the keys, and before this file, had taken the new key.
      const next = readKek(nextKekFile(file));
      if (next?.id === wanted) {
        renameSync(nextKekFile(file), file);
        return next;
      }
      if (found !== undefined) return found;
      throw refused(
        `the key-encryption key ${file} is not there, and the keys are sealed by it (id ${wanted}): put back the file it was, or name another place with keys.kek_file or keys.kek_command`,
      );
    },
  };
}

function commandSource(argv: readonly [string, ...string[]]): KekSource {
  const where = `command ${argv[0]}`;
  return {
    where,
    weakness: '',
    file: undefined,
    get: async () => {
      const { runBounded } = await import('./keys-command.ts');
      const printed = await runBounded(argv, {
        what: 'keys.kek_command',
        timeoutMs: limits.kekCommandMs,
        bytesMax: limits.kekBytesMax,
      });
      try {
        return decodeKek(printed, `keys.kek_command (${argv[0]})`);
      } finally {
        printed.fill(0);
      }
    },
  };
}

const exists = (file: string): boolean => statSync(file, { throwIfNoEntry: false }) !== undefined;

function mayWriteIn(directory: string): boolean {
  try {
    accessSync(directory, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const besideItsKeys = (why: string): string =>
  `it lies beside the keys that it seals (${why}): who copies the state directory can open them; name another place with keys.kek_file or keys.kek_command`;

/** Where the default file is, or is to be made. */
export function defaultKekFile(stateDir: string): Readonly<{ file: string; weakness: string }> {
  const outside = `${stateDir}.kek`;
  const inside = path.join(stateDir, 'sealing.kek');
  const weak = (why: string) => ({
    file: inside,
    weakness: besideItsKeys(why),
  });
  if (exists(outside)) return { file: outside, weakness: '' };
  const parent = path.dirname(stateDir);
  // The parent of a mounted volume may be gone when the volume is mounted again.
  const isVolume = statSync(stateDir).dev !== statSync(parent).dev;
  if (isVolume) return weak(`${stateDir} is a volume of its own`);
  if (!mayWriteIn(parent)) return weak(`this user may not write in ${parent}`);
  return exists(inside) ? weak('it was made there') : { file: outside, weakness: '' };
}

function namedSource(file: string, stateDir: string): KekSource {
  const isInside = file.startsWith(`${path.resolve(stateDir)}${path.sep}`);
  // Backups leave out whatever ends so.
  if (isInside && !file.endsWith('.kek'))
    throw refused(
      `keys.kek_file ${file} lies inside the state directory, and would be in every backup: name another place, or at least a file that ends in .kek`,
    );
  return fileSource(file, false, isInside ? besideItsKeys('keys.kek_file says so') : '');
}

export function kekSource(
  settings: Readonly<{ kek_file: string; kek_command: readonly string[] }>,
  stateDir: string,
): KekSource {
  const [program, ...rest] = settings.kek_command;
  if (program !== undefined) return commandSource([program, ...rest]);
  if (settings.kek_file !== '') return namedSource(path.resolve(settings.kek_file), stateDir);
  const { file, weakness } = defaultKekFile(stateDir);
  return fileSource(file, true, weakness);
}
