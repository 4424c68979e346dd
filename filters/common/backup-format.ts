/** The lines of a backup (drawn in `backup.ts`) as they are read: untrusted until the checksum at the end agrees. */
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';

/** Made again at every start, or by setup; `envoy` and `embedded` are the logs of the data planes. */
export const leftOutDirectories: ReadonlySet<string> = new Set(['run', 'tools', 'envoy', 'embedded', 'demo']);
/** SQLite's own companions are inside the copy; locks and sockets belong to a running process. */
export const leftOutFiles = /(-wal|-shm|-journal|\.lock|\.kek|\.kek\.next|\.pid|\.sock|\.tmp)$/;

/** They tell what became of the decisions and holds of another state. */
const logs: ReadonlySet<string> = new Set(['envoy', 'embedded']);

/**
 * True where a name at the top of a state directory is no state: it may lie where a backup is restored to. The lock is
 * there while it is. Never a companion of a database, which SQLite would take for that of the restored one.
 */
export const isNoState = (name: string): boolean =>
  (leftOutDirectories.has(name) && !logs.has(name)) ||
  name.startsWith('sidecar.lock') ||
  name.endsWith('.kek');

export const backupFormat = 'sallyport backup';
export const backupVersion = 1;

export type BackupLine =
  | Readonly<{ kind: 'file'; path: string; bytes: number }>
  | Readonly<{ kind: 'end'; files: number; sha256: string }>;

export const badBackup = (reason: string): SallyportError =>
  new SallyportError('RequestMalformed', `this is no whole backup: ${reason}`);

function fieldsOf(line: string): ReadonlyMap<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw badBackup('a line is not JSON');
  }
  if (typeof value !== 'object' || value === null) throw badBackup('a line is no JSON object');
  return new Map<string, unknown>(Object.entries(value));
}

const isCount = (value: unknown, max: number): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max;

/** Relative, forward slashes, and no segment that leads out of the directory or names nothing. */
function isSafePath(path: unknown): path is string {
  return (
    typeof path === 'string' &&
    path.length > 0 &&
    path.length <= limits.backupPathCharsMax &&
    !/[\\\p{Cc}]/u.test(path) &&
    path.split('/').every((segment) => segment !== '' && segment !== '.' && segment !== '..')
  );
}

export function readHeader(line: string): void {
  const fields = fieldsOf(line);
  if (fields.get('format') !== backupFormat) throw badBackup('it does not begin as one');
  if (fields.get('version') !== backupVersion)
    throw new SallyportError(
      'RequestMalformed',
      `this backup has version ${String(fields.get('version'))}, and this sidecar reads version ${backupVersion}`,
    );
}

export function readBackupLine(line: string): BackupLine {
  const fields = fieldsOf(line);
  if (fields.get('end') === true) {
    const files = fields.get('files');
    const sha256 = fields.get('sha256');
    if (!isCount(files, limits.backupFilesMax) || typeof sha256 !== 'string')
      throw badBackup('its last line is damaged');
    return { kind: 'end', files, sha256 };
  }
  const path = fields.get('path');
  const bytes = fields.get('bytes');
  if (!isSafePath(path)) throw badBackup('a file has a name that leads elsewhere');
  if (leftOutDirectories.has(path.split('/', 1)[0] ?? '') || leftOutFiles.test(path))
    throw badBackup(`${path} is no file that a backup holds`);
  if (!isCount(bytes, limits.backupBytesMax)) throw badBackup(`the length of ${path} is not a length`);
  return { kind: 'file', path, bytes };
}
