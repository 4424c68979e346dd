/** A ledger with a journal and an access log of its own, and what a kill leaves of them. */
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { SallyportError } from '../../config/errors.ts';
import { createIds } from '../../filters/common/ids.ts';
import type { Journal } from '../../filters/common/journal.ts';
import { openJournal } from '../../filters/common/journal-file.ts';
import type { DecisionRecord } from '../../filters/common/record.ts';
import type { LedgerUse } from '../../filters/metering/use.ts';
import type { Ledger } from '../../sidecar/ledger.ts';
import { createMetrics } from '../../sidecar/metrics.ts';
import { recordsOf, testLedger } from './ledger.ts';
import { movingClock } from './moving-clock.ts';
import { someDecision } from './some-record.ts';
import { decisionId, lineOf, someUse } from './some-use.ts';
import { temporaryDirectory } from './temporary.ts';

export const startMs = 1_800_000_000_000;

export function ledgerWorld(stateDir = temporaryDirectory()) {
  const clock = movingClock(startMs);
  const ids = createIds(clock);
  const file = join(stateDir, 'envoy', 'access.jsonl');
  mkdirSync(join(stateDir, 'envoy'), { recursive: true });
  const world = {
    ...{ stateDir, clock, file },
    metrics: createMetrics(),
    journal: undefined as unknown as Journal,
    written: undefined as unknown as Journal,
    ledger: undefined as unknown as Ledger,
    /** Told to throw by the next appends of these types. */
    refuse: new Set<string>(),
    /** Before the first record of these types a kill cuts the next write off. */
    cut: new Set<string>(),
    isKilled: false,
    start: () => {
      world.written = openJournal(stateDir, { clock });
      const journal: Journal = {
        ...world.written,
        append: (...records) => {
          if (world.isKilled || records.some(({ type }) => world.refuse.has(type)))
            throw new SallyportError('StateUnavailable', 'the disk is full');
          const end = records.findIndex(({ type }) => world.cut.has(type));
          if (end !== 0) world.written.append(...records.slice(0, end === -1 ? records.length : end));
          if (end !== -1) throw new SallyportError('StateUnavailable', 'killed');
        },
      };
      world.ledger = testLedger({ stateDir, journal, ids, clock, metrics: world.metrics });
      world.journal = world.ledger.watch(journal);
    },
    /** What a SIGKILL leaves: from now on nothing is written, neither records nor state. */
    kill: () => {
      const state = join(stateDir, 'ledger.json');
      const kept = readFileSync(state);
      world.isKilled = true;
      try {
        world.ledger.close();
      } catch (thrown) {
        if (!(thrown instanceof SallyportError)) throw thrown;
      }
      world.written.close();
      world.isKilled = false;
      writeFileSync(state, kept);
    },
    stop: () => {
      world.ledger.close();
      world.written.close();
    },
    allow: (number: number, changes: Partial<DecisionRecord> = {}) =>
      world.journal.append(someDecision({ id: decisionId(number), ...changes })),
    log: (...uses: Partial<LedgerUse>[]) => {
      for (const one of uses) {
        const use = someUse(one);
        appendFileSync(file, `${lineOf(use, `e1-${use.stream}`)}\n`);
      }
    },
    read: () => {
      while (world.ledger.turn() === 'more');
    },
    settled: () =>
      recordsOf(world.written, 'settlement').map(({ id, kind, calls }) => `${id.slice(-2)} ${kind} ${calls}`),
    used: () =>
      recordsOf(world.written, 'usage').map(({ id, event }) => `${id.slice(-2)} ${event.data.calls}`),
    incidents: () => recordsOf(world.written, 'incident').map(({ kind, count }) => `${kind} ${count}`),
    counted: async (name: string): Promise<string[]> => {
      const { text } = await world.metrics.render();
      return text.split('\n').filter((line) => line.startsWith(name));
    },
  };
  world.start();
  onTestFinished(() => world.stop());
  return world;
}
