/** The two directories of a sidecar: state (0700, kept) and run (0711: others reach what they are told the name of). */
import { chmodSync, lstatSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { SallyportError } from '../config/errors.ts';
import type { Ending } from './ending.ts';
import { acquireLock } from './lock.ts';
import { type ProcessRef, processRef, removeRunFile, writeRunFile } from './run-file.ts';

function own(dir: string, mode: number, setting: string): string {
  const full = path.resolve(dir);
  try {
    // Parents are for everybody to pass through; what is private is private itself.
    mkdirSync(path.dirname(full), { recursive: true, mode: 0o755 });
    const isNew = mkdirSync(full, { recursive: true, mode }) !== undefined;
    const found = lstatSync(full);
    // A directory that somebody else owns can be swapped under us.
    const uid = process.getuid?.() ?? found.uid;
    if (!found.isDirectory() || found.uid !== uid)
      throw new SallyportError(
        'SettingsInvalid',
        `${setting} ${full} has to be a directory of user ${uid}, and is ${found.isDirectory() ? `user ${found.uid}'s` : 'not a directory'}; name another one`,
      );
    // One that is there may be in use: at most it is closed further. Envoy's user may pass through (0711).
    if (isNew || (found.mode & 0o066) !== 0) chmodSync(full, isNew ? mode : found.mode & 0o711);
  } catch (thrown) {
    if (thrown instanceof SallyportError) throw thrown;
    throw new SallyportError(
      'SettingsInvalid',
      `${setting} ${full} cannot be made: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
      { cause: thrown },
    );
  }
  return full;
}

export type Directories = Readonly<{ stateDir: string; runDir: string }>;

export function openDirectories(settings: { state_dir: string; run_dir: string }): Directories {
  return {
    stateDir: own(settings.state_dir, 0o700, 'state_dir'),
    runDir: own(settings.run_dir, 0o711, 'run_dir'),
  };
}

/** Both directories, locked for this process, which is then named in the state directory. */
export function openHome(
  settings: { state_dir: string; run_dir: string },
  children: readonly ProcessRef[],
  ending: Ending,
): Directories {
  const { stateDir, runDir } = openDirectories(settings);
  for (const dir of new Set([stateDir, runDir])) ending.add('lock', acquireLock(dir, stateDir).release);
  ending.add('run file', () => removeRunFile(stateDir));
  writeRunFile(stateDir, { runDir, processes: [processRef('sidecar', process.pid), ...children] });
  return { stateDir, runDir };
}
