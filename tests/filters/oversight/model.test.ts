import fc from 'fast-check';
import { expect, it } from 'vitest';
import { openDatabase } from '../../../filters/common/database.ts';
import type { HoldState } from '../../../filters/oversight/holds.ts';
import { someHoldStore } from '../../support/hold-store.ts';
import { type MovingClock, movingClock } from '../../support/moving-clock.ts';
import { refusalOf } from '../../support/refusal.ts';
import { digestOf, someHold } from '../../support/some-hold.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const quorum = 2;
const timeoutMs = 10_000;
const members = ['dana', 'lee', 'sam'];
const letters = ['a', 'b', 'c'];

/** What a hold should be, without a store: the rules of `holds.ts` spelled as plainly as they go. */
type Modelled = {
  readonly id: string;
  readonly letter: string;
  readonly expiresMs: number;
  readonly approvedBy: Set<string>;
  state: HoldState;
  told: boolean;
  /** How often the request went out. */
  released: number;
};

function createModel(clock: MovingClock) {
  const holds: Modelled[] = [];
  const isOpen = ({ state }: Modelled) => state === 'Pending' || state === 'Approved';
  const isDue = (hold: Modelled) => isOpen(hold) && hold.expiresMs <= clock.wallMs();
  const endIfDue = (hold: Modelled) => {
    if (isDue(hold)) hold.state = 'TimedOut';
  };
  const meets = (hold: Modelled): boolean =>
    isOpen(hold) ||
    hold.state === 'Unknown' ||
    (['Denied', 'TimedOut', 'Cancelled'].includes(hold.state) && !hold.told);
  return {
    holds,
    add: (id: string, letter: string) =>
      holds.push({
        id,
        letter,
        expiresMs: clock.wallMs() + timeoutMs,
        approvedBy: new Set(),
        state: 'Pending',
        told: false,
        released: 0,
      }),
    openOf: (letter: string) => {
      const open = holds.find((hold) => hold.letter === letter && isOpen(hold));
      if (open !== undefined) endIfDue(open);
      return open?.state === 'TimedOut' ? undefined : open;
    },
    metBy: (letter: string) => {
      const found = holds.findLast((hold) => hold.letter === letter && meets(hold));
      if (found !== undefined) endIfDue(found);
      return found;
    },
    endIfDue,
    isDue,
  };
}

const step = fc.record({
  do: fc.constantFrom(
    'open',
    'approve',
    'approve',
    'deny',
    'cancel',
    'consume',
    'consume',
    'settle',
    'acknowledge',
    'find',
    'expire',
    'pass',
    'restart',
  ),
  pick: fc.nat(50),
  letter: fc.constantFrom(...letters),
  by: fc.constantFrom(...members),
});

function runPlan(plan: readonly Readonly<{ do: string; pick: number; letter: string; by: string }>[]): void {
  const clock = movingClock();
  const file = `${temporaryDirectory()}/holds.db`;
  const open = () => {
    // Durability has a test of its own; this one is about states, and needs many.
    const db = openDatabase(file, { synchronous: 'NORMAL' });
    return {
      db,
      store: someHoldStore(db, clock, { membersOf: () => members }),
    };
  };
  let { db, store } = open();
  const model = createModel(clock);
  for (const one of plan) {
    // Holds made lately are picked more often: old ones are mostly ended.
    const hold = model.holds.at(-1 - (one.pick % Math.max(1, Math.min(3, model.holds.length))));
    const id = hold === undefined ? undefined : store.list({ limit: 100 }).find((h) => h.id === hold.id)?.id;
    if (one.do === 'open') {
      const expected = model.openOf(one.letter);
      const opened = store.open(someHold({ digest: digestOf(one.letter), quorum, timeoutMs }));
      if (expected === undefined) model.add(opened.id, one.letter);
      else expect(opened).toMatchObject({ id: expected.id, state: expected.state });
    } else if (one.do === 'find') {
      const found = store.findForRequest(someHold().agent, digestOf(one.letter));
      const expected = model.metBy(one.letter);
      expect([found?.id, found?.state]).toEqual([expected?.id, expected?.state]);
    } else if (one.do === 'expire') {
      const due = model.holds.filter(model.isDue);
      expect(store.expire()).toBe(due.length);
      due.forEach(model.endIfDue);
    } else if (one.do === 'pass') clock.pass(one.pick * 150);
    else if (one.do === 'restart') {
      db.close();
      ({ db, store } = open());
      const unknown = model.holds.filter(({ state }) => state === 'Released');
      expect(store.recover()).toBe(unknown.length);
      for (const lost of unknown) lost.state = 'Unknown';
    } else if (hold !== undefined && id !== undefined) {
      if (one.do === 'consume') {
        const may = hold.state === 'Approved' && !model.isDue(hold);
        expect(store.consume(id)).toBe(may);
        if (may) {
          hold.state = 'Released';
          hold.released += 1;
        }
      } else if (one.do === 'acknowledge') {
        store.acknowledge(id);
        if (['Denied', 'TimedOut', 'Cancelled'].includes(hold.state)) hold.told = true;
      } else if (one.do === 'settle') {
        const may = hold.state === 'Released' || hold.state === 'Unknown';
        expect(refusalOf(() => store.settle(id, 'Sent', one.by))).toBe(may ? 'none' : 'HoldNotPending');
        if (may) hold.state = 'Sent';
      } else {
        model.endIfDue(hold);
        const mayCancel = hold.state === 'Approved' && one.do === 'cancel';
        const may = hold.state === 'Pending' || mayCancel;
        const act = { approve: store.approve, deny: store.deny, cancel: store.cancel }[one.do];
        expect(refusalOf(() => act?.(id, one.by, ''))).toBe(may ? 'none' : 'HoldNotPending');
        if (may && one.do === 'deny') hold.state = 'Denied';
        if (may && one.do === 'cancel') hold.state = 'Cancelled';
        if (may && one.do === 'approve') {
          hold.approvedBy.add(one.by);
          if (hold.approvedBy.size >= quorum) hold.state = 'Approved';
        }
      }
    }
    for (const kept of store.list({ limit: 100 }))
      expect(kept.state).toBe(model.holds.find((modelled) => modelled.id === kept.id)?.state);
  }
  expect(model.holds.every(({ released }) => released <= 1)).toBe(true);
  db.close();
}

it('does what the model does, whatever comes in whatever order', () => {
  fc.assert(fc.property(fc.array(step, { minLength: 30, maxLength: 80, size: 'max' }), runPlan), {
    numRuns: 40,
  });
});
