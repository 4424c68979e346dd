import { expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { atOnce, inSlices, type Steps } from '../../../filters/common/slices.ts';

/** Steps that each take as long as a slice. */
function* slow(count: number, done: number[] = []): Steps<number> {
  for (let step = 0; step < count; step += 1) {
    const until = performance.now() + limits.sliceMsMax;
    while (performance.now() < until);
    done.push(step);
    yield;
  }
  return count;
}
const never = new AbortController().signal;

test('steps at once give what they return, with nothing in between', () => {
  let others = 0;
  setImmediate(() => {
    others += 1;
  });
  expect(atOnce(slow(3))).toBe(3);
  expect(others).toBe(0);
});

test('in slices other work passes between them', async () => {
  let others = 0;
  const count = (): void => {
    others += 1;
    timer = setImmediate(count);
  };
  let timer = setImmediate(count);
  expect(await inSlices(slow(5), never)).toBe(5);
  clearImmediate(timer);
  expect(others).toBeGreaterThanOrEqual(4);
});

test('work that is given up takes no further step', async () => {
  const done: number[] = [];
  const ending = new AbortController();
  setImmediate(() => ending.abort(new Error('enough')));
  await expect(inSlices(slow(100, done), ending.signal)).rejects.toThrow('enough');
  expect(done.length).toBeLessThan(5);
  await expect(inSlices(slow(1, done), ending.signal)).rejects.toThrow('enough');
  expect(done.length).toBeLessThan(5);
});

test('what a step throws is thrown', async () => {
  function* broken(): Steps<void> {
    yield;
    throw new Error('broken');
  }
  expect(() => atOnce(broken())).toThrow('broken');
  await expect(inSlices(broken(), never)).rejects.toThrow('broken');
});
