import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { noteKeyDrafts, openKeyRing } from '../../../filters/audit/keys.ts';
import { readKeys } from '../../../filters/audit/keys-file.ts';
import { type KekSource, kekSource, writeNewKek } from '../../../filters/audit/keys-kek.ts';
import { moveKek, renewKek } from '../../../filters/audit/keys-rewrap.ts';
import { ringIn } from '../../support/keys.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

async function filled() {
  const home = temporaryDirectory();
  const dir = join(home, 'state');
  const ring = await ringIn(dir);
  await ring.ensure('log', () => noteKeyDrafts('log.test/a'));
  await ring.rotate('log', () => noteKeyDrafts('log.test/a'), { now: true, by: '' });
  return { home, dir, ring };
}
const at = (file: string): KekSource => kekSource({ kek_file: file, kek_command: [] }, '/nowhere');
const publics = (file: string) => readKeys(file).map((key) => key.public);

test('a renewed key-encryption key opens the same keys, and the old one opens nothing', async () => {
  const { home, dir, ring } = await filled();
  const old = join(home, 'old');
  writeFileSync(old, readFileSync(`${dir}.kek`), { mode: 0o600 });
  const before = publics(ring.file);
  const done = await renewKek(ring.file, ring.kek);
  expect(done.keys).toEqual(['log-ed25519-v2', 'log-ml-dsa-44-v2']);
  expect(done.from).not.toBe(done.to);
  expect(publics(ring.file)).toEqual(before);
  const again = await ringIn(dir);
  expect(again.open('log')).toHaveLength(2);
  await expect(openKeyRing(ring.file, at(old))).rejects.toMatchObject({ code: 'StateUnavailable' });
  // The ring that was open meanwhile goes on with the new one.
  await ring.rotate('log', () => noteKeyDrafts('log.test/a'), { now: false, by: '' });
  expect((await ringIn(dir)).open('log')).toHaveLength(4);
});

test('keys move to the place that the settings name now', async () => {
  const { home, dir, ring } = await filled();
  const place = join(home, 'elsewhere');
  writeNewKek(place);
  const done = await moveKek(ring.file, ring.kek, at(place));
  expect(readKeys(ring.file).flatMap(({ sealed }) => sealed?.kek ?? [])).toEqual([done.to, done.to]);
  expect((await openKeyRing(ring.file, at(place))).open('log')).toHaveLength(2);
  await expect(ringIn(dir)).rejects.toMatchObject({ code: 'StateUnavailable' });
});

test('a wrong old key-encryption key changes nothing', async () => {
  const { home, ring } = await filled();
  const before = readFileSync(ring.file, 'utf8');
  const wrong = join(home, 'wrong');
  const right = join(home, 'right');
  writeNewKek(wrong);
  writeNewKek(right);
  await expect(moveKek(ring.file, at(wrong), at(right))).rejects.toThrow('Nothing was changed');
  await expect(renewKek(ring.file, at(wrong))).rejects.toThrow('Nothing was changed');
  const stays = readFileSync(wrong, 'utf8');
  expect(readFileSync(ring.file, 'utf8')).toBe(before);
  expect(readFileSync(wrong, 'utf8')).toBe(stays);
});

test('a key-encryption key that a command gives cannot be renewed here, and the error says what to do', async () => {
  const { dir, ring } = await filled();
  const byCommand = kekSource({ kek_file: '', kek_command: ['cat', `${dir}.kek`] }, dir);
  await expect(renewKek(ring.file, byCommand)).rejects.toThrow('--from-command');
});

test('without a sealed key there is nothing to seal anew', async () => {
  const ring = await ringIn(join(temporaryDirectory(), 'state'));
  await expect(renewKek(ring.file, ring.kek)).rejects.toMatchObject({ code: 'NotFound' });
});
