/**
 * Quota windows on disk: one row for each key, with the counts of its live slots as 32-bit little-endian
 * integers in the order of time. The row of a key is written whole.
 */
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { Database } from '../common/database.ts';
import type { SlotCounts } from './window.ts';

export type KeptWindow = Readonly<{
  key: string;
  windowMs: number;
  kept: SlotCounts;
  /** The store's time of the writing. */
  writtenMs: number;
  /** The store's time from which the row means nothing any more. */
  emptyMs: number;
}>;

export type QuotaRows = Readonly<{
  all(): KeptWindow[];
  write(window: KeptWindow): void;
  /** Removes the rows whose windows are empty. */
  removeEmpty(nowMs: number): void;
}>;

const bytesPerCount = 4;

export function encodeCounts(counts: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(counts.length * bytesPerCount);
  const view = new DataView(bytes.buffer);
  counts.forEach((count, index) => {
    view.setUint32(index * bytesPerCount, count, true);
  });
  return bytes;
}

/** A row as it was read, untrusted: a damaged one must not free a quota in silence. */
export function decodeRow(row: Readonly<Record<string, unknown>>, file: string): KeptWindow {
  const damaged = (field: string): never => {
    throw new SallyportError('StateUnavailable', `${file}: the row of a quota is damaged in ${field}`);
  };
  const integer = (field: string, min: number): number => {
    const value = row[field];
    return typeof value === 'number' && Number.isSafeInteger(value) && value >= min ? value : damaged(field);
  };
  const { key, counts: bytes } = row;
  if (typeof key !== 'string') return damaged('key');
  const windowMs = integer('window_ms', 1);
  const slotMs = integer('slot_ms', 1);
  const newest = integer('newest_slot', Number.MIN_SAFE_INTEGER);
  const slotsMax = Math.ceil(windowMs / slotMs) + 1;
  if (
    !(bytes instanceof Uint8Array) ||
    bytes.length % bytesPerCount !== 0 ||
    bytes.length < bytesPerCount ||
    bytes.length / bytesPerCount > slotsMax
  )
    return damaged('counts');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const counts: number[] = [];
  let sum = 0;
  for (let at = 0; at < bytes.length; at += bytesPerCount) {
    const count = view.getUint32(at, true);
    sum += count;
    counts.push(count);
  }
  if (sum > limits.quotaLimitMax) return damaged('counts');
  return {
    key,
    windowMs,
    kept: { slotMs, first: newest - counts.length + 1, counts },
    writtenMs: integer('written_ms', Number.MIN_SAFE_INTEGER),
    emptyMs: integer('empty_ms', Number.MIN_SAFE_INTEGER),
  };
}

export function quotaRows(db: Database): QuotaRows {
  const prepared = db.run('prepare the quota statements', () => ({
    all: db.connection.prepare('SELECT * FROM quota_windows'),
    write: db.connection.prepare(
      `INSERT INTO quota_windows (key, window_ms, slot_ms, newest_slot, counts, written_ms, empty_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (key) DO UPDATE SET window_ms = excluded.window_ms, slot_ms = excluded.slot_ms,
         newest_slot = excluded.newest_slot, counts = excluded.counts,
         written_ms = excluded.written_ms, empty_ms = excluded.empty_ms`,
    ),
    removeEmpty: db.connection.prepare('DELETE FROM quota_windows WHERE empty_ms <= ?'),
  }));
  return {
    all: () => db.run('read the quotas', () => prepared.all.all()).map((row) => decodeRow(row, db.file)),
    write: ({ key, windowMs, kept, writtenMs, emptyMs }) => {
      const newest = kept.first + kept.counts.length - 1;
      db.run('write a quota', () =>
        prepared.write.run(key, windowMs, kept.slotMs, newest, encodeCounts(kept.counts), writtenMs, emptyMs),
      );
    },
    removeEmpty: (nowMs) => {
      db.run('remove old quotas', () => prepared.removeEmpty.run(nowMs));
    },
  };
}
