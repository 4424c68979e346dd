import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  advance,
  createWindow,
  newestCount,
  slotCounts,
  take,
  windowFrom,
} from '../../../filters/quota/window.ts';

const length = fc.integer({ min: 1_000, max: 100_000 });

it('counts every call of a changed window at least as long as the new length says', () => {
  fc.assert(
    fc.property(
      length,
      length,
      fc.array(fc.nat(5_000), { minLength: 1, maxLength: 50 }),
      fc.nat(100_000),
      (before, after, pauses, wait) => {
        let now = 1_000_000;
        const kept = createWindow(before, now);
        const times: number[] = [];
        for (const pause of pauses) {
          now += pause;
          advance(kept, now);
          take(kept, 1);
          times.push(now);
        }
        const changed = windowFrom(slotCounts(kept, newestCount(kept)), after, now);
        const remembered = times.filter((time) => time > now - before);
        now += wait;
        advance(changed, now);
        expect(changed.used).toBeGreaterThanOrEqual(remembered.filter((time) => time > now - after).length);
      },
    ),
    { numRuns: 200 },
  );
});
