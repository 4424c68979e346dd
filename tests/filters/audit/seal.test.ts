import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { kekOf, type SealedHead, seal, unseal } from '../../../filters/audit/seal.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

const head: SealedHead = {
  name: 'log',
  version: 3,
  purpose: 'signs',
  algorithm: 'ed25519',
  created_ms: 1_800_000_000_000,
  label: 'log.test/a',
  public: 'PUBLIC',
};
const kek = kekOf(randomBytes(32));
const plain = Buffer.from('the private part');

test('what was sealed is opened by the same key under the same head, and is not in the seal', () => {
  const sealed = seal(kek, head, plain);
  expect(unseal(kek, head, sealed).equals(plain)).toBe(true);
  expect(Buffer.from(sealed.box, 'base64').includes(plain)).toBe(false);
  expect(seal(kek, head, plain).nonce).not.toBe(sealed.nonce);
});

test.each<[keyof SealedHead, SealedHead]>([
  ['name', { ...head, name: 'witness' }],
  ['version', { ...head, version: 4 }],
  ['purpose', { ...head, purpose: 'cosigns' }],
  ['algorithm', { ...head, algorithm: 'ml-dsa-44' }],
  ['created_ms', { ...head, created_ms: 0 }],
  ['label', { ...head, label: 'log.test/b' }],
  ['public', { ...head, public: 'OTHER' }],
])('a seal does not open under another %s', (_field, other) => {
  expect(() => unseal(kek, other, seal(kek, head, plain))).toThrow('was changed');
});

test('a seal does not open under another key-encryption key, and both are named', () => {
  const other = kekOf(randomBytes(32));
  expect(() => unseal(other, head, seal(kek, head, plain))).toThrow(
    `${kek.id}, and the one at hand is ${other.id}`,
  );
  expect(() => unseal(other, head, { ...seal(kek, head, plain), kek: other.id })).toThrow('was changed');
});

test('making a key-encryption key leaves nothing in the bytes that it was made from', () => {
  const bytes = randomBytes(32);
  kekOf(bytes);
  expect(bytes.equals(Buffer.alloc(32))).toBe(true);
});

test('whatever stands in the place of a seal is an error of the catalogue', () => {
  const text = fc.oneof(fc.string(), fc.base64String(), fc.constant(seal(kek, head, plain).box));
  fc.assert(
    fc.property(text, text, (nonce, box) => {
      try {
        unseal(kek, head, { kek: kek.id, nonce, box });
        return false;
      } catch (thrown) {
        return thrown instanceof Error && thrown.name === 'SallyportError';
      }
    }),
    fuzzRuns,
  );
});
