/**
 * One sliding window, pure. Time is cut into slots of `slotMs`; slot n covers [n * slotMs, (n + 1) * slotMs).
 *
 *   slots   … 17   18   19   20   21 …            counts is a ring: slot n is at n % counts.length
 *                └ first            └ newest      used is the sum from first to newest
 *
 * Which call of a slot came when is not kept, so a slot leaves the window only when all of it is outside:
 * a call is counted at most one slot too long and never too short, and no window ever holds more than the limit.
 */
import { limits } from '../../config/limits.ts';

export type Window = {
  readonly windowMs: number;
  readonly slotMs: number;
  readonly counts: Uint32Array;
  first: number;
  newest: number;
  used: number;
};

/** Counts by slot in the order of time, as they are kept on disk. */
export type SlotCounts = Readonly<{ slotMs: number; first: number; counts: readonly number[] }>;

export const slotMsOf = (windowMs: number): number => Math.ceil(windowMs / limits.quotaSlotsPerWindow);

/** The first slot that is not wholly outside the window ending now. */
const firstLive = (nowMs: number, windowMs: number, slotMs: number): number =>
  Math.floor((nowMs - windowMs) / slotMs);

/** Remainder that is never negative: slots before the epoch occur in tests with small clocks. */
const position = (slot: number, ring: number): number => ((slot % ring) + ring) % ring;

const countOf = (window: Window, slot: number): number =>
  window.counts[position(slot, window.counts.length)] ?? 0;

function add(window: Window, slot: number, calls: number): void {
  const index = position(slot, window.counts.length);
  window.counts[index] = (window.counts[index] ?? 0) + calls;
  window.used += calls;
}

export function createWindow(windowMs: number, nowMs: number): Window {
  const slotMs = slotMsOf(windowMs);
  return {
    windowMs,
    slotMs,
    // From the slot of now - windowMs to the slot of now, both of them partly inside.
    counts: new Uint32Array(Math.ceil(windowMs / slotMs) + 1),
    first: firstLive(nowMs, windowMs, slotMs),
    newest: Math.floor(nowMs / slotMs),
    used: 0,
  };
}

/** Forgets the slots that are wholly outside. `nowMs` never goes back. */
export function advance(window: Window, nowMs: number): void {
  const { counts, slotMs, windowMs } = window;
  const newest = Math.floor(nowMs / slotMs);
  const first = firstLive(nowMs, windowMs, slotMs);
  if (first > window.first) {
    const end = Math.min(first, window.newest + 1);
    for (let slot = window.first; slot < end; slot += 1) {
      const index = position(slot, counts.length);
      window.used -= counts[index] ?? 0;
      counts[index] = 0;
    }
    window.first = first;
  }
  if (newest > window.newest) window.newest = newest;
}

/** Counts calls in the newest slot; `advance` came before. */
export const take = (window: Window, calls: number): void => add(window, window.newest, calls);

/** How many calls the newest slot counts. */
export const newestCount = (window: Window): number => countOf(window, window.newest);

/** Takes calls out of the slot they were counted in; as many as it counts, none where it has left. Returns how many. */
export function giveBack(window: Window, takenMs: number, calls: number): number {
  const slot = Math.floor(takenMs / window.slotMs);
  if (!(slot >= window.first && slot <= window.newest)) return 0;
  const given = Math.min(calls, countOf(window, slot));
  add(window, slot, -given);
  return given;
}

/** When a slot has wholly left the window. */
const leavesMs = (window: Window, slot: number): number => (slot + 1) * window.slotMs + window.windowMs;

/** When the last call counted now has left: the window is empty from then on. */
export const emptyMs = (window: Window): number => leavesMs(window, window.newest);

/** When so few of the calls counted now are left that `calls` more fit. */
export function roomMs(window: Window, limit: number, calls: number): number {
  let left = window.used;
  for (let slot = window.first; slot <= window.newest; slot += 1) {
    left -= countOf(window, slot);
    if (left + calls <= limit) return leavesMs(window, slot);
  }
  return emptyMs(window);
}

/** When the oldest counted call leaves; undefined where none is counted. */
export function oldestLeavesMs(window: Window): number | undefined {
  if (window.used === 0) return undefined;
  for (let slot = window.first; slot <= window.newest; slot += 1)
    if (countOf(window, slot) > 0) return leavesMs(window, slot);
  return undefined;
}

/** The counts from the first slot that has any, with `newest` calls in the newest slot instead of its own. */
export function slotCounts(window: Window, newest: number): SlotCounts {
  let first = window.first;
  while (first < window.newest && countOf(window, first) === 0) first += 1;
  const counts: number[] = [];
  for (let slot = first; slot < window.newest; slot += 1) counts.push(countOf(window, slot));
  counts.push(newest);
  return { slotMs: window.slotMs, first, counts };
}

/**
 * A window of this length from counts kept with any slot length: after a restart, or when the policy's window
 * changed. Every call is put at the end of the slot it was in, so it may leave late and never early. Calls
 * that the old, shorter window had already forgotten stay forgotten.
 */
export function windowFrom(kept: SlotCounts, windowMs: number, nowMs: number): Window {
  const window = createWindow(windowMs, nowMs);
  kept.counts.forEach((calls, index) => {
    const latestMs = Math.min((kept.first + index + 1) * kept.slotMs - 1, nowMs);
    const slot = Math.floor(latestMs / window.slotMs);
    if (slot >= window.first) add(window, slot, calls);
  });
  return window;
}
