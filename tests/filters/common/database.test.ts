import {
  chmodSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { describe, expect, it } from 'vitest';
import { SallyportError } from '../../../config/errors.ts';
import { openDatabase } from '../../../filters/common/database.ts';
import { refusalOf } from '../../support/refusal.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const modeOf = (path: string): number => statSync(path).mode & 0o777;

function failureOf(action: () => unknown): SallyportError {
  try {
    action();
  } catch (error) {
    if (error instanceof SallyportError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('openDatabase', () => {
  it('makes files and directories that nobody else may read', () => {
    const directory = join(temporaryDirectory(), 'a', 'b');
    const file = join(directory, 'x.db');
    const db = openDatabase(file);
    db.transaction('write', () => db.connection.exec('CREATE TABLE t (a)'));
    expect([directory, join(directory, '..')].map(modeOf)).toEqual([0o700, 0o700]);
    expect([file, `${file}-wal`, `${file}-shm`].map(modeOf)).toEqual([0o600, 0o600, 0o600]);
    db.close();
  });

  it('narrows a file that others could read and a directory that others could write', () => {
    const directory = join(temporaryDirectory(), 'open');
    mkdirSync(directory);
    chmodSync(directory, 0o777);
    const file = join(directory, 'x.db');
    writeFileSync(file, '', { mode: 0o644 });
    openDatabase(file).close();
    expect([modeOf(directory), modeOf(file)]).toEqual([0o700, 0o600]);
  });

  it('syncs each commit unless told that it need not', () => {
    const directory = temporaryDirectory();
    const levels = (['FULL', 'NORMAL', undefined] as const).map((synchronous, index) => {
      const db = openDatabase(
        join(directory, `${index}.db`),
        synchronous === undefined ? {} : { synchronous },
      );
      const level = db.connection.prepare('PRAGMA synchronous').get()?.['synchronous'];
      const mode = db.connection.prepare('PRAGMA journal_mode').get()?.['journal_mode'];
      db.close();
      return [level, mode];
    });
    expect(levels).toEqual([
      [2, 'wal'],
      [1, 'wal'],
      [2, 'wal'],
    ]);
  });

  it('says which file is damaged', () => {
    const file = join(temporaryDirectory(), 'holds.db');
    writeFileSync(file, 'this is no database, and it is long enough to be looked at as one'.repeat(20));
    const failure = failureOf(() => openDatabase(file));
    expect([failure.code, failure.message.includes(file)]).toEqual(['StateUnavailable', true]);
    expect(readFileSync(file, 'utf8')).toContain('this is no database');
  });

  it('says which file is damaged when the damage is met later', () => {
    const file = join(temporaryDirectory(), 'holds.db');
    const made = openDatabase(file);
    made.connection.exec('CREATE TABLE t (a TEXT)');
    for (let i = 0; i < 200; i += 1) made.connection.prepare('INSERT INTO t VALUES (?)').run('x'.repeat(500));
    const pageBytes = Number(made.connection.prepare('PRAGMA page_size').get()?.['page_size']);
    made.close();
    const pages = statSync(file).size / pageBytes;
    const fd = openSync(file, 'r+');
    for (let page = 8; page < pages; page += 1)
      writeSync(fd, Buffer.alloc(pageBytes, 0xa5), 0, pageBytes, page * pageBytes);
    closeSync(fd);
    const failure = failureOf(() => {
      const db = openDatabase(file);
      try {
        db.run('read', () => db.connection.prepare('SELECT count(a), max(a) FROM t').get());
      } finally {
        db.close();
      }
    });
    expect([failure.code, failure.message.includes(file)]).toEqual(['StateUnavailable', true]);
  });

  it('refuses a database that was cut short', () => {
    const file = join(temporaryDirectory(), 'holds.db');
    openDatabase(file).close();
    truncateSync(file, 5_000);
    expect(refusalOf(() => openDatabase(file))).toBe('StateUnavailable');
  });

  it('refuses the database of another program', () => {
    const file = join(temporaryDirectory(), 'other.db');
    const other = new DatabaseSync(file);
    other.exec('CREATE TABLE theirs (a)');
    other.close();
    const failure = failureOf(() => openDatabase(file));
    expect([failure.code, failure.message]).toEqual([
      'StateUnavailable',
      expect.stringContaining('another program'),
    ]);
  });

  it('refuses a path where no file can be', () => {
    const directory = temporaryDirectory();
    writeFileSync(join(directory, 'file'), '');
    expect(refusalOf(() => openDatabase(join(directory, 'file', 'x.db')))).toBe('StateUnavailable');
    expect(refusalOf(() => openDatabase(directory))).toBe('StateUnavailable');
  });
});

describe('a transaction', () => {
  const opened = () => {
    const db = openDatabase(join(temporaryDirectory(), 'x.db'));
    db.connection.exec('CREATE TABLE t (a TEXT UNIQUE)');
    const insert = (text: string) => db.connection.prepare('INSERT INTO t VALUES (?)').run(text);
    const rows = () => db.connection.prepare('SELECT count(*) AS n FROM t').get()?.['n'];
    return { db, insert, rows };
  };

  it('keeps all of it or nothing', () => {
    const { db, insert, rows } = opened();
    const refusal = refusalOf(() =>
      db.transaction('write', () => {
        insert('a');
        throw new SallyportError('HoldNotPending', 'late');
      }),
    );
    expect([refusal, rows()]).toEqual(['HoldNotPending', 0]);
    expect(db.transaction('write', () => insert('a').changes)).toBe(1);
    expect(rows()).toBe(1);
    db.close();
  });

  it('tells a full disk from a fault of ours', () => {
    const { db, insert, rows } = opened();
    insert('a');
    expect(refusalOf(() => db.run('write', () => insert('a')))).toBe('Internal');
    const pages = db.connection.prepare('PRAGMA page_count').get()?.['page_count'];
    db.connection.exec(`PRAGMA max_page_count = ${String(pages)}`);
    const full = failureOf(() =>
      db.transaction('write', () => {
        for (let i = 0; i < 100; i += 1) insert(String(i).repeat(2_000));
      }),
    );
    expect([full.code, full.message.includes(db.file), rows()]).toEqual(['StateUnavailable', true, 1]);
    db.connection.exec('PRAGMA max_page_count = 100000');
    expect(db.transaction('write', () => insert('b').changes)).toBe(1);
    db.close();
  });
});
