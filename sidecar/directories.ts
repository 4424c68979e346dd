/** The two directories of a sidecar: state (0700, kept) and run (0711: others reach what they are told the name of). */
import { chmodSync, lstatSync, mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { SallyportError } from '../config/errors.ts';
import type { Ending } from './ending.ts';
import { acquireLock } from './lock.ts';
import { type ProcessRef, processRef, removeRunFile, writeRunFile } from './run-file.ts';

const codeOf = (thrown: unknown): string =>
  thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : '';

function reasonOf(thrown: unknown, parent: string): string {
  switch (codeOf(thrown)) {
    // What a kernel's own file system, such as /proc, answers.
    case 'ENOENT':
      return `${parent} takes no new directory`;
    case 'EACCES':
    case 'EPERM':
      return `user ${process.getuid?.() ?? '?'} may not make one in ${parent}`;
    case 'EROFS':
      return `${parent} is on a read-only file system`;
    default:
      return thrown instanceof Error ? thrown.message : String(thrown);
  }
}

/**
 * Makes what is missing, one directory after the other below the nearest that is there: Node's recursive mkdir
 * tries for ever where the system answers ENOENT for a name whose parent exists (/proc). True where it is new.
 */
function makeDirectory(full: string, mode: number): boolean {
  const missing: string[] = [];
  let nearest = full;
  let found = statSync(nearest, { throwIfNoEntry: false });
  while (found === undefined && nearest !== path.dirname(nearest)) {
    missing.unshift(nearest);
    nearest = path.dirname(nearest);
    found = statSync(nearest, { throwIfNoEntry: false });
  }
  if (found?.isDirectory() !== true) throw new Error(`${nearest} is not a directory`);
  for (const dir of missing) {
    try {
      // Parents are for everybody to pass through; what is private is private itself.
      mkdirSync(dir, { mode: dir === full ? mode : 0o755 });
    } catch (thrown) {
      // Another start made it in between.
      if (codeOf(thrown) !== 'EEXIST')
        throw new Error(reasonOf(thrown, path.dirname(dir)), { cause: thrown });
    }
  }
  return missing.length > 0;
}

function own(dir: string, mode: number, what: string): string {
  const full = path.resolve(dir);
  try {
    const isNew = makeDirectory(full, mode);
    const found = lstatSync(full);
    // A directory that somebody else owns can be swapped under us.
    const uid = process.getuid?.() ?? found.uid;
    if (!found.isDirectory() || found.uid !== uid)
      throw new SallyportError(
        'SettingsInvalid',
        `the ${what} ${full} has to be a directory of user ${uid}, and is ${found.isDirectory() ? `user ${found.uid}'s` : 'a link'}; name another one`,
      );
    // One that is there may be in use: at most it is closed further. Envoy's user may pass through (0711).
    if (isNew || (found.mode & 0o066) !== 0) chmodSync(full, isNew ? mode : found.mode & 0o711);
  } catch (thrown) {
    if (thrown instanceof SallyportError) throw thrown;
    throw new SallyportError(
      'SettingsInvalid',
      `the ${what} ${full} cannot be made: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
      { cause: thrown },
    );
  }
  return full;
}

/** The state directory alone, for what needs no sockets. */
export const openStateDirectory = (settings: { state_dir: string }): string =>
  own(settings.state_dir, 0o700, 'state directory (--state-dir)');

export type Directories = Readonly<{ stateDir: string; runDir: string }>;

export function openDirectories(settings: { state_dir: string; run_dir: string }): Directories {
  return {
    stateDir: openStateDirectory(settings),
    runDir: own(settings.run_dir, 0o711, 'run directory (--run-dir)'),
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
