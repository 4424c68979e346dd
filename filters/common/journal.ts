/**
 * The decision journal: every decision, hold transition and usage is appended before the answer leaves.
 * A plain decision is written (survives the process) and synced in batches (survives the machine).
 */
import type { JournalRecord } from './record.ts';

export interface Journal {
  /**
   * Writes the records, all or none. Throws SallyportError `StateUnavailable` when they cannot be written whole;
   * the caller then denies.
   */
  append(...records: readonly JournalRecord[]): void;
  /** The newest records, newest first, at most `limit`. */
  tail(limit: number): JournalRecord[];
  /** One record by the id of its decision. */
  find(decisionId: string): JournalRecord | undefined;
  close(): void;
}
