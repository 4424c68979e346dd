/**
 * The Merkle tree of RFC 6962, section 2.1, as pure functions over the hashes of its perfect subtrees:
 * `(level, index)` is the subtree over the leaves [index · 2^level, (index + 1) · 2^level).
 * Sizes pass 2^32, so positions are divided and never shifted.
 */
import { hash } from 'node:crypto';

export const hashBytes = 32;

/** The hash of a perfect subtree that lies wholly inside the tree. */
export type SubtreeHash = (level: number, index: number) => Buffer;

const leafPrefix = Buffer.of(0);
const sha256 = (bytes: Uint8Array): Buffer => hash('sha256', bytes, 'buffer');

/** MTH of no leaf at all. */
export const emptyRoot = (): Buffer => sha256(Buffer.alloc(0));

const joinedBytesMax = 4_096;
const joined = Buffer.alloc(joinedBytesMax);
/**
 * Two parts side by side, to be hashed before the next are. In a buffer of their own they would stay until the
 * next full garbage collection, and every record is hashed twice.
 */
export function sideBySide(head: Uint8Array, rest: Uint8Array): Buffer {
  const length = head.length + rest.length;
  if (length > joinedBytesMax) return Buffer.concat([head, rest]);
  joined.set(head);
  joined.set(rest, head.length);
  return joined.subarray(0, length);
}

export const leafHash = (entry: Uint8Array): Buffer => sha256(sideBySide(leafPrefix, entry));

const node = Buffer.alloc(1 + 2 * hashBytes, 1);
export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  node.set(left, 1);
  node.set(right, 1 + hashBytes);
  return sha256(node);
}

/** The largest power of two smaller than `count`, which is at least 2 (RFC 6962, section 2.1: k). */
export function splitOf(count: number): number {
  let k = 1;
  while (k * 2 < count) k *= 2;
  return k;
}

/** MTH of a list of subtrees of one height, of which the last may be lower than the others. */
export function foldHashes(hashes: readonly Buffer[]): Buffer {
  let row = hashes;
  while (row.length > 1) {
    const next: Buffer[] = [];
    for (let i = 0; i < row.length; i += 2) {
      const [left, right] = [row[i], row[i + 1]];
      // One without a neighbour is taken up as it is: the tree is unbalanced there.
      if (left !== undefined) next.push(right === undefined ? left : nodeHash(left, right));
    }
    row = next;
  }
  return row[0] ?? emptyRoot();
}

/** MTH(D[from:to]) where `from` is a multiple of the power of two that holds the range. */
export function rangeHash(from: number, to: number, subtree: SubtreeHash): Buffer {
  const count = to - from;
  const level = Math.log2(count);
  if (Number.isInteger(level) && 2 ** level === count) return subtree(level, from / count);
  const k = splitOf(count);
  return nodeHash(rangeHash(from, from + k, subtree), rangeHash(from + k, to, subtree));
}

export const rootHash = (size: number, subtree: SubtreeHash): Buffer =>
  size === 0 ? emptyRoot() : rangeHash(0, size, subtree);

/** PATH(index, D[0:size]), the leaf's sibling first (RFC 6962, section 2.1.1). */
export function inclusionPath(index: number, size: number, subtree: SubtreeHash): Buffer[] {
  const path: Buffer[] = [];
  let [from, to] = [0, size];
  while (to - from > 1) {
    const middle = from + splitOf(to - from);
    if (index < middle) {
      path.push(rangeHash(middle, to, subtree));
      to = middle;
    } else {
      path.push(rangeHash(from, middle, subtree));
      from = middle;
    }
  }
  return path.reverse();
}

/** PROOF(oldSize, D[0:size]) (RFC 6962, section 2.1.2); empty where either tree says nothing new. */
export function consistencyPath(oldSize: number, size: number, subtree: SubtreeHash): Buffer[] {
  const proof: Buffer[] = [];
  let [from, to] = [0, size];
  if (oldSize === 0) return proof;
  while (oldSize < to) {
    const middle = from + splitOf(to - from);
    if (oldSize <= middle) {
      proof.push(rangeHash(middle, to, subtree));
      to = middle;
    } else {
      proof.push(rangeHash(from, middle, subtree));
      from = middle;
    }
  }
  // Where nothing was split off to the left, the verifier knows this hash: it is the old root (b is true).
  if (from > 0) proof.push(rangeHash(from, to, subtree));
  return proof.reverse();
}

const isOdd = (value: number): boolean => value % 2 === 1;
const half = (value: number): number => Math.floor(value / 2);

/** The root that a path leads to (RFC 9162, section 2.1.3.2); undefined where the path has a wrong length. */
export function rootOfInclusion(
  index: number,
  size: number,
  leaf: Buffer,
  path: readonly Buffer[],
): Buffer | undefined {
  if (index >= size) return undefined;
  let [fn, sn, r] = [index, size - 1, leaf];
  for (const p of path) {
    if (sn === 0) return undefined;
    if (isOdd(fn) || fn === sn) {
      r = nodeHash(p, r);
      while (!isOdd(fn) && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      r = nodeHash(r, p);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  return sn === 0 ? r : undefined;
}

/** RFC 9162, section 2.1.4.2, and the trivial cases around it. */
export function isConsistent(
  old: Readonly<{ size: number; root: Buffer }>,
  now: Readonly<{ size: number; root: Buffer }>,
  proof: readonly Buffer[],
): boolean {
  if (old.size > now.size) return false;
  if (old.size === now.size) return proof.length === 0 && old.root.equals(now.root);
  if (old.size === 0) return proof.length === 0 && old.root.equals(emptyRoot());
  // An old tree that is perfect is its own first hash.
  const isPerfect = 2 ** Math.floor(Math.log2(old.size)) === old.size;
  const [first, ...rest] = isPerfect ? [old.root, ...proof] : proof;
  if (first === undefined) return false;
  let [fn, sn] = [old.size - 1, now.size - 1];
  while (isOdd(fn)) [fn, sn] = [half(fn), half(sn)];
  let [fr, sr] = [first, first];
  for (const c of rest) {
    if (sn === 0) return false;
    if (isOdd(fn) || fn === sn) {
      fr = nodeHash(c, fr);
      sr = nodeHash(c, sr);
      while (!isOdd(fn) && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      sr = nodeHash(sr, c);
    }
    [fn, sn] = [half(fn), half(sn)];
  }
  return sn === 0 && fr.equals(old.root) && sr.equals(now.root);
}
