/**
 * Who may still write where content is above its size and too young to go: an agent that wrote much of it within
 * that time is refused, so that it takes neither the records nor the calls of others. Only decisions are refused.
 * What follows from one that was written (its settlement, its hold) has to be written too, and is no more than
 * there were decisions. A record that counts many refusals passes too: it is at most one each `ledgerSweepMs`
 * for each reason, and the ledger waits for it.
 */
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { Written } from '../common/journal-file.ts';
import type { JournalRecord } from '../common/record.ts';
import type { MonotonicClock } from '../common/time.ts';

/** `full`: above the size, with nothing that may go; `over`: above `auditContentTimesMax` times the size. */
export type Fullness = 'free' | 'full' | 'over';

export type ContentRoom = Readonly<{
  /** Why these records may not be written; undefined where they may. */
  refusal(records: readonly JournalRecord[]): SallyportError | undefined;
  wrote(written: readonly Pick<Written, 'record' | 'line'>[]): void;
  /** As retention found it. */
  found(fullness: Fullness): void;
  fullness(): Fullness;
}>;

export function createContentRoom(
  options: Readonly<{
    bytesMax: number;
    /** How long content may not go. */
    windowMs: number;
    monotonicMs: MonotonicClock;
  }>,
): ContentRoom {
  const { bytesMax, windowMs, monotonicMs } = options;
  const shareBytes = bytesMax / limits.auditAgentPartsPerContent;
  let fullness: Fullness = 'free';
  // Bytes of each agent in the window that runs, and in the one before: together at least those of one window.
  let before = new Map<string, number>();
  let current = new Map<string, number>();
  let sinceMs = monotonicMs();

  const roll = (): void => {
    const passedMs = monotonicMs() - sinceMs;
    if (passedMs < windowMs) return;
    before = passedMs < 2 * windowMs ? current : new Map();
    current = new Map();
    sinceMs = passedMs < 2 * windowMs ? sinceMs + windowMs : sinceMs + passedMs;
  };
  const mayWrite = (agent: string): boolean =>
    fullness !== 'over' && (before.get(agent) ?? 0) + (current.get(agent) ?? 0) < shareBytes;

  const isBounded = (record: JournalRecord): boolean =>
    record.type === 'decision' && record.count === undefined;

  return {
    refusal: (records) => {
      if (fullness === 'free') return undefined;
      roll();
      if (records.every((record) => !isBounded(record) || mayWrite(record.agent))) return undefined;
      return new SallyportError(
        'StateUnavailable',
        fullness === 'over'
          ? `the journal has more than ${limits.auditContentTimesMax} times audit.content_bytes_max, ${bytesMax} bytes, and nothing that is old enough to go`
          : `the journal has more than audit.content_bytes_max, ${bytesMax} bytes, nothing that is old enough to go, and of this agent alone more than 1/${limits.auditAgentPartsPerContent} of it`,
      );
    },
    wrote: (written) => {
      roll();
      for (const { record, line } of written)
        current.set(record.agent, (current.get(record.agent) ?? 0) + line.length);
    },
    found: (now) => {
      fullness = now;
    },
    fullness: () => fullness,
  };
}
