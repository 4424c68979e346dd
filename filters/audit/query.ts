/** Records of the journal by filter, newest or oldest first. Reads files only: no sidecar has to run. */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { linesBackwards, linesOf, withFile } from '../common/journal-lines.ts';
import { decodeLine } from '../common/journal-record.ts';
import { journalFiles } from '../common/journal-segments.ts';
import type { Outcome } from '../common/record.ts';
import { type AuditEntry, entryMs, entryOf } from './entry.ts';
import { isMissing } from './files.ts';

export type AuditFilter = Readonly<{
  /** SPIFFE ID, or what stands after its last slash. */
  agent?: string;
  /** The same, of anybody in the delegation chain. */
  chain?: string;
  /** All of it, or its first word: a method. */
  what?: string;
  /** Any part of it. */
  resource?: string;
  outcome?: Outcome;
  event?: string;
  /** From this time on, and before that one; milliseconds since the epoch. */
  sinceMs?: number;
  untilMs?: number;
}>;

const isNamed = (id: string, name: string): boolean => id === name || id.endsWith(`/${name}`);

export function matches(filter: AuditFilter, entry: AuditEntry): boolean {
  const { agent, chain, what, resource, outcome, event, sinceMs, untilMs } = filter;
  const ms = entryMs(entry);
  return (
    (agent === undefined || isNamed(entry.who, agent)) &&
    (chain === undefined || entry.delegation_chain.some((member) => isNamed(member, chain))) &&
    (what === undefined || entry.what === what || entry.what.startsWith(`${what} `)) &&
    (resource === undefined || entry.resource.includes(resource)) &&
    (outcome === undefined || entry.outcome === outcome) &&
    (event === undefined || entry.event === event) &&
    (sinceMs === undefined || ms >= sinceMs) &&
    (untilMs === undefined || ms < untilMs)
  );
}

/** The entry of a line; undefined for what is erased or no record. Lines of before the journal counted are 0. */
export function entryOfLine(bytes: Buffer): AuditEntry | undefined {
  const line = decodeLine(bytes);
  return line?.kind === 'record' ? entryOf(line.record, line.sequenced?.seq ?? 0) : undefined;
}

/** A record may be younger than its file says, by as much as the clock was set back after it. */
export const clockSlackMs = 24 * 60 * 60 * 1_000;

/** A file whose last change is well before `sinceMs` holds nothing of after it. Pruned meanwhile: holds nothing. */
function mayHold(path: string, sinceMs: number): boolean {
  try {
    return statSync(path).mtimeMs >= sinceMs - clockSlackMs;
  } catch (cause) {
    if (isMissing(cause)) return false;
    throw cause;
  }
}

const filesOf = (directory: string, { sinceMs = Number.NEGATIVE_INFINITY }: AuditFilter): string[] =>
  journalFiles(directory).filter((file) => mayHold(join(directory, file), sinceMs));

/** The newest entries that match, newest first. */
export function newestEntries(directory: string, filter: AuditFilter, limit: number): AuditEntry[] {
  const found: AuditEntry[] = [];
  for (const file of filesOf(directory, filter).reverse()) {
    if (found.length >= limit) break;
    withFile(join(directory, file), (fd, size) => {
      for (const line of linesBackwards(fd, size)) {
        if (found.length >= limit) break;
        const entry = entryOfLine(line);
        if (entry !== undefined && matches(filter, entry)) found.push(entry);
      }
    });
  }
  return found;
}

/** Every entry that matches, oldest first, one at a time. */
export function* entries(directory: string, filter: AuditFilter): Generator<AuditEntry> {
  for (const file of filesOf(directory, filter)) {
    for (const { bytes } of linesOf(directory, file)) {
      const entry = bytes === undefined ? undefined : entryOfLine(bytes);
      if (entry !== undefined && matches(filter, entry)) yield entry;
    }
  }
}
