import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  consistencyPath,
  emptyRoot,
  foldHashes,
  inclusionPath,
  isConsistent,
  leafHash,
  rootHash,
  rootOfInclusion,
  type SubtreeHash,
} from '../../../filters/audit/merkle.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

/** RFC 6962, section 2.1, word for word, as a second implementation. */
const sha = (...parts: Uint8Array[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};
const zero = Buffer.of(0);
const one = Buffer.of(1);
function mth(d: readonly Buffer[]): Buffer {
  if (d.length === 0) return sha();
  if (d.length === 1) return sha(zero, d[0] ?? zero);
  let k = 1;
  while (k < d.length / 2) k *= 2;
  return sha(one, mth(d.slice(0, k)), mth(d.slice(k)));
}
function path(m: number, d: readonly Buffer[]): Buffer[] {
  if (d.length === 1) return [];
  let k = 1;
  while (k < d.length / 2) k *= 2;
  return m < k
    ? [...path(m, d.slice(0, k)), mth(d.slice(k))]
    : [...path(m - k, d.slice(k)), mth(d.slice(0, k))];
}
function subproof(m: number, d: readonly Buffer[], b: boolean): Buffer[] {
  if (m === d.length) return b ? [] : [mth(d)];
  let k = 1;
  while (k < d.length / 2) k *= 2;
  return m <= k
    ? [...subproof(m, d.slice(0, k), b), mth(d.slice(k))]
    : [...subproof(m - k, d.slice(k), false), mth(d.slice(0, k))];
}

const leaves = (count: number): Buffer[] => Array.from({ length: count }, (_, i) => Buffer.from(`leaf ${i}`));
const subtreeOf =
  (d: readonly Buffer[]): SubtreeHash =>
  (level, index) =>
    mth(d.slice(index * 2 ** level, (index + 1) * 2 ** level));

it('has the roots of RFC 6962, also of no leaf and of one', () => {
  expect(emptyRoot().toString('hex')).toBe(
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  );
  // The first roots of the certificate-transparency test vectors: leaves '', 00, 10.
  const vector = [Buffer.alloc(0), Buffer.of(0), Buffer.of(0x10)];
  expect(rootHash(1, subtreeOf(vector)).toString('hex')).toBe(
    '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  );
  expect(rootHash(2, subtreeOf(vector)).toString('hex')).toBe(
    'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  );
  expect(rootHash(3, subtreeOf(vector)).toString('hex')).toBe(
    'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  );
  for (const count of [0, 1, 2, 3, 5, 64, 100]) {
    const d = leaves(count);
    expect(rootHash(count, subtreeOf(d))).toEqual(mth(d));
    expect(foldHashes(d.map(leafHash))).toEqual(mth(d));
  }
});

it('proves that a leaf is in a tree, and nothing else', () => {
  for (const count of [1, 2, 3, 7, 8, 33]) {
    const d = leaves(count);
    for (let m = 0; m < count; m += 1) {
      const proof = inclusionPath(m, count, subtreeOf(d));
      expect(proof).toEqual(path(m, d));
      const leaf = leafHash(d[m] ?? zero);
      expect(rootOfInclusion(m, count, leaf, proof)).toEqual(mth(d));
      expect(rootOfInclusion(m, count, leafHash(zero), proof)).not.toEqual(mth(d));
      expect(rootOfInclusion(m, count, leaf, [...proof, leaf])).not.toEqual(mth(d));
      if (count > 1) expect(rootOfInclusion((m + 1) % count, count, leaf, proof)).not.toEqual(mth(d));
    }
    expect(rootOfInclusion(count, count, leafHash(zero), [])).toBeUndefined();
  }
});

it('proves that one tree grew out of another, and nothing else', () => {
  const d = leaves(40);
  const at = (size: number) => ({ size, root: mth(d.slice(0, size)) });
  for (const size of [1, 2, 3, 6, 7, 8, 32, 40]) {
    for (let old = 1; old <= size; old += 1) {
      const now = d.slice(0, size);
      const proof = consistencyPath(old, size, subtreeOf(now));
      expect(proof).toEqual(subproof(old, now, true));
      expect(isConsistent(at(old), at(size), proof)).toBe(true);
      expect(isConsistent({ size: old, root: leafHash(zero) }, at(size), proof)).toBe(false);
      expect(isConsistent(at(old), { size, root: leafHash(zero) }, proof)).toBe(false);
      expect(isConsistent(at(old), at(size), [...proof, leafHash(zero)])).toBe(false);
      if (proof.length > 0) expect(isConsistent(at(old), at(size), proof.slice(1))).toBe(false);
    }
  }
  expect(isConsistent({ size: 0, root: emptyRoot() }, at(9), [])).toBe(true);
  expect(isConsistent({ size: 0, root: leafHash(zero) }, at(9), [])).toBe(false);
  expect(isConsistent(at(9), at(8), [])).toBe(false);
});

it('believes no proof that was made up', () => {
  const d = leaves(13);
  const hash = fc.constantFrom(...[...d.map(leafHash), mth(d), leafHash(zero)]);
  fc.assert(
    fc.property(
      fc.nat(20),
      fc.nat(20),
      fc.array(hash, { maxLength: 8 }),
      hash,
      (index, size, proof, leaf) => {
        const root = rootOfInclusion(index, size, leaf, proof);
        if (root?.equals(mth(d)) === true && size === 13)
          expect([leaf, proof]).toEqual([leafHash(d[index] ?? zero), path(index, d)]);
        const old = { size: index, root: leaf };
        if (isConsistent(old, { size: 13, root: mth(d) }, proof) && index > 0)
          expect(leaf).toEqual(mth(d.slice(0, index)));
      },
    ),
    fuzzRuns,
  );
});

it('counts past 2^32', () => {
  const size = 2 ** 40 + 3;
  const subtree: SubtreeHash = (level, index) => leafHash(Buffer.from(`${level}/${index}`));
  const root = rootHash(size, subtree);
  const index = 2 ** 39 + 5;
  const leaf = subtree(0, index);
  const proof = inclusionPath(index, size, subtree);
  expect(proof).toHaveLength(41);
  // The made-up hashes are no tree, but the walk has to end where it ended in the proof.
  expect(rootOfInclusion(index, size, leaf, proof)).toBeDefined();
  expect(rootOfInclusion(index, size, leaf, proof.slice(1))).toBeUndefined();
  expect(root).toHaveLength(32);
});
