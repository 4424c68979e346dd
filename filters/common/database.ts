/**
 * One SQLite file of the state directory: opened, migrated and guarded. Whatever SQLite cannot do (full
 * disk, damaged file, lock held by another) is `StateUnavailable` naming the file, so that callers deny.
 */
import { closeSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type ErrorCode, SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { migrations as everyMigration } from './migrations.ts';
import { ensurePrivateDirectory, openPrivateFile } from './private-files.ts';

export type Database = Readonly<{
  file: string;
  connection: DatabaseSync;
  /** Runs SQL; what SQLite throws becomes a SallyportError that names the action and the file. */
  run<T>(action: string, work: () => T): T;
  /** The same in one transaction: all of it is kept or none. Takes the write lock at once. */
  transaction<T>(action: string, work: () => T): T;
  close(): void;
}>;

export type DatabaseOptions = Readonly<{
  /** `FULL`: a commit is on disk when it returns. `NORMAL`: it survives the process, not a power cut. */
  synchronous?: 'FULL' | 'NORMAL';
  /** Steps of the schema; a test opens older versions by giving fewer. */
  migrations?: readonly string[];
}>;

/** "SLYP": says whose file this is (sqlite.org/pragma.html#pragma_application_id). */
const applicationId = 0x534c5950;

/** Primary result codes (sqlite.org/rescode.html) that only a fault of ours can cause. */
const ourFaults = new Set([1, 19, 20, 21, 25]);

function sqliteError(thrown: unknown, action: string, file: string): SallyportError {
  if (thrown instanceof SallyportError) return thrown;
  const isSqlite = thrown instanceof Error && 'errcode' in thrown && typeof thrown.errcode === 'number';
  if (!isSqlite) return new SallyportError('Internal', `cannot ${action}`, { cause: thrown });
  const resultCode = Number(thrown.errcode) & 0xff;
  const code: ErrorCode = ourFaults.has(resultCode) ? 'Internal' : 'StateUnavailable';
  const meaning = 'errstr' in thrown ? String(thrown.errstr) : 'SQLite error';
  return new SallyportError(code, `cannot ${action} in ${file}: ${meaning}`, { cause: thrown });
}

function readNumber(connection: DatabaseSync, sql: string, column: string): number {
  return Number(connection.prepare(sql).get()?.[column]);
}

/** Brings the schema up to date. Re-reads the version inside each transaction: another process may be doing the same. */
function migrate(database: Database, steps: readonly string[]): void {
  const { connection, file } = database;
  const version = (): number => readNumber(connection, 'PRAGMA user_version', 'user_version');
  const found = database.run('read the schema version', version);
  if (found > steps.length)
    throw new SallyportError(
      'StateUnavailable',
      `${file} has schema version ${found}, and this sidecar knows versions up to ${steps.length}: run the newer sidecar, or restore a backup of this version`,
    );
  const owner = database.run('read the application id', () =>
    readNumber(connection, 'PRAGMA application_id', 'application_id'),
  );
  const isEmpty = database.run(
    'read the schema',
    () => readNumber(connection, 'SELECT count(*) AS n FROM sqlite_schema', 'n') === 0,
  );
  if (owner !== applicationId && !(isEmpty && owner === 0))
    throw new SallyportError(
      'StateUnavailable',
      `${file} is a database of another program: move it away or name another state directory`,
    );
  steps.forEach((sql, index) => {
    if (index < found) return;
    database.transaction(`migrate to schema version ${index + 1}`, () => {
      if (version() > index) return;
      connection.exec(sql);
      connection.exec(`PRAGMA user_version = ${index + 1}; PRAGMA application_id = ${String(applicationId)}`);
    });
  });
}

export function openDatabase(file: string, options: DatabaseOptions = {}): Database {
  const { synchronous = 'FULL', migrations = everyMigration } = options;
  ensurePrivateDirectory(dirname(file));
  let connection: DatabaseSync;
  try {
    // SQLite gives its -wal and -shm files the mode of the main file, so the main file is made first.
    closeSync(openPrivateFile(file, 'a'));
    connection = new DatabaseSync(file, {
      timeout: limits.databaseBusyMs,
      enableForeignKeyConstraints: true,
    });
  } catch (thrown) {
    throw new SallyportError('StateUnavailable', `cannot open ${file}`, { cause: thrown });
  }

  const run = <T>(action: string, work: () => T): T => {
    try {
      return work();
    } catch (thrown) {
      throw sqliteError(thrown, action, file);
    }
  };
  const transaction = <T>(action: string, work: () => T): T =>
    run(action, () => {
      connection.exec('BEGIN IMMEDIATE');
      try {
        const result = work();
        connection.exec('COMMIT');
        return result;
      } catch (thrown) {
        // A full disk has already rolled it back by itself.
        if (connection.isTransaction) connection.exec('ROLLBACK');
        throw thrown;
      }
    });
  const database: Database = {
    file,
    connection,
    run,
    transaction,
    close: () => {
      if (connection.isOpen) connection.close();
    },
  };

  try {
    const mode = run('switch to WAL', () => connection.prepare('PRAGMA journal_mode = WAL').get());
    if (mode?.['journal_mode'] !== 'wal')
      throw new SallyportError(
        'StateUnavailable',
        `${file} cannot use a write-ahead log: its file system lacks shared memory; name a state directory on a local disk`,
      );
    run('set up the connection', () =>
      connection.exec(
        `PRAGMA synchronous = ${synchronous}; PRAGMA trusted_schema = OFF; PRAGMA journal_size_limit = ${String(limits.databaseWalBytesMax)}`,
      ),
    );
    migrate(database, migrations);
  } catch (thrown) {
    connection.close();
    throw thrown;
  }
  return database;
}
