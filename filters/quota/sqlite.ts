/**
 * Quotas in memory, with what is granted prepaid on disk. Before a key grants a call that its row does not
 * cover, it writes the row with a whole slice of calls counted into the slot of now; calls are then granted
 * from the slice with no write. So after a kill the rows count everything that was granted and at most one
 * unused slice a key. A slice is for its slot only: the next slot's first call writes the exact past with it.
 *
 * Time is the store's own: wall time at the opening (or the newest time on disk, where the wall clock has
 * gone back since), then the monotonic clock. A wall clock that jumps while the sidecar runs changes
 * nothing; across a restart a jump back frees nothing, and a jump forward counts as time passed, since
 * nothing can tell it from time passed.
 */
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { Database } from '../common/database.ts';
import type { Clock } from '../common/time.ts';
import type { QuotaState } from '../decision.ts';
import type { Debit, DebitResult, QuotaStore } from './quota.ts';
import { quotaRows } from './rows.ts';
import {
  advance,
  createWindow,
  emptyMs,
  giveBack,
  newestCount,
  oldestLeavesMs,
  roomMs,
  slotCounts,
  take,
  type Window,
  windowFrom,
} from './window.ts';

type Entry = {
  readonly key: string;
  window: Window;
  /** Calls that the row counts in slot `paidSlot`; the row covers every slot before it exactly or generously. */
  paid: number;
  paidSlot: number;
  /** From then on the row means nothing; the key may be forgotten. */
  rowEmptyMs: number;
  /** The row counts calls that were not granted, or were given back. */
  generous: boolean;
  stored: boolean;
};

type Payment = Readonly<{ entry: Entry; debit: Debit }>;

const noSlot = Number.NEGATIVE_INFINITY;

/** `keysMax` is lowered by tests only. */
export type QuotaStoreOptions = Readonly<{ keysMax?: number }>;

