/**
 * One sidecar for one directory. The lock is SQLite's file lock on `sidecar.lock`: the kernel drops it when
 * the process ends, however it ends, so a stale one cannot exist and two starters cannot both take it over.
 */
import { chmodSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { SallyportError } from '../config/errors.ts';
import { isRunning, readRunFile } from './run-file.ts';

export type Lock = Readonly<{ release(): void }>;

export function acquireLock(dir: string, stateDir: string = dir): Lock {
  const file = path.join(dir, 'sidecar.lock');
  const db = new DatabaseSync(file);
  try {
    chmodSync(file, 0o600);
    // No busy time-out: whoever holds it holds it as long as it runs.
    db.exec('PRAGMA busy_timeout = 0; BEGIN EXCLUSIVE');
  } catch (thrown) {
    db.close();
    const owner = readRunFile(stateDir)?.processes[0];
    const pid = owner !== undefined && isRunning(owner) ? `pid ${owner.pid}` : 'starting or stopping';
    throw new SallyportError(
      'SettingsInvalid',
      `another sidecar (${pid}) uses ${dir}; end it with \`sallyport stop\`, or name another directory with --state-dir`,
      { cause: thrown },
    );
  }
  return { release: () => db.close() };
}
