import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { acquireLock } from '../../sidecar/lock.ts';
import { isRunning, processRef, readRunFile, writeRunFile } from '../../sidecar/run-file.ts';
import { repository } from '../support/cli.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sp-lock-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** Another process that holds the lock and says so. */
async function holder(): Promise<{ pid: number; kill(): Promise<void> }> {
  const source = `
    const { acquireLock } = await import('${repository}/sidecar/lock.ts');
    const { processRef, writeRunFile } = await import('${repository}/sidecar/run-file.ts');
    globalThis.lock = acquireLock('${dir}');
    writeRunFile('${dir}', { runDir: '${dir}', processes: [processRef('sidecar', process.pid)] });
    process.stdout.write('held');
    setInterval(() => globalThis.lock, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve, reject) => {
    child.stdout.once('data', resolve);
    child.once('exit', (code) => reject(new Error(`the holder ended with ${code}`)));
  });
  return {
    pid: child.pid ?? 0,
    kill: () =>
      new Promise((resolve) => {
        child.removeAllListeners('exit');
        child.once('exit', () => resolve());
        child.kill('SIGKILL');
      }),
  };
}

test('a second sidecar of one directory is refused and told the pid of the first', async () => {
  const other = await holder();
  try {
    expect(() => acquireLock(dir)).toThrow(`pid ${other.pid}`);
  } finally {
    await other.kill();
  }
});

test('a lock whose process was killed is taken over, by one of two that try', async () => {
  const other = await holder();
  await other.kill();
  const lock = acquireLock(dir);
  expect(() => acquireLock(dir)).toThrow('another sidecar');
  lock.release();
  acquireLock(dir).release();
});

test('the lock file is readable by its own user only', () => {
  const lock = acquireLock(dir);
  expect(statSync(join(dir, 'sidecar.lock')).mode & 0o777).toBe(0o600);
  lock.release();
});

test('a process is known by pid and start, so that a pid used again is another process', async () => {
  const other = await holder();
  const ref = processRef('sidecar', other.pid);
  expect(isRunning(ref)).toBe(true);
  expect(isRunning({ ...ref, startTicks: '1' })).toBe(false);
  await other.kill();
  expect(isRunning(ref)).toBe(false);
});

test('a run file that is cut short or of another shape counts as none', () => {
  writeRunFile(dir, { runDir: dir, processes: [processRef('sidecar', process.pid)] });
  expect(readRunFile(dir)?.processes[0]?.pid).toBe(process.pid);
  expect(statSync(join(dir, 'sidecar.json')).mode & 0o777).toBe(0o600);
  expect(readRunFile(join(dir, 'missing'))).toBeUndefined();
});
