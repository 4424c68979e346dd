/** Settlements into the journal, each with its usage event: all records of a decision at once, or none. */
import type { Journal } from '../filters/common/journal.ts';
import { type Clock, toWireTimestamp, type WireTimestamp } from '../filters/common/time.ts';
import { settlementRecord, usageEvent, usageRecord } from '../filters/metering/usage.ts';
import type { Settlement } from '../filters/metering/use.ts';
import type { Replayed } from './ledger-state.ts';
import type { Metrics } from './metrics.ts';

export type Settler = Readonly<{
  /** Writes what became of one decision, or throws. @param line how far the log has been read. */
  settle(settlements: readonly Settlement[], line: string): void;
  /** Writes what a crash cut off behind the last settlement of the sidecar before. */
  finish(cut: NonNullable<Replayed['cut']>): void;
  onSettled(listener: (settlement: Settlement) => void): void;
}>;

export function createSettler(deps: { journal: Journal; clock: Clock; metrics: Metrics }): Settler {
  const { journal, clock, metrics } = deps;
  const listeners: ((settlement: Settlement) => void)[] = [];
  const now = (): WireTimestamp => toWireTimestamp(clock.now());

  return {
    settle: (settlements, line) => {
      const at = now();
      journal.append(
        ...settlements.flatMap((one) => {
          const event = usageEvent(one, at);
          const settled = settlementRecord(one, at, line);
          return event === undefined ? [settled] : [settled, usageRecord(one.facts, event, at)];
        }),
      );
      for (const one of settlements) {
        metrics.add('settledCalls', { kind: one.kind }, one.calls);
        for (const listener of listeners) listener(one);
      }
    },
    finish: ({ facts, record, isUsed, missing }) => {
      const told: Settlement = {
        facts,
        ...{ kind: record.kind, calls: record.calls, bytesIn: record.bytes_in, bytesOut: record.bytes_out },
        ...{ durationMs: record.duration_ms, status: record.status, upstream: record.upstream },
        ...{ firstMs: record.first_ms, lastMs: record.last_ms },
      };
      const at = now();
      const event = isUsed ? undefined : usageEvent(told, at);
      const unknown: Settlement = { ...told, kind: 'Unknown', calls: missing, bytesIn: 0, bytesOut: 0 };
      const records = [
        ...(event === undefined ? [] : [usageRecord(facts, event, at)]),
        ...(missing > 0 ? [settlementRecord(unknown, at, record.line)] : []),
      ];
      if (records.length > 0) journal.append(...records);
    },
    onSettled: (listener) => void listeners.push(listener),
  };
}
