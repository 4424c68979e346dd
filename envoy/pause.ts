import { setTimeout } from 'node:timers/promises';

/** A wait that does not keep the process alive. */
export const pause = (ms: number): Promise<void> => setTimeout(ms, undefined, { ref: true });
