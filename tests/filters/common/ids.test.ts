import { expect, it } from 'vitest';
import { createIds, isHoldId } from '../../../filters/common/ids.ts';
import { movingClock } from '../../support/moving-clock.ts';

const zeros = (bytes: number) => new Uint8Array(bytes);
const ones = (bytes: number) => new Uint8Array(bytes).fill(255);

it('spells time and randomness as a ULID does', () => {
  // The example of github.com/ulid/spec: time 1469918176385 is 01ARYZ6S41.
  const ids = createIds(movingClock(1_469_918_176_385), zeros);
  expect(ids.decision()).toBe('dec_01ARYZ6S410000000000000000');
  expect(createIds(movingClock(1_469_918_176_385), ones).hold()).toBe('hold_01ARYZ6S41ZZZZZZZZZZZZZZZZ');
});

it('gives ids in the order of time, within a millisecond and while the wall clock is behind', () => {
  const clock = movingClock();
  const ids = createIds(clock);
  const given: string[] = [];
  for (let i = 0; i < 3_000; i += 1) {
    given.push(ids.decision());
    if (i % 100 === 0) clock.pass(1);
    if (i % 700 === 0) clock.setWall(clock.wallMs() - 5_000);
  }
  expect(given).toEqual([...given].sort());
  expect(new Set(given).size).toBe(given.length);
});

it('goes on past the last random number of a millisecond', () => {
  const ids = createIds(movingClock(0), ones);
  expect(ids.decision()).toBe('dec_0000000000ZZZZZZZZZZZZZZZZ');
  expect(ids.decision()).toBe('dec_00000000010000000000000000');
});

it('knows the id of a hold from other text', () => {
  const ids = createIds(movingClock());
  expect(isHoldId(ids.hold())).toBe(true);
  for (const text of [
    '',
    'hold_',
    'hold_81ARYZ6S410000000000000000',
    'hold_01ARYZ6S41000000000000000O',
    'dec_../x',
  ])
    expect(isHoldId(text)).toBe(false);
  expect(isHoldId(ids.decision())).toBe(false);
});
