/** A ledger as the sidecar opens it, with what a test looks at. */
import { join } from 'node:path';
import pino from 'pino';
import type { Ids } from '../../filters/common/ids.ts';
import type { Journal } from '../../filters/common/journal.ts';
import { linesFrom } from '../../filters/common/journal-lines.ts';
import { decodeLine } from '../../filters/common/journal-record.ts';
import type { JournalRecord } from '../../filters/common/record.ts';
import type { Clock } from '../../filters/common/time.ts';
import type { HoldStore } from '../../filters/oversight/holds.ts';
import { createIncidents } from '../../sidecar/incidents.ts';
import { type Ledger, openLedger } from '../../sidecar/ledger.ts';
import { createMetrics, type Metrics } from '../../sidecar/metrics.ts';
import { observeRefusal } from '../../sidecar/observe.ts';

export type LedgerParts = Readonly<{
  stateDir: string;
  journal: Journal;
  holds?: Pick<HoldStore, 'settle'>;
  ids: Ids;
  clock: Clock;
  metrics?: Metrics;
}>;

export function testLedger(parts: LedgerParts): Ledger {
  const { stateDir, journal, ids, clock, metrics = createMetrics() } = parts;
  const log = pino({ level: process.env['TEST_LOG'] ?? 'silent' });
  const noHolds: Pick<HoldStore, 'settle'> = {
    settle: (id) => {
      throw new Error(`no hold ${id} is part of this test`);
    },
  };
  const incidents = createIncidents({
    ...{ journal, ids, clock, log, metrics },
    onRefusal: observeRefusal(journal, log, metrics),
    onBypass: () => undefined,
  });
  return openLedger({ stateDir, journal, holds: parts.holds ?? noHolds, incidents, clock, log, metrics });
}

/** Records of one type, oldest first. */
export const recordsOf = <T extends JournalRecord['type']>(
  journal: Journal,
  type: T,
  limit = 1_000,
): Extract<JournalRecord, { type: T }>[] =>
  journal
    .tail(limit)
    .filter((record): record is Extract<JournalRecord, { type: T }> => record.type === type)
    .reverse();

/** The same out of the files, however many there are. */
export const journaled = <T extends JournalRecord['type']>(
  stateDir: string,
  type: T,
): Extract<JournalRecord, { type: T }>[] =>
  [...linesFrom(join(stateDir, 'journal'), undefined)]
    .map(({ bytes }) => (bytes === undefined ? undefined : decodeLine(bytes)))
    .map((line) => (line?.kind === 'record' ? line.record : undefined))
    .filter((record): record is Extract<JournalRecord, { type: T }> => record?.type === type);
