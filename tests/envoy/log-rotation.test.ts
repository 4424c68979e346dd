import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { rotate } from '../../envoy/log-rotation.ts';

let dir: string;
let reopened: number;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'logs-'));
  reopened = 0;
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const reopen = (): Promise<void> => {
  reopened += 1;
  return Promise.resolve();
};

test('a full file is put aside, the oldest deleted, and Envoy told', async () => {
  const file = join(dir, 'access.jsonl');
  for (let round = 0; round < limits.envoyLogFilesMax + 2; round++) {
    writeFileSync(file, `round ${round}`);
    expect(await rotate([file], { reopen, bytesMax: 3 })).toBe(true);
  }
  expect(reopened).toBe(limits.envoyLogFilesMax + 2);
  expect(readdirSync(dir).length).toBe(limits.envoyLogFilesMax - 1);
  expect(readFileSync(`${file}.1`, 'utf8')).toBe(`round ${limits.envoyLogFilesMax + 1}`);
});

test('a file within its limit, or none, is left alone', async () => {
  const file = join(dir, 'access.jsonl');
  expect(await rotate([file], { reopen, bytesMax: 3 })).toBe(false);
  writeFileSync(file, 'abc');
  expect(await rotate([file], { reopen, bytesMax: 3 })).toBe(false);
  expect(reopened).toBe(0);
});

test('the oldest file stays until it was read, and nothing moves meanwhile', async () => {
  const file = join(dir, 'access.jsonl');
  const oldest = `${file}.${limits.envoyLogFilesMax - 1}`;
  writeFileSync(file, 'full');
  writeFileSync(oldest, 'unread');
  const asked: string[] = [];
  let isRead = false;
  const mayForget = (name: string): boolean => {
    asked.push(name);
    return isRead;
  };
  await expect(rotate([file], { reopen, mayForget, bytesMax: 3 })).rejects.toMatchObject({
    code: 'Overloaded',
  });
  expect([asked, reopened, readFileSync(oldest, 'utf8')]).toEqual([[oldest], 0, 'unread']);
  isRead = true;
  expect(await rotate([file], { reopen, mayForget, bytesMax: 3 })).toBe(true);
  expect(readFileSync(`${file}.1`, 'utf8')).toBe('full');
});
