import { createPublicKey, sign, verify } from 'node:crypto';
import { copyFileSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type KeyName, keyId, noteKeyDrafts, openKeyRing } from '../../../filters/audit/keys.ts';
import { changeKeys, decodeKeys, encodeKeys, readKeys } from '../../../filters/audit/keys-file.ts';
import { kekSource } from '../../../filters/audit/keys-kek.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { ringIn } from '../../support/keys.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const hour = 3_600_000;
const drafts = (label = 'log.test/a') => noteKeyDrafts(label);
const states = (keys: readonly { name: string; version: number; state: string }[], name: KeyName) => [
  ...new Set(keys.filter((key) => key.name === name).map((key) => `${key.version} ${key.state}`)),
];

test('keys are made once, are the same when they are opened again, and sign', async () => {
  const dir = join(temporaryDirectory(), 'state');
  const first = await ringIn(dir);
  await first.ensure('log', drafts);
  await first.ensure('log', () => {
    throw new Error('made twice');
  });
  const second = await ringIn(dir);
  expect(second.list()).toEqual(first.list());
  expect(second.list().map(keyId)).toEqual(['log-ed25519-v1', 'log-ml-dsa-44-v1']);
  for (const { entry, privateKey } of second.open('log')) {
    const signature = sign(null, Buffer.from('x'), privateKey);
    expect(verify(null, Buffer.from('x'), createPublicKey(entry.public), signature)).toBe(true);
  }
  expect(second.open('witness')).toEqual([]);
});

test('the file and the key-encryption key are their owner’s alone, and the latter lies outside the state', async () => {
  const dir = join(temporaryDirectory(), 'state');
  const ring = await ringIn(dir);
  await ring.ensure('log', drafts);
  expect(ring.kek.where).toBe(`file ${dir}.kek`);
  expect(statSync(ring.file).mode & 0o777).toBe(0o600);
  expect(statSync(`${dir}.kek`).mode & 0o777).toBe(0o600);
});

test('a wrong key-encryption key is refused with both ids, and nothing is written', async () => {
  const dir = join(temporaryDirectory(), 'state');
  const ring = await ringIn(dir);
  await ring.ensure('log', drafts);
  const before = readFileSync(ring.file);
  const other = join(temporaryDirectory(), 'state');
  await (await ringIn(other)).ensure('log', drafts);
  copyFileSync(`${other}.kek`, `${dir}.kek`);
  const kek = readFileSync(`${dir}.kek`);
  const [sealedBy] = readKeys(ring.file).map(({ sealed }) => sealed?.kek);
  await expect(ringIn(dir)).rejects.toMatchObject({
    code: 'StateUnavailable',
    message: expect.stringContaining(`${sealedBy}, and file ${dir}.kek gives`),
  });
  await expect(ring.rotate('log', drafts, { now: false, by: '' })).rejects.toMatchObject({
    code: 'StateUnavailable',
  });
  expect(readFileSync(ring.file).equals(before)).toBe(true);
  expect(readFileSync(`${dir}.kek`).equals(kek)).toBe(true);
});

test('a missing key-encryption key is refused, and none is made in its place', async () => {
  const dir = join(temporaryDirectory(), 'state');
  await (await ringIn(dir)).ensure('log', drafts);
  rmSync(`${dir}.kek`);
  await expect(ringIn(dir)).rejects.toMatchObject({
    code: 'SettingsInvalid',
    message: expect.stringContaining(`${dir}.kek is not there, and the keys are sealed by it`),
  });
  expect(existsSync(`${dir}.kek`)).toBe(false);
});

test('a damaged file of keys is an error that names it, and stays as it is', async () => {
  const dir = join(temporaryDirectory(), 'state');
  const ring = await ringIn(dir);
  await ring.ensure('log', drafts);
  const whole = readFileSync(ring.file, 'utf8');
  const [entry] = readKeys(ring.file);
  const swapped = readKeys(ring.file).map((key) => ({ ...key, public: entry?.public ?? '' }));
  for (const text of [
    '',
    '{}',
    whole.slice(0, 500),
    whole.replace('"version": 1', '"version": 2'),
    encodeKeys(swapped),
  ]) {
    writeFileSync(ring.file, text);
    await expect(ringIn(dir)).rejects.toMatchObject({ code: 'StateUnavailable' });
    expect(readFileSync(ring.file, 'utf8')).toBe(text);
  }
});

test('a rotation over a damaged file is refused, and the file stays as it is', async () => {
  const ring = await ringIn(join(temporaryDirectory(), 'state'));
  await ring.ensure('log', drafts);
  writeFileSync(ring.file, '{"format":');
  await expect(ring.rotate('log', drafts, { now: true, by: '' })).rejects.toMatchObject({
    code: 'StateUnavailable',
  });
  expect(readFileSync(ring.file, 'utf8')).toBe('{"format":');
});

