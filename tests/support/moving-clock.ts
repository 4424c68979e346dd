/** A clock that stands still until a test moves it. Wall and monotonic time move apart where a test says so. */
import { type Clock, createClock } from '../../filters/common/time.ts';

export type MovingClock = Clock &
  Readonly<{
    /** Time passes: both clocks move. */
    pass(ms: number): void;
    /** Somebody sets the wall clock; no time passes. */
    setWall(ms: number): void;
  }>;

export function movingClock(startMs = 1_800_000_000_000): MovingClock {
  let wall = startMs;
  let monotonic = 5_000;
  const clock = createClock(
    () => wall,
    () => monotonic,
  );
  return {
    ...clock,
    pass: (ms) => {
      wall += ms;
      monotonic += ms;
    },
    setWall: (ms) => {
      wall = ms;
    },
  };
}
