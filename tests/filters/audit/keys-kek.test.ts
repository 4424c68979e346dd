import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { runBounded } from '../../../filters/audit/keys-command.ts';
import { defaultKekFile, kekSource, nextKekFile, writeNewKek } from '../../../filters/audit/keys-kek.ts';
import { isRunning, processRef } from '../../../sidecar/run-file.ts';
import { until } from '../../support/cli.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const command = (...argv: string[]) => kekSource({ kek_file: '', kek_command: argv }, '/nowhere');
const file = (path: string) => kekSource({ kek_file: path, kek_command: [] }, '/nowhere');
const stateDir = (): string => {
  const dir = join(temporaryDirectory(), 'state');
  mkdirSync(dir, { mode: 0o700 });
  return dir;
};
const thirtyTwo = Buffer.alloc(32, 7).toString('base64');

test('the default file is made beside the state directory, with 256 random bits', async () => {
  const dir = stateDir();
  const source = kekSource({ kek_file: '', kek_command: [] }, dir);
  const made = await source.get(undefined);
  expect(source.weakness).toBe('');
  expect(existsSync(`${dir}.kek`)).toBe(true);
  expect(Buffer.from(readFileSync(`${dir}.kek`, 'utf8').trim(), 'base64')).toHaveLength(32);
  expect((await source.get(made.id)).id).toBe(made.id);
});

test('where the default file can only lie inside, that is said', () => {
  const dir = stateDir();
  writeNewKek(join(dir, 'sealing.kek'));
  expect(defaultKekFile(dir)).toEqual({
    file: join(dir, 'sealing.kek'),
    weakness: expect.stringContaining('who copies the state directory can open them'),
  });
  writeNewKek(`${dir}.kek`);
  expect(defaultKekFile(dir)).toEqual({ file: `${dir}.kek`, weakness: '' });
});

test('a file that the settings name inside the state directory has to be one that backups leave out', () => {
  const dir = stateDir();
  const inside = (name: string) => kekSource({ kek_file: join(dir, name), kek_command: [] }, dir);
  expect(() => inside('mine')).toThrow('would be in every backup');
  expect(inside('mine.kek').weakness).toContain('who copies the state directory');
});

test('a volume of its own keeps its key-encryption key inside', () => {
  // /proc is a mount on every Linux; nothing is written.
  expect(defaultKekFile('/proc')).toMatchObject({
    file: '/proc/sealing.kek',
    weakness: expect.stringContaining('a volume of its own'),
  });
});

test('a file that the settings name is never made, and the error says how to', async () => {
  const path = join(temporaryDirectory(), 'k');
  await expect(file(path).get(undefined)).rejects.toMatchObject({
    code: 'SettingsInvalid',
    message: expect.stringContaining(`base64 > ${path}`),
  });
  expect(existsSync(path)).toBe(false);
});

test.each([
  ['too short', `${Buffer.alloc(31, 1).toString('base64')}\n`],
  ['too long', `${Buffer.alloc(33, 1).toString('base64')}\n`],
  ['no base64', 'x'.repeat(44)],
  ['not canonical', `${thirtyTwo.slice(0, -2)}d=`],
  ['empty', ''],
  ['huge', 'A'.repeat(limits.kekBytesMax + 10)],
])('a file that is %s is refused, and its content is not told', async (_name, text) => {
  const path = join(temporaryDirectory(), 'k');
  writeFileSync(path, text, { mode: 0o600 });
  await expect(file(path).get(undefined)).rejects.toThrow(`${path} has to give 32 bytes in base64`);
  await expect(file(path).get(undefined)).rejects.not.toThrow(text.slice(0, 8) || 'never');
});

test('a file that others may read or change is refused', async () => {
  const path = join(temporaryDirectory(), 'k');
  writeFileSync(path, thirtyTwo);
  for (const mode of [0o644, 0o602, 0o620]) {
    chmodSync(path, mode);
    await expect(file(path).get(undefined)).rejects.toThrow(`mode ${mode.toString(8)}`);
  }
  chmodSync(path, 0o440);
  expect((await file(path).get(undefined)).id).toMatch(/^[0-9a-f]{16}$/);
});

test('a directory, or what cannot be opened, is refused by name', async () => {
  const dir = temporaryDirectory();
  await expect(file(dir).get(undefined)).rejects.toThrow('has to be a file');
  await expect(file(join(dir, 'x'.repeat(300))).get(undefined)).rejects.toThrow('ENAMETOOLONG');
});

test('a rewrap that was cut between keys and file is finished by the next reading', async () => {
  const path = join(temporaryDirectory(), 'k');
  const old = writeNewKek(path);
  const next = writeNewKek(nextKekFile(path));
  expect((await file(path).get(old.id)).id).toBe(old.id);
  expect(existsSync(nextKekFile(path))).toBe(true);
  expect((await file(path).get(next.id)).id).toBe(next.id);
  expect(existsSync(nextKekFile(path))).toBe(false);
  expect((await file(path).get(next.id)).id).toBe(next.id);
});

test('a command gives the key by what it prints; its words are no shell’s', async () => {
  expect((await command('echo', thirtyTwo).get('anything')).id).toBe(
    (await command('printf', '%s', thirtyTwo).get(undefined)).id,
  );
  await expect(command('echo', `$(echo ${thirtyTwo})`).get(undefined)).rejects.toThrow('32 bytes');
});

test('a command that fails is told with its status and what it says to people, never with what it printed', async () => {
  const failing = command('sh', '-c', `echo ${thirtyTwo}; echo no such key >&2; exit 3`);
  await expect(failing.get(undefined)).rejects.toThrow('ended with status 3: no such key');
  await expect(failing.get(undefined)).rejects.not.toThrow(thirtyTwo);
  await expect(command('sh', '-c', 'kill -9 $$').get(undefined)).rejects.toThrow('ended with signal SIGKILL');
  await expect(command('/no/such/program').get(undefined)).rejects.toThrow('cannot be run');
});

test('a command that prints too much is ended', async () => {
  await expect(command('sh', '-c', 'yes').get(undefined)).rejects.toThrow(
    `printed more than ${limits.kekBytesMax} bytes`,
  );
});

test('a command that hangs is ended with what it started', async () => {
  const dir = temporaryDirectory();
  const asking = runBounded(['sh', '-c', `sleep 600 & echo $! > ${dir}/pid; wait`], {
    what: 'test',
    timeoutMs: 300,
    bytesMax: 100,
  });
  await expect(asking).rejects.toThrow('did not end within 300 ms');
  const pid = Number(readFileSync(join(dir, 'pid'), 'utf8'));
  const ref = processRef('sleep', pid);
  await until('the grandchild to end', () => !isRunning(ref) || undefined);
});
