import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decodeRow, encodeCounts } from '../../../filters/quota/rows.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { refusalOf } from '../../support/refusal.ts';

const row = {
  key: 'per-agent\u0000researcher',
  window_ms: 60_000,
  slot_ms: 1_000,
  newest_slot: 100,
  counts: encodeCounts([1, 0, 4_000_000]),
  written_ms: 100_500,
  empty_ms: 161_000,
};

it('reads the counts that were written', () => {
  expect(decodeRow(row, 'quotas.db')).toMatchObject({
    windowMs: 60_000,
    kept: { slotMs: 1_000, first: 98, counts: [1, 0, 4_000_000] },
  });
});

it.each([
  ['a length that is no whole number of counts', { counts: new Uint8Array(6) }],
  ['no counts', { counts: new Uint8Array(0) }],
  ['more counts than the window has slots', { counts: new Uint8Array(4 * 62) }],
  ['more calls than any limit', { counts: new Uint8Array([255, 255, 255, 255]) }],
  ['a window of no length', { window_ms: 0 }],
  ['a slot of no length', { slot_ms: 0 }],
  ['a key that is no text', { key: 7 }],
  ['a time that is no number', { written_ms: 'soon' }],
])('refuses %s', (_what, change) => {
  expect(refusalOf(() => decodeRow({ ...row, ...change }, 'quotas.db'))).toBe('StateUnavailable');
});

it('reads any row as a window or refuses it', () => {
  const field = fc.oneof(fc.anything(), fc.integer(), fc.uint8Array(), fc.maxSafeInteger());
  const fields = { key: field, window_ms: field, slot_ms: field, newest_slot: field, counts: field };
  fc.assert(
    fc.property(fc.record(fields, { requiredKeys: [] }), (change) => {
      expect(['none', 'StateUnavailable']).toContain(
        refusalOf(() => decodeRow({ ...row, ...change }, 'quotas.db')),
      );
    }),
    fuzzRuns,
  );
});
