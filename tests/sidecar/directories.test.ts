import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openDirectories, openStateDirectory } from '../../sidecar/directories.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sp-directories-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));
const mode = (path: string): number => statSync(path).mode & 0o777;
const open = (path: string) => () => openStateDirectory({ state_dir: path });

test('state is private, the run directory is to be passed through, and so are parents that had to be made', () => {
  const made = openDirectories({ state_dir: join(dir, 'a/b/state'), run_dir: join(dir, 'c/run') });
  expect([mode(made.stateDir), mode(made.runDir)]).toEqual([0o700, 0o711]);
  expect(mode(join(dir, 'a')) & 0o111).toBe(0o111);
  expect(mode(join(dir, 'a/b')) & 0o111).toBe(0o111);
});

test('one that is there is closed further, and what is closed to Envoy’s user stays so', () => {
  const wide = join(dir, 'wide');
  mkdirSync(wide);
  chmodSync(wide, 0o777);
  open(wide)();
  expect(mode(wide)).toBe(0o711);
  chmodSync(wide, 0o700);
  open(wide)();
  expect(mode(wide)).toBe(0o700);
});

test('where none can be made is told at once, with the directory that would have to take it', () => {
  // Node's own recursive mkdir never comes back from the first.
  expect(open('/proc/nope/deeper')).toThrow(
    /^the state directory \(--state-dir\) \/proc\/nope\/deeper cannot be made: .*\/proc/,
  );
  writeFileSync(join(dir, 'file'), '');
  expect(open(join(dir, 'file', 'state'))).toThrow(`${join(dir, 'file')} is not a directory`);
  expect(open(join(dir, 'file'))).toThrow(`${join(dir, 'file')} is not a directory`);
});

test('a link is refused: it can be led elsewhere', () => {
  mkdirSync(join(dir, 'real'));
  symlinkSync(join(dir, 'real'), join(dir, 'link'));
  expect(open(join(dir, 'link'))).toThrow('a link');
});
