import { X509Certificate } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import { expect, test } from 'vitest';
import { openAuthority } from '../../envoy/authority.ts';
import { parseVkey } from '../../filters/audit/note.ts';
import { backup, restore } from '../../filters/common/backup.ts';
import { keysFile, openKeys, openLogSigners } from '../../sidecar/keys.ts';
import { movingClock } from '../support/moving-clock.ts';
import { temporaryDirectory } from '../support/temporary.ts';

/** Of a release before keys were sealed; made on 20 November 2026 for five years. */
const fixture = join(import.meta.dirname, '../envoy/fixtures/plain-authority.pem');
const plain = { kek_file: '', kek_command: [], overlap_ms: 0 };
const clock = movingClock(Date.parse('2026-11-21'));
const log = pino({ level: 'silent' });

function oldState(): string {
  const stateDir = join(temporaryDirectory(), 'state');
  mkdirSync(join(stateDir, 'authority'), { recursive: true, mode: 0o700 });
  copyFileSync(fixture, join(stateDir, 'authority', 'authority.pem'));
  return stateDir;
}
const certificate = readFileSync(fixture, 'utf8')
  .replace(/^[\s\S]+?(?=-----BEGIN CERTIFICATE)/, '')
  .trim();
const secret = Buffer.from(
  readFileSync(fixture, 'utf8')
    .replace(/-----END PRIVATE[\s\S]+/, '')
    .replace(/-----.+-----|\s/g, ''),
  'base64',
).subarray(36, 68);

test('a plain authority is sealed at the next start; agents trust it as before, and its file is gone', async () => {
  const stateDir = oldState();
  const ring = await openKeys(plain, stateDir, clock, log);
  const authority = await openAuthority(ring, clock);
  expect(authority.caPem.trim()).toBe(certificate);
  const minted = new X509Certificate((await authority.mint('a.test')).certificatePem);
  expect(minted.verify(new X509Certificate(certificate).publicKey)).toBe(true);
  expect(existsSync(join(stateDir, 'authority'))).toBe(false);
  expect(readFileSync(keysFile(stateDir)).includes(secret)).toBe(false);
  expect(readFileSync(keysFile(stateDir), 'utf8')).not.toContain(secret.toString('base64').slice(4, 36));
  const again = await openAuthority(await openKeys(plain, stateDir, clock, log), clock);
  expect(again.caPem.trim()).toBe(certificate);
});

test('a crash between the sealing and the end of the plain file is mended by the next start', async () => {
  const stateDir = oldState();
  await openKeys(plain, stateDir, clock, log);
  mkdirSync(join(stateDir, 'authority'));
  copyFileSync(fixture, join(stateDir, 'authority', 'authority.pem'));
  const ring = await openKeys(plain, stateDir, clock, log);
  expect(ring.list()).toHaveLength(1);
  expect(existsSync(join(stateDir, 'authority'))).toBe(false);
});

test('a plain authority beside another sealed one is refused, and neither is touched', async () => {
  const stateDir = join(temporaryDirectory(), 'state');
  mkdirSync(stateDir, { mode: 0o700 });
  await openAuthority(await openKeys(plain, stateDir, clock, log), clock);
  const before = readFileSync(keysFile(stateDir), 'utf8');
  const file = join(stateDir, 'authority', 'authority.pem');
  mkdirSync(join(stateDir, 'authority'));
  copyFileSync(fixture, file);
  await expect(openKeys(plain, stateDir, clock, log)).rejects.toThrow('hold different authorities');
  expect(existsSync(file)).toBe(true);
  expect(readFileSync(keysFile(stateDir), 'utf8')).toBe(before);
});

test('a damaged plain authority is an error that names it, and stays', async () => {
  const stateDir = oldState();
  const file = join(stateDir, 'authority', 'authority.pem');
  writeFileSync(file, 'garbage');
  await expect(openKeys(plain, stateDir, clock, log)).rejects.toThrow(file);
  expect(readFileSync(file, 'utf8')).toBe('garbage');
  expect(existsSync(keysFile(stateDir))).toBe(false);
});

test('a backup holds the keys sealed, and without the key-encryption key opens nothing', async () => {
  const home = temporaryDirectory();
  const stateDir = oldState();
  const before = await openAuthority(await openKeys(plain, stateDir, clock, log), clock);
  const inside = join(stateDir, 'sealing.kek');
  copyFileSync(`${stateDir}.kek`, inside);
  await backup(stateDir, join(home, 'backup'));
  const restored = join(home, 'restored');
  await restore(join(home, 'backup'), restored);
  expect(existsSync(join(restored, 'sealing.kek'))).toBe(false);
  await expect(openKeys(plain, restored, clock, log)).rejects.toThrow(
    `${restored}.kek is not there, and the keys are sealed by it`,
  );
  renameSync(`${stateDir}.kek`, `${restored}.kek`);
  const after = await openAuthority(await openKeys(plain, restored, clock, log), clock);
  expect(after.caPem).toBe(before.caPem);
});

test('a log that begins anew where another one was signs with keys of its own; one that goes on does not', async () => {
  const stateDir = join(temporaryDirectory(), 'state');
  mkdirSync(stateDir, { mode: 0o700 });
  const ring = await openKeys(plain, stateDir, clock, log);
  const first = (await openLogSigners(ring, 'log.test/a', clock, true)).vkeys();
  expect((await openLogSigners(ring, 'log.test/a', clock, false)).vkeys()).toEqual(first);
  await expect(openLogSigners(ring, 'log.test/b', clock, false)).rejects.toThrow('belong together');
  const second = (await openLogSigners(ring, 'log.test/b', clock, true)).vkeys();
  expect(second.map((vkey) => parseVkey(vkey).name)).toEqual(['log.test/b', 'log.test/b']);
  const publics = (vkeys: readonly string[]) => vkeys.map((vkey) => vkey.split('+').slice(2).join('+'));
  expect(publics(second)).not.toEqual(publics(first));
});
