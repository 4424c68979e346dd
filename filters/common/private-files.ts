/** Directories and files that only the sidecar's own user may read. */
import { chmodSync, closeSync, fchmodSync, fsyncSync, mkdirSync, openSync, statSync } from 'node:fs';
import { SallyportError } from '../../config/errors.ts';

const groupOrOthersMayWrite = 0o022;
const sticky = 0o1000;

/**
 * Creates the directory with mode 0700. One that exists is left as it is, unless others could replace our
 * files in it and we may say otherwise: then it becomes 0700. (A shared `/tmp` has the sticky bit and stays.)
 */
export function ensurePrivateDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const found = statSync(directory);
    const open = (found.mode & groupOrOthersMayWrite) !== 0 && (found.mode & sticky) === 0;
    if (open && found.uid === process.getuid?.()) chmodSync(directory, 0o700);
  } catch (cause) {
    throw new SallyportError('StateUnavailable', `cannot create the directory ${directory}`, { cause });
  }
}

/** Opens with mode 0600 whatever the umask or an earlier mode says. Returns the descriptor. */
export function openPrivateFile(file: string, flags: string): number {
  const descriptor = openSync(file, flags, 0o600);
  fchmodSync(descriptor, 0o600);
  return descriptor;
}

/** Makes the directory's entries themselves durable: a new file's name is lost in a power cut without this. */
export function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
