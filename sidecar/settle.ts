/** Settlements into the journal, each with its usage event: every record once, whatever fails on the way. */
import type { Journal } from '../filters/common/journal.ts';
import { type Clock, toWireTimestamp, type WireTimestamp } from '../filters/common/time.ts';
import { settlementRecord, usageEvent, usageRecord } from '../filters/metering/usage.ts';
import type { Settlement } from '../filters/metering/use.ts';
import type { Replayed } from './ledger-state.ts';
import type { Metrics } from './metrics.ts';

export type Settler = Readonly<{
  /**
   * Writes what became of one decision. Where a record cannot be written it throws, and given again goes on behind
   * the last one that could. @param line how far the log has been read.
   */
  settle(settlements: readonly Settlement[], line: string): void;
  /** Writes what a crash cut off behind the last settlement of the sidecar before. */
  finish(cut: NonNullable<Replayed['cut']>): void;
  onSettled(listener: (settlement: Settlement) => void): void;
}>;

export function createSettler(deps: { journal: Journal; clock: Clock; metrics: Metrics }): Settler {
  const { journal, clock, metrics } = deps;
  const listeners: ((settlement: Settlement) => void)[] = [];
  /** Records already written of decisions whose others could not be. */
  const written = new Map<string, number>();
  const now = (): WireTimestamp => toWireTimestamp(clock.now());

  return {
    settle: (settlements, line) => {
      const id = settlements[0]?.facts.id ?? '';
      let record = 0;
      const write = (append: () => void): void => {
        record += 1;
        if (record <= (written.get(id) ?? 0)) return;
        append();
        written.set(id, record);
      };
      for (const one of settlements) {
        write(() => journal.append(settlementRecord(one, now(), line)));
        const at = now();
        const event = usageEvent(one, at);
        if (event !== undefined) write(() => journal.append(usageRecord(one.facts, event, at)));
      }
      written.delete(id);
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
      if (event !== undefined) journal.append(usageRecord(facts, event, at));
      if (missing <= 0) return;
      const unknown: Settlement = { ...told, kind: 'Unknown', calls: missing, bytesIn: 0, bytesOut: 0 };
      journal.append(settlementRecord(unknown, now(), record.line));
    },
    onSettled: (listener) => void listeners.push(listener),
  };
}
