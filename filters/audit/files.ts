/** Files of the log: read whole, written so that a power cut leaves the old one or the new one. */
import { readFileSync, statSync } from 'node:fs';
import { mkdir, open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SallyportError } from '../../config/errors.ts';

export const isMissing = (cause: unknown): boolean =>
  cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';

/** Undefined where there is no such file. */
export function readBounded(path: string, bytesMax: number): Buffer | undefined {
  try {
    const { size } = statSync(path);
    if (size > bytesMax)
      throw new SallyportError(
        'StateUnavailable',
        `${path} has ${size} bytes, and at most ${bytesMax} are read`,
      );
    return readFileSync(path);
  } catch (cause) {
    if (isMissing(cause)) return undefined;
    throw cause instanceof SallyportError
      ? cause
      : new SallyportError('StateUnavailable', `cannot read ${path}`, { cause });
  }
}

/** Writes and syncs. Its name is durable once its directory is synced. */
export async function writeSynced(path: string, bytes: string | Uint8Array): Promise<void> {
  const handle = await open(path, 'w', 0o600);
  try {
    await handle.writeFile(bytes);
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

export async function syncDirectories(directories: Iterable<string>): Promise<void> {
  for (const directory of directories) {
    const handle = await open(directory, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

/** The new content in place of the old, all at once. */
export async function replaceFile(path: string, bytes: string | Uint8Array): Promise<void> {
  await writeSynced(`${path}.tmp`, bytes);
  await rename(`${path}.tmp`, path);
  await syncDirectories([dirname(path)]);
}

/** Makes the directory and tells which directories have to be synced for it to stay. */
export async function makeDirectory(directory: string): Promise<string[]> {
  const first = await mkdir(directory, { recursive: true, mode: 0o700 });
  const changed = [directory];
  for (let at = directory; first !== undefined && at.length >= first.length; at = dirname(at))
    changed.push(dirname(at));
  return changed;
}
