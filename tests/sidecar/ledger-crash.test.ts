/** Kills of the sidecar at any moment change nothing of what the journal says. */
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import type { JournalRecord } from '../../filters/common/record.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { ledgerWorld } from '../support/ledger-world.ts';
import { decisionId } from '../support/some-use.ts';

/** What one sidecar without any crash would have written. */
type Step =
  | { kind: 'allow'; calls: number }
  | { kind: 'line'; decision: number; ordinal: number; final: boolean; again: boolean }
  | { kind: 'rotate' }
  | { kind: 'read'; saves: boolean }
  | { kind: 'crash' };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant('allow' as const), calls: fc.constantFrom(1, 1, 3) }),
    },
    {
      weight: 8,
      arbitrary: fc.record({
        kind: fc.constant('line' as const),
        decision: fc.nat(12),
        ordinal: fc.integer({ min: 1, max: 4 }),
        final: fc.boolean(),
        again: fc.boolean(),
      }),
    },
    { weight: 1, arbitrary: fc.constant({ kind: 'rotate' } as const) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('read' as const), saves: fc.boolean() }) },
    { weight: 3, arbitrary: fc.constant({ kind: 'crash' } as const) },
  ),
  { maxLength: 40 },
);

/** Runs the steps; crashes and reads only where they are wanted. Gives what the journal then says, without order. */
function run(all: readonly Step[], crashes: boolean): readonly string[] {
  const { ledgerStateMs } = limits;
  const w = ledgerWorld();
  w.ledger.plane.began('e1');
  const open: number[] = [];
  let lines = 0;
  for (const step of all) {
    switch (step.kind) {
      case 'allow':
        w.allow(open.length, step.calls === 1 ? {} : { calls: step.calls, lease_ms: 500 });
        open.push(step.calls);
        break;
      case 'line': {
        const calls = open[step.decision];
        lines += 1;
        const stream = step.again ? `same ${step.decision}.${step.ordinal}` : `${lines}`;
        const decision = calls === undefined ? decisionId(90) : decisionId(step.decision);
        w.log({ decision, stream, final: step.final, ...(calls === 3 ? { ordinal: step.ordinal } : {}) });
        break;
      }
      case 'rotate':
        for (const [from, to] of [
          ['.2', '.3'],
          ['.1', '.2'],
          ['', '.1'],
        ] as const)
          if (existsSync(w.file + from) && !existsSync(w.file + to)) renameSync(w.file + from, w.file + to);
        writeFileSync(w.file, '', { flag: 'a' });
        break;
      case 'read':
        if (!crashes) break;
        Object.assign(limits, { ledgerStateMs: step.saves ? 0 : ledgerStateMs });
        w.read();
        Object.assign(limits, { ledgerStateMs });
        break;
      case 'crash':
        if (!crashes) break;
        w.kill();
        w.start();
        w.ledger.plane.began('e1');
    }
  }
  w.read();
  w.ledger.plane.ended('e1');
  w.clock.pass(100_000);
  w.read();
  const told = (record: JournalRecord): string[] => {
    switch (record.type) {
      case 'settlement':
        return [`${record.id} ${record.kind} ${record.calls} ${record.bytes_in} ${record.bytes_out}`];
      case 'usage':
        return [`${record.id} used ${record.event.data.calls}`];
      case 'incident':
        return [`${record.kind} ${record.decision} ${record.count}`];
      default:
        return [];
    }
  };
  return w.written.tail(1_000).flatMap(told).sort();
}

test('with crashes, rotations and readings anywhere the journal says what it says without any', () => {
  fc.assert(
    fc.property(steps, (all) => {
      expect(run(all, true)).toEqual(run(all, false));
    }),
    { ...fuzzRuns, numRuns: 40 },
  );
}, 60_000);
