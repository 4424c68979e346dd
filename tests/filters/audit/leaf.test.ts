import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createPseudonyms, decodeLeaf, encodeLeaf, type Leaf } from '../../../filters/audit/leaf.ts';
import { decodeState, encodeState } from '../../../filters/audit/state.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

const leaf: Leaf = {
  agent: 'A'.repeat(22),
  agent_seq: 7,
  at: 1_800_000_000_000,
  digest: `${'-_'.repeat(21)}x`,
  type: 'decision',
  v: 1,
};

it('is canonical JSON: one text for one leaf', () => {
  const text = encodeLeaf(leaf);
  expect(JSON.parse(text)).toEqual(leaf);
  expect(Object.keys(JSON.parse(text))).toEqual(Object.keys(JSON.parse(text)).toSorted());
  expect(decodeLeaf(text)).toEqual(leaf);
  for (const other of [
    ` ${text}`,
    text.replace('"v":1', '"v":1.0'),
    text.replace('"v":1', '"v":2'),
    text.replace('"agent_seq":7', '"agent_seq":0'),
    text.replace('"agent_seq":7', '"agent_seq":"7"'),
    text.replace('"v":1', '"v":1,"w":1'),
    text.replace('decision', 'Decision'),
    JSON.stringify({ ...leaf, digest: 'short' }),
    JSON.stringify(Object.fromEntries(Object.entries(leaf).reverse())),
  ])
    expect(decodeLeaf(other)).toBeUndefined();
});

it('takes nothing else for a leaf', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      const read = decodeLeaf(text);
      expect(read === undefined || encodeLeaf(read) === text).toBe(true);
    }),
    fuzzRuns,
  );
});

it('gives an agent one pseudonym in a log, and another in another', () => {
  const [one, two] = [createPseudonyms(Buffer.alloc(32, 1), 2), createPseudonyms(Buffer.alloc(32, 2))];
  const names = ['a', 'b', 'c', ''].map(one);
  expect(new Set(names).size).toBe(4);
  for (const name of names) expect(name).toMatch(/^[\w-]{22}$/);
  expect(['a', 'b', 'c', ''].map(one)).toEqual(names);
  expect(two('a')).not.toBe(one('a'));
});

it('reads a state back, and takes nothing else for one', () => {
  const hash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));
  fc.assert(
    fc.property(
      fc.nat(255),
      fc.nat(3),
      fc.array(hash, { minLength: 258, maxLength: 258 }),
      (one, two, hashes) => {
        const tree = {
          size: (two * 256 + one) * 256,
          edges: two > 0 ? [hashes.slice(0, one), hashes.slice(255, 255 + two)] : [hashes.slice(0, one)],
        };
        const state = {
          tree,
          place: { file: 'decisions-0000000002.jsonl', offset: 5 },
          files: [{ file: 'decisions-0000000002.jsonl', index: 3 }],
          minimumIndex: 0,
        };
        const text = encodeState(state);
        expect(decodeState(text)).toEqual(state);
        expect(decodeState(text.replace('"size":', '"size":1'))).toBeUndefined();
        expect(decodeState(text.slice(1))).toBeUndefined();
      },
    ),
    { ...fuzzRuns, numRuns: 40 },
  );
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      expect(decodeState(text)).toBeUndefined();
    }),
    fuzzRuns,
  );
});
