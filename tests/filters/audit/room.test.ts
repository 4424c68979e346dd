import { expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { createContentRoom } from '../../../filters/audit/room.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { someDecision, someHoldRecord, someSettlement } from '../../support/some-record.ts';

const day = 86_400_000;
const bytesMax = 1_000;
const share = bytesMax / limits.auditAgentPartsPerContent;

const world = () => {
  const clock = movingClock();
  const room = createContentRoom({ bytesMax, windowMs: day, monotonicMs: clock.monotonicMs });
  const wrote = (agent: string, bytes: number): void =>
    room.wrote([{ record: someDecision({ agent }), line: Buffer.alloc(bytes) }]);
  const mayDecide = (agent: string): boolean => room.refusal([someDecision({ agent })]) === undefined;
  return { clock, room, wrote, mayDecide };
};

test('while there is room everybody writes, whatever they have written', () => {
  const { room, wrote, mayDecide } = world();
  wrote('robot', bytesMax);
  expect(mayDecide('robot')).toBe(true);
  room.found('full');
  room.found('free');
  expect(mayDecide('robot')).toBe(true);
});

test('where it is full, who has written a share of it is refused, and nobody else', () => {
  const { room, wrote, mayDecide } = world();
  wrote('robot', share);
  wrote('other', share - 1);
  room.found('full');
  expect([mayDecide('robot'), mayDecide('other'), mayDecide('new')]).toEqual([false, true, true]);
  wrote('other', 1);
  expect(mayDecide('other')).toBe(false);
  expect(room.refusal([someDecision({ agent: 'new' }), someDecision({ agent: 'robot' })])).toMatchObject({
    code: 'StateUnavailable',
  });
});

test('what follows from a decision that was written is written too', () => {
  const { room, wrote } = world();
  wrote('robot', bytesMax);
  room.found('over');
  expect(room.refusal([someSettlement({ agent: 'robot' }), someHoldRecord({ agent: 'robot' })])).toBe(
    undefined,
  );
});

test('a count of many refusals is written, whoever has written a share', () => {
  const { room, wrote, mayDecide } = world();
  wrote('', share);
  room.found('full');
  expect(mayDecide('')).toBe(false);
  expect(room.refusal([someDecision({ agent: '', count: 7 })])).toBeUndefined();
});

test('where it is twice as full nobody is let through', () => {
  const { room, mayDecide } = world();
  room.found('over');
  expect(mayDecide('new')).toBe(false);
});

test('what was written is forgotten after one time at the earliest, and after two at the latest', () => {
  const { clock, room, wrote, mayDecide } = world();
  clock.pass(day - 1);
  wrote('robot', share);
  room.found('full');
  clock.pass(day);
  expect(mayDecide('robot')).toBe(false);
  clock.pass(day);
  expect(mayDecide('robot')).toBe(true);
  wrote('robot', share);
  expect(mayDecide('robot')).toBe(false);
  clock.pass(10 * day);
  expect(mayDecide('robot')).toBe(true);
});