test('a key that signs beside its successor is retired after the overlap, and its private part is gone', async () => {
  const clock = movingClock();
  const ring = await ringIn(join(temporaryDirectory(), 'state'), clock.wallMs);
  await ring.ensure('log', drafts);
  await ring.rotate('log', drafts, { now: false, by: 'dana' });
  expect(states(ring.list(), 'log')).toEqual(['1 retiring', '2 active']);
  expect(ring.open('log').map(({ entry }) => entry.version)).toEqual([1, 1, 2, 2]);
  await expect(ring.rotate('log', drafts, { now: false, by: '' })).rejects.toThrow('under way');
  clock.pass(hour - 1);
  expect(ring.settle(hour)).toBe(false);
  clock.pass(1);
  expect(ring.settle(hour, () => false)).toBe(false);
  expect(ring.settle(hour)).toBe(true);
  expect(states(ring.list(), 'log')).toEqual(['1 retired', '2 active']);
  expect(ring.open('log').map(({ entry }) => entry.version)).toEqual([2, 2]);
  expect(readKeys(ring.file).map(({ version, sealed }) => [version, sealed === undefined])).toEqual([
    [1, true],
    [1, true],
    [2, false],
    [2, false],
  ]);
  expect(ring.list().map(({ by }) => by)).toEqual(['', '', 'dana', 'dana']);
});

test('the rotation of one name leaves the others alone', async () => {
  const clock = movingClock();
  const ring = await ringIn(join(temporaryDirectory(), 'state'), clock.wallMs);
  await ring.ensure('log', drafts);
  await ring.ensure('witness', () => drafts('witness.test/b'));
  await ring.rotate('log', drafts, { now: true, by: '' });
  expect(states(ring.list(), 'witness')).toEqual(['1 active']);
  expect(states(ring.list(), 'log')).toEqual(['1 retired', '2 active']);
  expect(ring.list().filter(({ revoked }) => revoked)).toHaveLength(2);
});

test('a key that was never made cannot be rotated', async () => {
  const ring = await ringIn(join(temporaryDirectory(), 'state'));
  await expect(ring.rotate('witness', drafts, { now: false, by: '' })).rejects.toMatchObject({
    code: 'NotFound',
  });
  expect(existsSync(ring.file)).toBe(false);
});

test('two processes that change the keys lose neither change', async () => {
  const dir = join(temporaryDirectory(), 'state');
  const one = await ringIn(dir);
  await one.ensure('log', drafts);
  const two = await ringIn(dir);
  await two.ensure('witness', () => drafts('witness.test/b'));
  one.markRecorded('log', 1, 'aud_1');
  await one.rotate('log', drafts, { now: false, by: '' });
  const keys = readKeys(one.file);
  expect(states(keys, 'witness')).toEqual(['1 active']);
  expect(keys.filter(({ record }) => record === 'aud_1')).toHaveLength(2);
  expect(states(keys, 'log')).toEqual(['1 retiring', '2 active']);
});

test('a change that throws leaves the file as it was, and the lock open', async () => {
  const ring = await ringIn(join(temporaryDirectory(), 'state'));
  await ring.ensure('log', drafts);
  const before = readFileSync(ring.file);
  expect(() =>
    changeKeys(ring.file, () => {
      throw new Error('no');
    }),
  ).toThrow('no');
  expect(readFileSync(ring.file).equals(before)).toBe(true);
  ring.markRecorded('log', 1, 'aud_2');
});

test('text that is no file of keys is an error of the catalogue, whatever it is', async () => {
  const ring = await ringIn(join(temporaryDirectory(), 'state'));
  await ring.ensure('log', drafts);
  const whole = readFileSync(ring.file, 'utf8');
  const mutated = fc
    .tuple(fc.nat(whole.length - 1), fc.string({ maxLength: 4 }))
    .map(([at, text]) => whole.slice(0, at) + text + whole.slice(at + text.length));
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), mutated), (text) => {
      try {
        for (const { name } of decodeKeys(text, '/x')) expect(name).toMatch(/^[a-z]/);
      } catch (thrown) {
        expect(thrown).toMatchObject({ code: 'StateUnavailable' });
      }
    }),
    fuzzRuns,
  );
});

test('a ring by the command of the settings opens like one by a file', async () => {
  const dir = join(temporaryDirectory(), 'state');
  await (await ringIn(dir)).ensure('log', drafts);
  const byCommand = kekSource({ kek_file: '', kek_command: ['cat', `${dir}.kek`] }, dir);
  const ring = await openKeyRing(join(dir, 'keys', 'keys.json'), byCommand);
  expect(ring.open('log')).toHaveLength(2);
});
