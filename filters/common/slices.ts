/** Long work in steps, so that it can be done at once or in between other work. */
import { setImmediate } from 'node:timers/promises';
import { limits } from '../../config/limits.ts';

/** Yields after every piece of work that is small by itself. */
export type Steps<T> = Generator<void, T, void>;

export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** Lets other work pass whenever `sliceMsMax` have gone by. Rejects with the signal's reason. */
export async function inSlices<T>(steps: Steps<T>, signal: AbortSignal): Promise<T> {
  let since = performance.now();
  for (;;) {
    signal.throwIfAborted();
    const step = steps.next();
    if (step.done === true) return step.value;
    if (performance.now() - since < limits.sliceMsMax) continue;
    await setImmediate();
    since = performance.now();
  }
}
