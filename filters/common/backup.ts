/**
 * A backup: every file of the state directory in one file, secrets among them (authority key, admin token),
 * so it is as secret as they are and has mode 0600. Taken while the sidecar runs: databases are copied by
 * SQLite as one moment saw them, journals up to their length when they were opened.
 *
 *   gzip of   {"format":"sallyport backup","version":1,"at_ms":…}\n
 *             {"path":"holds.db","bytes":N}\n  N bytes         for each file
 *             {"end":true,"files":F,"sha256":"…"}\n             of everything before this line
 *
 * The checksum finds damage, not forgery: restore only what you stored where nobody else writes.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createWriteStream, existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { backupFormat, backupVersion, leftOutDirectories, leftOutFiles } from './backup-format.ts';
import { openPrivateFile } from './private-files.ts';

export { restore } from './restore.ts';

export type BackupSummary = Readonly<{
  files: number;
  bytes: number;
  /** What is neither file nor directory (a link, a device) and is therefore not in the backup. */
  skipped: readonly string[];
}>;

type Found = Readonly<{ path: string; file: string }>;

/**
 * Files that name places in other files. They are read before anything is listed, so that what they name is in the
 * backup; what was written later is behind those places, and is taken in again as after a crash.
 */
const readFirst = ['audit/checkpoint', 'audit/state.json', 'journal/sequences.json', 'ledger.json'];

function earlyOf(stateDir: string): ReadonlyMap<string, Buffer> {
  const there = readFirst.filter((path) => existsSync(join(stateDir, path)));
  return new Map(there.map((path) => [path, readFileSync(join(stateDir, path))]));
}

function filesOf(stateDir: string): { found: Found[]; skipped: string[] } {
  const found: Found[] = [];
  const skipped: string[] = [];
  const walk = (directory: string, isTop: boolean): void => {
    for (const name of readdirSync(directory).sort()) {
      const file = join(directory, name);
      const path = relative(stateDir, file).split(sep).join('/');
      const entry = lstatSync(file, { throwIfNoEntry: false });
      if (entry === undefined || entry.isSocket() || leftOutFiles.test(name)) continue;
      if (entry.isDirectory()) {
        if (!(isTop && leftOutDirectories.has(name))) walk(file, false);
      } else if (entry.isFile()) found.push({ path, file });
      else skipped.push(path);
      if (found.length > limits.backupFilesMax)
        throw new SallyportError(
          'RequestTooLarge',
          `cannot back up ${stateDir}: it has more than ${limits.backupFilesMax} files`,
        );
    }
  };
  walk(stateDir, true);
  return { found, skipped };
}

/** A copy of the database as one transaction sees it, checked: a backup of a damaged database is worth nothing. */
function copyDatabase(file: string, copy: string): void {
  const source = new DatabaseSync(file, { readOnly: true, timeout: limits.databaseBusyMs });
  try {
    source.prepare('VACUUM INTO ?').run(copy);
  } catch (cause) {
    throw new SallyportError('StateUnavailable', `cannot copy ${file}`, { cause });
  } finally {
    source.close();
  }
  const made = new DatabaseSync(copy, { readOnly: true });
  try {
    const verdict = made.prepare('PRAGMA quick_check(1)').get()?.['quick_check'];
    if (verdict !== 'ok')
      throw new SallyportError('StateUnavailable', `cannot back up ${file}: it is damaged`, {
        cause: verdict,
      });
  } finally {
    made.close();
  }
}

/** The archive's bytes in order. `count` hears of each file when its length is known. */
async function* archive(
  found: readonly Found[],
  early: ReadonlyMap<string, Buffer>,
  copies: string,
  atMs: number,
  count: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  const hashed = (bytes: Buffer): Buffer => {
    hash.update(bytes);
    return bytes;
  };
  const line = (value: unknown): Buffer => Buffer.from(`${JSON.stringify(value)}\n`, 'utf8');

  yield hashed(line({ format: backupFormat, version: backupVersion, at_ms: atMs }));
  let files = 0;
  for (const { path, file } of found) {
    const read = early.get(path);
    if (read !== undefined) {
      yield hashed(line({ path, bytes: read.length }));
      if (read.length > 0) yield hashed(read);
      files += 1;
      count(read.length);
      continue;
    }
    let source = file;
    if (file.endsWith('.db')) {
      source = join(copies, `${files}.db`);
      copyDatabase(file, source);
    }
    // A journal file may be removed by rotation between the listing and now.
    const handle = await open(source, 'r').catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT') return undefined;
      throw cause;
    });
    if (handle === undefined) continue;
    try {
      const bytes = (await handle.stat()).size;
      yield hashed(line({ path, bytes }));
      let left = bytes;
      while (left > 0) {
        const { buffer, bytesRead } = await handle.read(Buffer.alloc(Math.min(left, 64 * 1024)));
        if (bytesRead === 0)
          throw new SallyportError(
            'StateUnavailable',
            `cannot back up ${file}: it was cut while it was read`,
          );
        left -= bytesRead;
        yield hashed(buffer.subarray(0, bytesRead));
      }
      files += 1;
      count(bytes);
    } finally {
      await handle.close();
      if (source !== file) await rm(source);
    }
  }
  yield line({ end: true, files, sha256: hash.digest('hex') });
}

/** Writes the backup. `file` must not exist, and must lie outside the state directory. */
export async function backup(
  stateDir: string,
  file: string,
  wallMs: () => number = Date.now,
): Promise<BackupSummary> {
  const target = resolve(file);
  const source = resolve(stateDir);
  if (target.startsWith(`${source}${sep}`))
    throw new SallyportError('StateUnavailable', `cannot write the backup ${file} into the state directory`);
  if (lstatSync(target, { throwIfNoEntry: false }) !== undefined)
    throw new SallyportError('StateUnavailable', `cannot write the backup ${file}: it exists already`);

  const partial = `${target}.${randomBytes(6).toString('hex')}.tmp`;
  let copies: string | undefined;
  try {
    const early = earlyOf(source);
    const { found, skipped } = filesOf(source);
    copies = await mkdtemp(join(dirname(target), `.${basename(target)}-`));
    let files = 0;
    let bytes = 0;
    const parts = archive(found, early, copies, wallMs(), (size) => {
      files += 1;
      bytes += size;
    });
    const fd = openPrivateFile(partial, 'wx');
    await pipeline(
      Readable.from(parts),
      createGzip({ level: 6 }),
      createWriteStream(partial, { fd, flush: true }),
    );
    await rename(partial, target);
    return { files, bytes, skipped };
  } catch (thrown) {
    if (thrown instanceof SallyportError) throw thrown;
    throw new SallyportError('StateUnavailable', `cannot back up ${stateDir} to ${file}`, { cause: thrown });
  } finally {
    await rm(partial, { force: true });
    if (copies !== undefined) await rm(copies, { recursive: true, force: true });
  }
}
