/** Can another Unix user reach this path? Asked before the agent starts, so that the answer is a sentence and not ENOENT. */
import { accessSync, constants, realpathSync, type Stats, statSync } from 'node:fs';
import path from 'node:path';
import type { UnixUser } from '../../filters/common/unix-user.ts';

const execute = 0o1;
const read = 0o4;

/** POSIX permission check by mode bits (path_resolution(7)); access lists are not read and can only widen. */
function may(stats: Stats, user: UnixUser, wanted: number): boolean {
  if (user.uid === 0) return true;
  const shift = stats.uid === user.uid ? 6 : stats.gid === user.gid ? 3 : 0;
  return ((stats.mode >> shift) & wanted) === wanted;
}

const modeOf = (stats: Stats): string => (stats.mode & 0o7777).toString(8).padStart(4, '0');

function parentsOf(full: string): string[] {
  const parents: string[] = [];
  for (let dir = path.dirname(full); ; dir = path.dirname(dir)) {
    parents.unshift(dir);
    if (dir === path.dirname(dir)) return parents;
  }
}

/** Why the user cannot enter this directory; undefined where they can. */
export function closedDirectory(dir: string, user: UnixUser): string | undefined {
  const full = realpathSync(dir);
  for (const step of [...parentsOf(full), full]) {
    const stats = statSync(step);
    if (!may(stats, user, execute)) return `${step} (mode ${modeOf(stats)}) is closed to user ${user.name}`;
  }
  return undefined;
}

function closedProgram(file: string, user: UnixUser): string | undefined {
  const full = realpathSync(file);
  const closed = closedDirectory(path.dirname(file), user) ?? closedDirectory(path.dirname(full), user);
  if (closed !== undefined) return closed;
  const stats = statSync(full);
  if (!stats.isFile()) return `${full} is not a file`;
  return may(stats, user, execute | (isScript(full) ? read : 0))
    ? undefined
    : `${full} (mode ${modeOf(stats)}) may not be run by user ${user.name}`;
}

/** A script is read by its interpreter as the same user; a binary needs only to be executable. */
const isScript = (file: string): boolean => /\.(sh|py|js|mjs|rb|pl)$/.test(file);

/** access(2) as this process. */
function passes(file: string, mode: number): boolean {
  try {
    accessSync(file, mode);
    return true;
  } catch {
    return false;
  }
}

export type Found =
  | Readonly<{ kind: 'found'; file: string }>
  | Readonly<{ kind: 'closed'; why: string }>
  | Readonly<{ kind: 'missing' }>;

/** The program as execvp(3) finds it: the first of the path that this user may run. */
export function findProgram(
  word: string,
  searchPath: string,
  cwd: string,
  user: UnixUser | undefined,
): Found {
  const candidates = word.includes('/')
    ? [path.resolve(cwd, word)]
    : searchPath.split(':').map((dir) => path.resolve(cwd, dir, word));
  let why: string | undefined;
  for (const file of candidates) {
    if (!passes(file, constants.F_OK)) continue;
    const closed =
      user === undefined
        ? passes(file, constants.X_OK)
          ? undefined
          : `${file} may not be run`
        : closedProgram(file, user);
    if (closed === undefined) return { kind: 'found', file };
    why ??= closed;
  }
  return why === undefined ? { kind: 'missing' } : { kind: 'closed', why };
}
