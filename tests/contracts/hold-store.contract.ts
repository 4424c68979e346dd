/** What every hold store does, whatever keeps it. */
import { describe, expect, it } from 'vitest';
import { limits } from '../../config/limits.ts';
import type { AgentName, HoldId, RuleName } from '../../filters/common/brand.ts';
import type { Hold, HoldStore } from '../../filters/oversight/holds.ts';
import { type MovingClock, movingClock } from '../support/moving-clock.ts';
import { refusalOf } from '../support/refusal.ts';
import { digestOf, someHold } from '../support/some-hold.ts';

export type HoldStoreHarness = Readonly<{
  store(): HoldStore;
  restart(): void;
  /** A second store over the same holds, as another process has it. */
  other(): HoldStore;
  dispose(): void;
}>;

export type HoldStoreFactory = (
  clock: MovingClock,
  options: {
    membersOf(group: string): readonly string[];
    openMax?: number;
    openPerAgentMax?: number;
    keptTerminalMax?: number;
  },
) => HoldStoreHarness;

const noSuchHold = 'hold_01ARZ3NDEKTSV4RRFFQ69G5FAV' as HoldId;

export function describeHoldStore(name: string, create: HoldStoreFactory): void {
  type Options = Partial<Parameters<HoldStoreFactory>[1]>;
  const within = (
    body: (store: HoldStore, clock: MovingClock, harness: HoldStoreHarness) => void,
    options: Options = {},
  ): void => {
    const clock = movingClock();
    const membersOf = (group: string) => (group === 'maintainers' ? ['dana', 'lee', 'deployer'] : []);
    const harness = create(clock, { membersOf, ...options });
    try {
      body(harness.store(), clock, harness);
    } finally {
      harness.dispose();
    }
  };

  describe(`hold store: ${name}`, () => {
    it('opens a hold that reads back as it was asked for', () => {
      within((store, clock, harness) => {
        const asked = someHold();
        const hold = store.open(asked);
        const { timeoutMs, ...same } = asked;
        expect(hold).toMatchObject({
          ...same,
          state: 'Pending',
          createdMs: clock.wallMs(),
          expiresMs: clock.wallMs() + timeoutMs,
          decidedMs: undefined,
          approvals: [],
        });
        harness.restart();
        expect(harness.store().get(hold.id)).toEqual(hold);
      });
    });

    it('attaches a repeat of the request to the hold that is open', () => {
      within((store) => {
        const first = store.open(someHold());
        expect(store.open(someHold()).id).toBe(first.id);
        store.approve(first.id, 'dana', '');
        expect(store.open(someHold())).toMatchObject({ id: first.id, state: 'Approved' });
        for (const other of [
          { digest: digestOf('e') },
          { agent: 'researcher' as AgentName },
          { rule: 'other' as RuleName },
        ])
          expect(store.open(someHold(other)).id).not.toBe(first.id);
        expect(store.counts()).toMatchObject({ Approved: 1, Pending: 3 });
      });
    });

    it('cancels the open hold that an earlier text of the rule opened', () => {
      within((store) => {
        const old = store.open(someHold());
        store.approve(old.id, 'dana', '');
        const fresh = store.open(someHold({ ruleDigest: digestOf('b') }));
        expect(fresh).toMatchObject({ state: 'Pending' });
        expect(store.get(old.id)).toMatchObject({ state: 'Cancelled', note: 'the rule changed' });
        expect(store.consume(old.id)).toBe(false);
        expect(store.findForRequest(old.agent, old.digest)?.id).toBe(fresh.id);
      });
    });

    it('releases an approved hold once, whoever asks', () => {
      within((store, _clock, harness) => {
        const { id } = store.open(someHold());
        expect(store.consume(id)).toBe(false);
        expect(store.approve(id, 'dana', 'go')).toMatchObject({
          state: 'Approved',
          decidedBy: 'dana',
          note: 'go',
        });
        expect([harness.other().consume(id), store.consume(id), store.consume(id)]).toEqual([
          true,
          false,
          false,
        ]);
        expect(store.get(id)?.state).toBe('Released');
        expect(store.findForRequest(someHold().agent, someHold().digest)).toBeUndefined();
        expect(store.settle(id, 'Sent', 'data plane')).toMatchObject({
          state: 'Sent',
          settledBy: 'data plane',
          decidedBy: 'dana',
        });
        expect(refusalOf(() => store.settle(id, 'NotSent', 'data plane'))).toBe('HoldNotPending');
      });
    });

    it('lets only the first decision stand', () => {
      within((store, _clock, harness) => {
        const { id } = store.open(someHold());
        store.deny(id, 'lee', 'no');
        for (const late of [
          () => harness.other().approve(id, 'dana', ''),
          () => store.deny(id, 'dana', ''),
          () => store.cancel(id, 'dana', ''),
          () => store.settle(id, 'Sent', 'dana'),
        ])
          expect(refusalOf(late)).toBe('HoldNotPending');
        expect(store.get(id)).toMatchObject({ state: 'Denied', decidedBy: 'lee', note: 'no' });
      });
    });

    it('waits for as many different members as the quorum says', () => {
      within((store) => {
        const { id } = store.open(someHold({ quorum: 2 }));
        expect(store.approve(id, 'dana', '').state).toBe('Pending');
        expect(store.approve(id, 'dana', 'again').approvals).toHaveLength(1);
        expect(store.approve(id, 'lee', '')).toMatchObject({ state: 'Approved', decidedBy: 'lee' });
      });
    });

    it('does not count the approval of somebody who is no member any more', () => {
      const members = ['dana', 'lee', 'sam'];
      within(
        (store) => {
          const { id } = store.open(someHold({ quorum: 2 }));
          store.approve(id, 'dana', '');
          members.shift();
          expect(store.approve(id, 'lee', '').state).toBe('Pending');
          expect(store.approve(id, 'sam', '').state).toBe('Approved');
        },
        { membersOf: () => members },
      );
    });

    it('lets nobody decide but members, and not the requester', () => {
      within((store) => {
        const { id } = store.open(someHold());
        for (const by of ['mallory', 'deployer', 'Dana', '']) {
          const refusals = [() => store.approve(id, by, ''), () => store.deny(id, by, '')].map(refusalOf);
          expect(refusals).toEqual(Array(2).fill(by === '' ? 'RequestMalformed' : 'ApproverNotAllowed'));
        }
        const unknownGroup = store.open(someHold({ approvers: 'gone', digest: digestOf('e') }));
        expect(refusalOf(() => store.approve(unknownGroup.id, 'dana', ''))).toBe('ApproverNotAllowed');
        const lenient = store.open(someHold({ notRequester: false, digest: digestOf('f') }));
        expect(store.approve(lenient.id, 'deployer', '').state).toBe('Approved');
        expect(store.get(id)?.state).toBe('Pending');
      });
    });

    it('times out what nobody decided, and what was approved and not used', () => {
      within((store, clock) => {
        const pending = store.open(someHold());
        const approved = store.open(someHold({ digest: digestOf('e') }));
        store.approve(approved.id, 'dana', '');
        clock.pass(59_999);
        expect(store.expire()).toBe(0);
        clock.pass(1);
        expect(store.consume(approved.id)).toBe(false);
        expect(refusalOf(() => store.approve(pending.id, 'dana', ''))).toBe('HoldNotPending');
        expect(store.expire()).toBe(1);
        for (const { id } of [pending, approved])
          expect(store.get(id)).toMatchObject({ state: 'TimedOut', decidedBy: '' });
      });
    });

    it('meets a repeat past the time with the time-out, and an opening with a new hold', () => {
      within((store, clock) => {
        const first = store.open(someHold());
        clock.pass(60_000);
        expect(store.findForRequest(first.agent, first.digest)).toMatchObject({
          id: first.id,
          state: 'TimedOut',
        });
        expect(store.open(someHold()).id).not.toBe(first.id);
      });
    });

    it('does not let an approval live on because the clock was set back', () => {
      within((store, clock) => {
        const { id } = store.open(someHold());
        store.approve(id, 'dana', '');
        clock.pass(60_000);
        expect(store.get(id)?.state).toBe('Approved');
        clock.now();
        clock.setWall(clock.wallMs() - 30_000);
        expect(store.consume(id)).toBe(false);
      });
    });

    it('does not let an approval live on because the clock jumped forward and back', () => {
      within((store, clock) => {
        const startMs = clock.wallMs();
        clock.setWall(startMs + 365 * 24 * 3_600_000);
        const { id } = store.open(someHold());
        clock.setWall(startMs);
        store.approve(id, 'dana', '');
        clock.pass(59_999);
        expect(store.expire()).toBe(0);
        clock.pass(1);
        expect(store.consume(id)).toBe(false);
        expect(store.expire()).toBe(1);
      });
    });

    it('ends no hold because the clock was set forward', () => {
      within((store, clock) => {
        clock.setWall(clock.wallMs() + 365 * 24 * 3_600_000);
        const { id } = store.open(someHold());
        store.approve(id, 'dana', '');
        expect(store.expire()).toBe(0);
        expect(store.consume(id)).toBe(true);
      });
    });

    it('tells a caller an outcome until it is acknowledged', () => {
      within((store) => {
        const { id, agent, digest } = store.open(someHold());
        store.deny(id, 'dana', '');
        expect(store.findForRequest(agent, digest)?.state).toBe('Denied');
        store.acknowledge(id);
        expect(store.findForRequest(agent, digest)).toBeUndefined();
        expect(store.open(someHold()).state).toBe('Pending');
      });
    });

    it('makes what was released when a process died Unknown, until somebody settles it', () => {
      within((store, _clock, harness) => {
        const { id, agent, digest } = store.open(someHold());
        store.approve(id, 'dana', '');
        store.consume(id);
        harness.restart();
        const again = harness.store();
        expect(again.recover()).toBe(1);
        expect(again.recover()).toBe(0);
        expect(again.consume(id)).toBe(false);
        again.acknowledge(id);
        expect(again.findForRequest(agent, digest)).toMatchObject({ id, state: 'Unknown' });
        expect(again.settle(id, 'NotSent', 'dana').state).toBe('NotSent');
        expect(again.findForRequest(agent, digest)).toBeUndefined();
      });
    });

    it('opens no more than may be open, in all and for one agent', () => {
      within(
        (store) => {
          const open = (letter: string, agent: string) =>
            store.open(someHold({ digest: digestOf(letter), agent: agent as AgentName }));
          const first = open('1', 'one');
          open('2', 'one');
          expect(refusalOf(() => open('3', 'one'))).toBe('HoldLimitReached');
          open('3', 'two');
          expect(refusalOf(() => open('4', 'two'))).toBe('HoldLimitReached');
          expect(open('1', 'one').id).toBe(first.id);
          store.cancel(first.id, 'dana', '');
          expect(open('4', 'two').state).toBe('Pending');
        },
        { openMax: 3, openPerAgentMax: 2 },
      );
    });

    it('forgets the oldest ended holds past the limit, and never an open or unknown one', () => {
      within(
        (store) => {
          const open = store.open(someHold({ digest: digestOf('0') }));
          const unknown = store.open(someHold({ digest: digestOf('f') }));
          store.approve(unknown.id, 'dana', '');
          store.consume(unknown.id);
          store.recover();
          const ended = [...'123456789'].map((letter) => {
            const { id } = store.open(someHold({ digest: digestOf(letter) }));
            return store.deny(id, 'dana', '').id;
          });
          expect(store.counts().Denied).toBeLessThanOrEqual(4);
          expect(store.get(ended[0] ?? noSuchHold)).toBeUndefined();
          expect(store.get(ended[8] ?? noSuchHold)).toBeDefined();
          expect([store.get(open.id)?.state, store.get(unknown.id)?.state]).toEqual(['Pending', 'Unknown']);
        },
        { keptTerminalMax: 4 },
      );
    });

    it('tells listeners every transition after it can be read by others', () => {
      within((store, clock, harness) => {
        const heard: string[] = [];
        const stop = store.onTransition((hold: Hold) => {
          expect(harness.other().get(hold.id)).toEqual(hold);
          heard.push(hold.state);
        });
        const { id } = store.open(someHold());
        store.open(someHold());
        store.approve(id, 'dana', '');
        store.consume(id);
        store.settle(id, 'Sent', 'data plane');
        store.open(someHold());
        clock.pass(60_000);
        store.expire();
        stop();
        store.open(someHold());
        expect(heard).toEqual(['Pending', 'Approved', 'Released', 'Sent', 'Pending', 'TimedOut']);
      });
    });

    it('fails the caller whose transition a listener could not record, and keeps the transition', () => {
      within((store) => {
        const { id } = store.open(someHold());
        store.approve(id, 'dana', '');
        store.onTransition(() => {
          throw new Error('disk full');
        });
        expect(() => store.consume(id)).toThrow('disk full');
        expect(store.get(id)?.state).toBe('Released');
      });
    });

    it('lists the newest first, by state and agent, page by page', () => {
      within((store) => {
        const holds = [...'12345'].map((letter) => store.open(someHold({ digest: digestOf(letter) })));
        const ids = holds.map((hold) => hold.id).reverse();
        store.deny(ids[0] ?? noSuchHold, 'dana', '');
        const list = (filter: Parameters<HoldStore['list']>[0]) => store.list(filter).map((hold) => hold.id);
        expect(list({ limit: 2 })).toEqual(ids.slice(0, 2));
        expect(list({ limit: 9, before: ids[1] ?? noSuchHold })).toEqual(ids.slice(2));
        expect(list({ limit: 9, states: ['Pending'] })).toEqual(ids.slice(1));
        expect(list({ limit: 9, states: [] })).toEqual([]);
        expect(list({ limit: 9, agent: 'nobody' })).toEqual([]);
        expect(list({ limit: -1 })).toEqual([]);
      });
    });

    it('says that there is no such hold, and what is too long', () => {
      within((store) => {
        const { id } = store.open(someHold());
        const refusals = [
          () => store.approve(noSuchHold, 'dana', ''),
          () => store.deny(noSuchHold, 'dana', ''),
          () => store.cancel(noSuchHold, 'dana', ''),
          () => store.consume(noSuchHold),
          () => store.settle(noSuchHold, 'Sent', 'dana'),
          () => store.acknowledge(noSuchHold),
        ].map(refusalOf);
        expect(refusals).toEqual(Array(6).fill('HoldNotFound'));
        expect(store.get(noSuchHold)).toBeUndefined();
        const note = 'x'.repeat(limits.holdNoteCharsMax + 1);
        expect(refusalOf(() => store.approve(id, 'dana', note))).toBe('RequestTooLarge');
      });
    });
  });
}
