/** What every quota store does, whatever keeps it. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { limits } from '../../config/limits.ts';
import type { Debit, DebitResult, QuotaStore } from '../../filters/quota/quota.ts';
import { type MovingClock, movingClock } from '../support/moving-clock.ts';
import { refusalOf } from '../support/refusal.ts';

export type QuotaStoreHarness = Readonly<{
  store(): QuotaStore;
  /** Closes the store and opens it again. */
  restart(): void;
  /** Opens it again as after a kill: the store before it never got to close. */
  kill(): void;
  dispose(): void;
}>;

export type QuotaStoreFactory = (clock: MovingClock, options?: { keysMax?: number }) => QuotaStoreHarness;

export const someDebit = (changes: Partial<Debit> = {}): Debit => ({
  quota: 'per-agent',
  key: 'per-agent\u0000researcher',
  limit: 3,
  windowMs: 60_000,
  kind: 'quota',
  ...changes,
});

const isGranted = (result: DebitResult): result is Extract<DebitResult, { ok: true }> => result.ok;

export function describeQuotaStore(name: string, create: QuotaStoreFactory): void {
  const opened = (options?: { keysMax?: number }) => {
    const clock = movingClock();
    return { clock, harness: create(clock, options) };
  };
  const within = (
    body: (clock: MovingClock, harness: QuotaStoreHarness) => void,
    options?: { keysMax?: number },
  ): void => {
    const { clock, harness } = opened(options);
    try {
      body(clock, harness);
    } finally {
      harness.dispose();
    }
  };
  const slotMs = (windowMs: number): number => Math.ceil(windowMs / limits.quotaSlotsPerWindow);

  describe(`quota store: ${name}`, () => {
    it('grants up to the limit and then tells when one more fits', () => {
      within((clock, harness) => {
        const debit = someDebit();
        for (const used of [1, 2, 3])
          expect(harness.store().debit([debit])).toMatchObject({ ok: true, states: [{ used, limit: 3 }] });
        const refused = harness.store().debit([debit]);
        expect(refused).toMatchObject({ ok: false, debit, state: { used: 3 } });
        if (isGranted(refused)) return;
        expect(refused.retryAfterMs).toBe(refused.state.resetMs);
        clock.pass(refused.retryAfterMs - 1);
        expect(harness.store().debit([debit]).ok).toBe(false);
        clock.pass(1);
        expect(harness.store().debit([debit]).ok).toBe(true);
      });
    });

    it('always refuses a limit of 0', () => {
      within((clock, harness) => {
        const debit = someDebit({ limit: 0 });
        expect(harness.store().debit([debit])).toMatchObject({ ok: false, retryAfterMs: 60_000 });
        clock.pass(600_000);
        expect(harness.store().debit([debit]).ok).toBe(false);
      });
    });

    it('takes from every debit or from none', () => {
      within((_clock, harness) => {
        const wide = someDebit({ key: 'wide', limit: 10 });
        const narrow = someDebit({ key: 'narrow', limit: 1 });
        expect(harness.store().debit([wide, narrow]).ok).toBe(true);
        const refused = harness.store().debit([wide, narrow]);
        expect(refused).toMatchObject({ ok: false, debit: narrow });
        expect(harness.store().peek(wide).used).toBe(1);
        harness.kill();
        expect(harness.store().peek(wide).used).toBe(1);
      });
    });

    it('counts a key twice where two debits name it', () => {
      within((_clock, harness) => {
        const debit = someDebit({ key: 'twice', limit: 3 });
        expect(harness.store().debit([debit, debit]).ok).toBe(true);
        expect(harness.store().debit([debit, debit]).ok).toBe(false);
        expect(harness.store().peek(debit).used).toBe(2);
      });
    });

    it('takes a number of calls at once, all of them or none', () => {
      within((clock, harness) => {
        const debit = someDebit({ limit: 10 });
        expect(harness.store().debit([debit], 7)).toMatchObject({ ok: true, states: [{ used: 7 }] });
        const refused = harness.store().debit([debit], 4);
        expect(refused).toMatchObject({ ok: false, state: { used: 7 } });
        expect(harness.store().debit([debit], 3).ok).toBe(true);
        if (refused.ok) return;
        clock.pass(refused.retryAfterMs);
        expect(harness.store().debit([debit], 4).ok).toBe(true);
        expect(harness.store().debit([debit], 11)).toMatchObject({ ok: false, retryAfterMs: 60_000 });
      });
    });

    it('tells the room that every debit has, and takes nothing by it', () => {
      within((_clock, harness) => {
        const wide = someDebit({ key: 'wide', limit: 100 });
        const narrow = someDebit({ key: 'narrow', limit: 10 });
        expect(harness.store().room([])).toBe(Number.POSITIVE_INFINITY);
        harness.store().debit([narrow], 3);
        expect(harness.store().room([wide, narrow])).toBe(7);
        expect(harness.store().room([narrow, narrow])).toBe(3);
        expect(harness.store().debit([narrow, narrow], 3).ok).toBe(true);
        expect(harness.store().room([narrow])).toBe(1);
        expect(harness.store().room([someDebit({ key: 'narrow', limit: 5 })])).toBe(0);
        expect(harness.store().peek(wide).used).toBe(0);
      });
    });

    it('gives a part of the calls back, and never more than were taken', () => {
      within((_clock, harness) => {
        const debit = someDebit({ limit: 10 });
        const taken = harness.store().debit([debit], 8);
        if (!isGranted(taken)) throw new Error('8 fit into 10');
        harness.store().refund([debit], taken.atMs, 5);
        expect(harness.store().peek(debit).used).toBe(3);
        harness.store().refund([debit], taken.atMs, 5);
        expect(harness.store().peek(debit).used).toBe(0);
        harness.kill();
        expect(harness.store().peek(debit).used).toBeLessThanOrEqual(8);
      });
    });

    it('takes nothing when it is only looked at', () => {
      within((_clock, harness) => {
        const debit = someDebit({ limit: 1 });
        expect(harness.store().peek(debit)).toMatchObject({ name: 'per-agent', used: 0, resetMs: 0 });
        expect(harness.store().peek(debit).used).toBe(0);
        expect(harness.store().debit([debit]).ok).toBe(true);
      });
    });

    it('gives a call back to the time it was taken at, once', () => {
      within((clock, harness) => {
        const debit = someDebit({ limit: 2 });
        const first = harness.store().debit([debit]);
        clock.pass(30_000);
        const second = harness.store().debit([debit]);
        if (!isGranted(first) || !isGranted(second)) throw new Error('two calls fit into a limit of two');
        harness.store().refund([debit], second.atMs);
        expect(harness.store().peek(debit).used).toBe(1);
        harness.store().refund([debit], second.atMs);
        expect(harness.store().peek(debit).used).toBe(1);
        // What is left is the first call, so it leaves when the first call leaves.
        clock.pass(31_000);
        expect(harness.store().peek(debit).used).toBe(0);
        harness.store().refund([debit], first.atMs);
        expect(harness.store().peek(debit).used).toBe(0);
      });
    });

    it('gives nothing back for a call that has already left the window', () => {
      within((clock, harness) => {
        const debit = someDebit({ limit: 1 });
        const early = harness.store().debit([debit]);
        clock.pass(120_000);
        expect(harness.store().debit([debit]).ok).toBe(true);
        if (isGranted(early)) harness.store().refund([debit], early.atMs);
        expect(harness.store().debit([debit]).ok).toBe(false);
      });
    });

    it('remembers exactly across a restart', () => {
      within((_clock, harness) => {
        const debit = someDebit({ limit: 1_000 });
        for (let i = 0; i < 37; i += 1) harness.store().debit([debit]);
        harness.restart();
        expect(harness.store().peek(debit).used).toBe(37);
      });
    });

    it('forgets nothing in a kill and forfeits at most one slice', () => {
      within((clock, harness) => {
        const debit = someDebit({ limit: 1_000 });
        const slice = Math.ceil(1_000 / limits.quotaSlicesPerWindow);
        let granted = 0;
        for (let i = 0; i < 40; i += 1) {
          if (harness.store().debit([debit]).ok) granted += 1;
          if (i % 7 === 0) clock.pass(1_000);
        }
        harness.kill();
        const { used } = harness.store().peek(debit);
        expect(used).toBeGreaterThanOrEqual(granted);
        expect(used).toBeLessThanOrEqual(granted + slice);
      });
    });

    it('frees nothing when the wall clock is set back or far forward while it runs', () => {
      within((clock, harness) => {
        const debit = someDebit({ limit: 1 });
        expect(harness.store().debit([debit]).ok).toBe(true);
        clock.setWall(0);
        expect(harness.store().debit([debit]).ok).toBe(false);
        clock.setWall(4_000_000_000_000);
        expect(harness.store().debit([debit]).ok).toBe(false);
        clock.pass(61_000);
        expect(harness.store().debit([debit]).ok).toBe(true);
      });
    });

    it('frees nothing when the wall clock went back across a restart', () => {
      within((clock, harness) => {
        const debit = someDebit({ limit: 1 });
        harness.store().debit([debit]);
        clock.setWall(clock.wallMs() - 86_400_000);
        harness.restart();
        expect(harness.store().debit([debit]).ok).toBe(false);
        clock.pass(61_000);
        expect(harness.store().debit([debit]).ok).toBe(true);
      });
    });

    it('keeps what it counted when the policy changes limit or window', () => {
      within((clock, harness) => {
        for (let i = 0; i < 3; i += 1) harness.store().debit([someDebit()]);
        expect(harness.store().debit([someDebit({ limit: 2 })]).ok).toBe(false);
        expect(harness.store().debit([someDebit({ limit: 4 })]).ok).toBe(true);
        const hour = someDebit({ limit: 4, windowMs: 3_600_000 });
        expect(harness.store().peek(hour).used).toBe(4);
        expect(harness.store().debit([hour]).ok).toBe(false);
        clock.pass(61_000);
        expect(harness.store().debit([hour]).ok).toBe(false);
      });
    });

    it('forgets only keys whose windows are empty, and is overloaded when none is', () => {
      within(
        (clock, harness) => {
          const keyed = (key: string): Debit[] => [someDebit({ key })];
          harness.store().debit(keyed('a'));
          harness.store().debit(keyed('b'));
          expect(refusalOf(() => harness.store().debit(keyed('c')))).toBe('Overloaded');
          expect(harness.store().debit(keyed('a')).ok).toBe(true);
          clock.pass(130_000);
          expect(harness.store().debit(keyed('c')).ok).toBe(true);
          expect(harness.store().peek(someDebit({ key: 'a' })).used).toBe(0);
        },
        { keysMax: 2 },
      );
    });

    it('never grants more than the limit in any window, whatever the times, kills, clock jumps and refunds', () => {
      const one = <T extends string>(kind: T, msMax: number) =>
        fc.record({ do: fc.constant<string>(kind), ms: fc.nat(msMax) });
      const calls = [
        { weight: 12, arbitrary: one('debit', 400) },
        { weight: 2, arbitrary: one('wait', 700) },
      ];
      const troubles = ['refund', 'kill', 'restart', 'set back'].map((kind) => ({
        weight: 1,
        arbitrary: one(kind, 9_000),
      }));
      const length = { minLength: 100, maxLength: 300, size: 'max' } as const;
      const steps = fc.oneof(
        fc.array(fc.oneof(...calls), length),
        fc.array(fc.oneof(...calls, ...troubles), length),
      );
      const run = (limit: number, windowMs: number, plan: readonly { do: string; ms: number }[]): void =>
        within((clock, harness) => {
          const debit = someDebit({ limit, windowMs });
          // Real times of the calls that were granted and not given back.
          let taken: { realMs: number; atMs: number; calls: number }[] = [];
          for (const one of plan) {
            const realMs = clock.monotonicMs();
            if (one.do === 'debit') {
              // Mostly single calls; leases take several at once.
              const calls = one.ms % 10 === 0 ? 1 + (one.ms % 4) : 1;
              const result = harness.store().debit([debit], calls);
              if (result.ok) taken.push({ realMs, atMs: result.atMs, calls });
              const sum = (since: number): number =>
                taken.filter((call) => call.realMs > since).reduce((total, call) => total + call.calls, 0);
              expect(sum(realMs - windowMs)).toBeLessThanOrEqual(limit);
              // A refusal is never for calls that left more than a slot ago; a kill may have forfeited some.
              const late = sum(realMs - windowMs - slotMs(windowMs));
              if (!result.ok && !plan.some(({ do: kind }) => kind !== 'debit' && kind !== 'wait'))
                expect(late + calls).toBeGreaterThan(limit);
              clock.pass(one.ms % 40);
            } else if (one.do === 'wait') clock.pass(one.ms);
            else if (one.do === 'refund') {
              const given = taken[one.ms % Math.max(1, taken.length)];
              if (given === undefined) continue;
              harness.store().refund([debit], given.atMs, given.calls);
              taken = taken.filter((call) => call !== given);
            } else if (one.do === 'set back') clock.setWall(clock.wallMs() - one.ms);
            else if (one.do === 'kill') harness.kill();
            else harness.restart();
          }
        });
      fc.assert(
        fc.property(
          fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 60, max: 150 })),
          fc.integer({ min: limits.quotaWindowMsMin, max: 2_000 }),
          steps,
          run,
        ),
        { numRuns: 60 },
      );
    });
  });
}