export function openQuotaStore(db: Database, clock: Clock, options: QuotaStoreOptions = {}): QuotaStore {
  const { keysMax = limits.quotaKeysMax } = options;
  const rows = quotaRows(db);
  const entries = new Map<string, Entry>();
  let nextSweepMs = Number.NEGATIVE_INFINITY;
  let closed = false;

  const found = rows.all();
  const openedMonotonicMs = clock.monotonicMs();
  const openedMs = found.reduce((latest, row) => Math.max(latest, row.writtenMs), Math.trunc(clock.wallMs()));
  let latestMs = openedMs;
  const now = (): number => {
    latestMs = Math.max(latestMs, openedMs + Math.floor(clock.monotonicMs() - openedMonotonicMs));
    return latestMs;
  };

  for (const row of found) {
    if (row.emptyMs <= openedMs) continue;
    entries.set(row.key, {
      key: row.key,
      window: windowFrom(row.kept, row.windowMs, openedMs),
      paid: 0,
      paidSlot: noSlot,
      rowEmptyMs: row.emptyMs,
      generous: false,
      stored: true,
    });
  }
  if (found.length > entries.size) rows.removeEmpty(openedMs);

  /** The key's entry with its window of the asked length, up to date. A new one is not stored yet. */
  const entryOf = (debit: Debit, nowMs: number): Entry => {
    const entry = entries.get(debit.key);
    if (entry === undefined)
      return {
        key: debit.key,
        window: createWindow(debit.windowMs, nowMs),
        paid: 0,
        paidSlot: noSlot,
        rowEmptyMs: Number.NEGATIVE_INFINITY,
        generous: false,
        stored: false,
      };
    advance(entry.window, nowMs);
    if (entry.window.windowMs !== debit.windowMs) {
      const kept = slotCounts(entry.window, newestCount(entry.window));
      entry.window = windowFrom(kept, debit.windowMs, nowMs);
      entry.paidSlot = noSlot;
    }
    return entry;
  };

  const stateOf = (debit: Debit, window: Window, nowMs: number): QuotaState => ({
    name: debit.quota,
    limit: debit.limit,
    used: window.used,
    windowMs: debit.windowMs,
    resetMs: Math.max(0, (oldestLeavesMs(window) ?? nowMs) - nowMs),
  });

  /** Forgets keys whose windows are empty until the new ones fit; all keys live is an overload. */
  const makeRoom = (payments: readonly Payment[], nowMs: number): void => {
    if (payments.every(({ entry }) => entry.stored)) return;
    const inUse = new Set(payments.map(({ entry }) => entry));
    const wanted = [...inUse].filter((entry) => !entry.stored).length;
    if (entries.size + wanted <= keysMax) return;
    if (nowMs >= nextSweepMs) {
      nextSweepMs = nowMs + limits.quotaSweepMsMin;
      const before = entries.size;
      for (const entry of entries.values())
        if (entry.rowEmptyMs <= nowMs && !inUse.has(entry)) entries.delete(entry.key);
      if (entries.size < before) rows.removeEmpty(nowMs);
    }
    if (entries.size + wanted > keysMax)
      throw new SallyportError(
        'Overloaded',
        `cannot count another caller: all ${keysMax} quota keys are in use`,
        { retryAfterMs: Math.max(1, nextSweepMs - nowMs) },
      );
  };

  const write = (entry: Entry, paid: number, nowMs: number): void => {
    const { window } = entry;
    rows.write({
      key: entry.key,
      windowMs: window.windowMs,
      kept: slotCounts(window, paid),
      writtenMs: nowMs,
      emptyMs: emptyMs(window),
    });
  };

  /** Writes a slice for every entry whose newest call the row does not cover. All rows or none. */
  const prepay = (payments: readonly Payment[], nowMs: number): void => {
    const slices = new Map<Entry, number>();
    for (const { entry, debit: one } of payments) {
      const counted = newestCount(entry.window);
      if (entry.paidSlot === entry.window.newest && counted <= entry.paid) continue;
      const slice = Math.max(1, Math.ceil(one.limit / limits.quotaSlicesPerWindow));
      slices.set(entry, counted + Math.min(slice - 1, Math.max(0, one.limit - entry.window.used)));
    }
    if (slices.size === 0) return;
    const writeAll = (): void => {
      for (const [entry, paid] of slices) write(entry, paid, nowMs);
    };
    if (slices.size === 1) writeAll();
    else db.transaction('write quotas', writeAll);
    for (const [entry, paid] of slices) {
      entry.paid = paid;
      entry.paidSlot = entry.window.newest;
      entry.rowEmptyMs = emptyMs(entry.window);
      entry.generous = paid > newestCount(entry.window);
    }
  };

  const debit = (debits: readonly Debit[], calls = 1): DebitResult => {
    if (closed) throw new SallyportError('StateUnavailable', 'cannot count the call: the quotas are closed');
    const nowMs = now();
    const payments: Payment[] = [];
    const undo = (): void => {
      for (const { entry } of payments) giveBack(entry.window, nowMs, calls);
    };
    for (const one of debits) {
      const entry = payments.find((other) => other.entry.key === one.key)?.entry ?? entryOf(one, nowMs);
      if (entry.window.used + calls > one.limit) {
        undo();
        // Nothing ever fits into too small a limit; a window is as good a time to ask again as any.
        const retryAtMs = one.limit < calls ? nowMs + one.windowMs : roomMs(entry.window, one.limit, calls);
        return {
          ok: false,
          debit: one,
          state: stateOf(one, entry.window, nowMs),
          retryAfterMs: Math.max(1, retryAtMs - nowMs),
        };
      }
      take(entry.window, calls);
      payments.push({ entry, debit: one });
    }
    try {
      makeRoom(payments, nowMs);
      prepay(payments, nowMs);
    } catch (thrown) {
      undo();
      throw thrown;
    }
    for (const { entry } of payments) {
      if (entry.stored) continue;
      entry.stored = true;
      entries.set(entry.key, entry);
    }
    return {
      ok: true,
      states: payments.map(({ entry, debit: one }) => stateOf(one, entry.window, nowMs)),
      atMs: nowMs,
    };
  };

  return {
    debit,
    peek: (one) => {
      const nowMs = now();
      const entry = entries.get(one.key);
      if (entry === undefined) return stateOf(one, createWindow(one.windowMs, nowMs), nowMs);
      advance(entry.window, nowMs);
      const { window } = entry;
      const same = window.windowMs === one.windowMs;
      const asked = same ? window : windowFrom(slotCounts(window, newestCount(window)), one.windowMs, nowMs);
      return stateOf(one, asked, nowMs);
    },
    room: (debits) => {
      const nowMs = now();
      let room = Number.POSITIVE_INFINITY;
      for (const one of debits) {
        const times = debits.filter(({ key }) => key === one.key).length;
        const { window } = entryOf(one, nowMs);
        room = Math.min(room, Math.floor((one.limit - window.used) / times));
      }
      return Math.max(0, room);
    },
    madeWithinMs: (debits) => {
      // Time is counted in whole milliseconds that have begun.
      const nowMs = now() + 1;
      let leftMs = Number.POSITIVE_INFINITY;
      for (const one of debits) {
        const { slotMs } = entryOf(one, nowMs - 1).window;
        leftMs = Math.min(leftMs, Math.floor((nowMs - 1) / slotMs + 1) * slotMs - nowMs);
      }
      return leftMs;
    },
    refund: (debits, atMs, calls = 1) => {
      const nowMs = now();
      for (const one of debits) {
        const entry = entries.get(one.key);
        if (entry === undefined) continue;
        advance(entry.window, nowMs);
        if (giveBack(entry.window, atMs, calls) > 0) entry.generous = true;
      }
    },
    close: () => {
      if (closed) return;
      closed = true;
      const nowMs = now();
      db.transaction('write the quotas', () => {
        for (const entry of entries.values()) {
          advance(entry.window, nowMs);
          if (entry.generous) write(entry, newestCount(entry.window), nowMs);
        }
        rows.removeEmpty(nowMs);
      });
    },
  };
}
