/**
 * Time as every record carries it: a hybrid logical clock (Kulkarni et al., "Logical Physical Clocks",
 * 2014, section 3). `physical` is nanoseconds since the Unix epoch and never runs backwards within a
 * process; `logical` orders what happened within the same nanosecond or while the wall clock was behind.
 */
export type Timestamp = Readonly<{ logical: number; physical: bigint }>;
/** As written to records: nanoseconds do not fit a JSON number, so they travel as a decimal string. */
export type WireTimestamp = Readonly<{ logical: number; physical_ns: string }>;

/** Wall clock in milliseconds since the epoch; injected so that tests move it. */
export type WallClock = () => number;
/** Milliseconds that only go forward; injected so that tests move it. */
export type MonotonicClock = () => number;

export type Clock = Readonly<{
  /** Wall clock, milliseconds since the epoch; may jump. */
  wallMs: WallClock;
  /** Monotonic milliseconds; never jumps. Waits, windows and time-outs inside a process use this one. */
  monotonicMs: MonotonicClock;
  /** The next timestamp: greater than every one given before by this clock. */
  now: () => Timestamp;
}>;

export function createClock(
  wallMs: WallClock = Date.now,
  monotonicMs: MonotonicClock = () => performance.now(),
): Clock {
  let physical = 0n;
  let logical = 0;
  return {
    wallMs,
    monotonicMs,
    now: () => {
      const wall = BigInt(Math.trunc(wallMs())) * 1_000_000n;
      if (wall > physical) {
        physical = wall;
        logical = 0;
      } else {
        logical += 1;
      }
      return { logical, physical };
    },
  };
}

export const toWireTimestamp = (at: Timestamp): WireTimestamp => ({
  logical: at.logical,
  physical_ns: at.physical.toString(),
});
