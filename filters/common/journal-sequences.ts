/**
 * The number of each record within its agent, from 1 and without gaps, so that a missing one shows. Kept in
 * `journal/sequences.json` as of one place in the journal; what was written after it is counted from the lines.
 *
 *   sequences.json ── as of ──▶ decisions-0000000008.jsonl, byte 0      written when a file is begun, and at a close
 *                                └─ lines after it ──▶ the numbers now
 */
import { closeSync, existsSync, fsyncSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { type JournalPlace, linesFrom } from './journal-lines.ts';
import { decodeLine } from './journal-record.ts';
import { openPrivateFile, syncDirectory } from './private-files.ts';

export type Sequences = Readonly<{
  /** The number of the agent's next record. Throws StateUnavailable for one agent too many. */
  next(agent: string): number;
  /** The record with this number is written. */
  took(agent: string, seq: number): void;
  /** What was counted so far belongs to this place. */
  save(place: JournalPlace): void;
}>;

export const sequencesFile = 'sequences.json';

type Snapshot = Readonly<{ place: JournalPlace; agents: ReadonlyMap<string, number> }>;

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

function readSnapshot(path: string): Snapshot | undefined {
  if (!existsSync(path)) return undefined;
  const damaged = (cause?: unknown): SallyportError =>
    new SallyportError('StateUnavailable', `${path} is damaged: put back a backup of the state directory`, {
      cause,
    });
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw damaged(cause);
  }
  if (typeof value !== 'object' || value === null) throw damaged();
  const { file, offset, agents } = { file: undefined, offset: undefined, agents: undefined, ...value };
  if (typeof file !== 'string' || !isCount(offset) || typeof agents !== 'object' || agents === null)
    throw damaged();
  const counts = new Map<string, number>();
  for (const [agent, seq] of Object.entries<unknown>(agents)) {
    if (!isCount(seq)) throw damaged();
    counts.set(agent, seq);
  }
  return { place: { file, offset }, agents: counts };
}

export function openSequences(directory: string, onError: (error: SallyportError) => void): Sequences {
  const path = join(directory, sequencesFile);
  const snapshot = readSnapshot(path);
  const agents = new Map(snapshot?.agents);
  for (const { bytes, file, offset } of linesFrom(directory, snapshot?.place)) {
    const line = bytes === undefined ? undefined : decodeLine(bytes);
    if (line?.kind !== 'record' || line.sequenced === undefined) continue;
    const { agent } = line.record;
    const { seq } = line.sequenced;
    const before = agents.get(agent) ?? 0;
    if (seq !== before + 1)
      onError(
        new SallyportError(
          'StateUnavailable',
          `the journal has record ${seq} of agent ${JSON.stringify(agent)} after record ${before} (${file}, byte ${offset})`,
        ),
      );
    // A number that was given once is never given again, whatever became of its line.
    agents.set(agent, Math.max(before, seq));
  }

  return {
    next: (agent) => {
      const before = agents.get(agent);
      if (before === undefined && agents.size >= limits.journalAgentsMax)
        throw new SallyportError(
          'StateUnavailable',
          `the journal counts the records of at most ${limits.journalAgentsMax} agents`,
        );
      return (before ?? 0) + 1;
    },
    took: (agent, seq) => agents.set(agent, seq),
    save: ({ file, offset }) => {
      const partial = `${path}.tmp`;
      const fd = openPrivateFile(partial, 'w');
      try {
        writeFileSync(fd, JSON.stringify({ file, offset, agents: Object.fromEntries(agents) }));
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      renameSync(partial, path);
      syncDirectory(directory);
    },
  };
}
