/** What every journal does, whatever keeps it. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { limits } from '../../config/limits.ts';
import type { Journal } from '../../filters/common/journal.ts';
import { refusalOf } from '../support/refusal.ts';
import { someDecision, someHoldRecord } from '../support/some-record.ts';

export type JournalHarness = Readonly<{
  journal(): Journal;
  restart(): void;
  /** Opens it again as after a kill: the journal before it never got to close. */
  kill(): void;
  dispose(): void;
}>;

export function describeJournal(name: string, create: () => JournalHarness): void {
  const within = (body: (harness: JournalHarness) => void): void => {
    const harness = create();
    try {
      body(harness);
    } finally {
      harness.dispose();
    }
  };
  const numbered = (count: number) =>
    Array.from({ length: count }, (_, i) => someDecision({ id: `dec_${String(i).padStart(26, '0')}` }));

  describe(`journal: ${name}`, () => {
    it('gives back the newest records first, as many as are asked for', () => {
      within(({ journal }) => {
        expect(journal().tail(5)).toEqual([]);
        const records = [...numbered(4), someHoldRecord()];
        for (const record of records) journal().append(record);
        expect(journal().tail(3)).toEqual(records.slice(2).reverse());
        expect(journal().tail(100)).toEqual(records.toReversed());
        expect(journal().tail(0)).toEqual([]);
      });
    });

    it('finds a decision by its id, and only a decision', () => {
      within(({ journal }) => {
        const records = numbered(50);
        for (const record of records) journal().append(record);
        journal().append(someHoldRecord({ id: 'hold_1' }));
        for (const index of [0, 25, 49])
          expect(journal().find(records[index]?.id ?? '')).toEqual(records[index]);
        expect([journal().find('dec_nothing'), journal().find('hold_1'), journal().find('')]).toEqual([
          undefined,
          undefined,
          undefined,
        ]);
      });
    });

    it('is not misled by a caller who writes like a journal', () => {
      within(({ journal }) => {
        const forged = `\n${JSON.stringify(someDecision({ id: 'dec_forged' }))}\n`;
        const record = someDecision({ id: 'dec_real', resource: forged, why: '"id":"dec_forged"' });
        journal().append(record);
        expect(journal().find('dec_forged')).toBeUndefined();
        expect(journal().tail(10)).toEqual([record]);
      });
    });

    it('has everything after a restart and after a kill', () => {
      within(({ journal, restart, kill }) => {
        const records = numbered(30);
        records.forEach((record, i) => {
          journal().append(record);
          if (i % 7 === 3) restart();
          if (i % 5 === 4) kill();
        });
        expect(journal().tail(100)).toEqual(records.toReversed());
      });
    });

    it('shortens what a caller made long, and refuses what stays too large', () => {
      within(({ journal }) => {
        journal().append(someDecision({ resource: '\u0000'.repeat(limits.pathBytesMax), rule: 'kept' }));
        const [kept] = journal().tail(1);
        expect(kept).toMatchObject({ rule: 'kept' });
        expect(kept?.resource.length).toBeLessThan(limits.journalLongFieldCharsMax + 50);
        const rule = 'x'.repeat(limits.journalRecordBytesMax);
        expect(refusalOf(() => journal().append(someDecision({ rule })))).toBe('RequestTooLarge');
        expect(journal().tail(10)).toHaveLength(1);
      });
    });

    it('refuses to write after it was closed', () => {
      within(({ journal }) => {
        journal().close();
        journal().close();
        expect(refusalOf(() => journal().append(someDecision()))).toBe('StateUnavailable');
      });
    });

    it('gives any text back as it was', () => {
      within(({ journal }) => {
        const text = fc.string({ unit: 'grapheme-composite' });
        const any = fc.oneof(text, fc.string({ unit: 'binary' }), fc.constantFrom('\ud800', '\u2028'));
        fc.assert(
          fc.property(any, any, (why, rule) => {
            const record = someDecision({ why, rule });
            journal().append(record);
            expect(journal().tail(1)).toEqual([record]);
          }),
          { numRuns: 200 },
        );
      });
    });
  });
}
