import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  decodeBundle,
  decodeTile,
  encodeEntry,
  entryBytesMax,
  tilePath,
  widthIn,
} from '../../../filters/audit/tiles.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { refusalOf } from '../../support/refusal.ts';

it('names tiles as C2SP tlog-tiles does', () => {
  expect(tilePath(0, 1_234_067)).toBe('tile/0/x001/x234/067');
  expect(tilePath('entries', 0)).toBe('tile/entries/000');
  expect(tilePath(3, 273, 112)).toBe('tile/3/273.p/112');
  expect(tilePath('entries', 1_000, 1)).toBe('tile/entries/x001/000.p/1');
});

it('knows how wide each tile is', () => {
  // The specification's example: a tree of 70,000.
  expect([widthIn(70_000, 0, 272), widthIn(70_000, 0, 273), widthIn(70_000, 0, 274)]).toEqual([256, 112, 0]);
  expect([widthIn(70_000, 1, 0), widthIn(70_000, 1, 1), widthIn(70_000, 2, 0)]).toEqual([256, 17, 1]);
  expect([widthIn(256, 0, 0), widthIn(256, 1, 0), widthIn(256, 'entries', 1)]).toEqual([256, 1, 0]);
});

it('reads a tile back, and the beginning of one that grew', () => {
  const tile = Buffer.from(Array.from({ length: 5 * 32 }, (_, i) => i));
  expect(Buffer.concat(decodeTile(tile, 5))).toEqual(tile);
  expect(Buffer.concat(decodeTile(tile, 2))).toEqual(tile.subarray(0, 64));
  for (const [bytes, width] of [
    [tile, 6],
    [tile.subarray(1), 4],
    [Buffer.alloc(257 * 32), 256],
  ] as const)
    expect(refusalOf(() => decodeTile(bytes, width))).toBe('StateUnavailable');
});

it('reads leaves back out of a bundle', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 1, maxLength: 20 }), (entries) => {
      const bundle = Buffer.concat(entries.map(encodeEntry));
      expect(decodeBundle(bundle, entries.length).map((entry) => [...entry])).toEqual(
        entries.map((entry) => [...entry]),
      );
      expect(decodeBundle(bundle, 1)).toHaveLength(1);
      expect(refusalOf(() => decodeBundle(bundle, entries.length + 1))).toBe('StateUnavailable');
      expect(refusalOf(() => decodeBundle(bundle.subarray(0, -1), entries.length))).toBe('StateUnavailable');
    }),
    fuzzRuns,
  );
  expect(refusalOf(() => encodeEntry(Buffer.alloc(entryBytesMax + 1)))).toBe('StateUnavailable');
  expect(decodeBundle(encodeEntry(Buffer.alloc(entryBytesMax, 7)), 1)[0]).toHaveLength(entryBytesMax);
});

it('makes leaves out of no other bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), fc.nat(300), (bytes, width) => {
      let entries: readonly Buffer[] = [];
      const refusal = refusalOf(() => {
        entries = decodeBundle(Buffer.from(bytes), width);
      });
      if (refusal !== 'none') {
        expect(refusal).toBe('StateUnavailable');
        return;
      }
      expect(entries).toHaveLength(width);
      expect(entries.reduce((sum, entry) => sum + entry.length + 2, 0)).toBeLessThanOrEqual(bytes.length);
    }),
    fuzzRuns,
  );
});
