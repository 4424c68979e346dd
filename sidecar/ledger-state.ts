/**
 * What the ledger keeps over a restart: how far it has read, and the decisions that were open then. One file,
 * replaced as a whole, so that place and decisions are always of one moment; what the journal says after that
 * moment is added to it.
 */
import { readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { limits } from '../config/limits.ts';
import type { Place } from '../envoy/log-tail.ts';
import { type JournalPlace, linesFrom, readRange, withFile } from '../filters/common/journal-lines.ts';
import { decodeLine } from '../filters/common/journal-record.ts';
import { journalFiles } from '../filters/common/journal-segments.ts';
import type { JournalRecord, SettlementRecord } from '../filters/common/record.ts';
import type { Clock } from '../filters/common/time.ts';
import { openFactsOf } from '../filters/metering/facts.ts';
import type { OpenDecision, OpenDecisions } from '../filters/metering/open-decisions.ts';
import type { OpenFacts } from '../filters/metering/use.ts';

const count = z.number().min(0);
const totals = z.object({
  ...{ calls: count, bytesIn: count, bytesOut: count, durationMs: count, status: count },
  upstream: z.string(),
  firstMs: count.optional(),
  lastMs: count.optional(),
});
const facts = z.object({
  ...{ id: z.string(), agent: z.string(), chain: z.array(z.string()), policyVersion: z.string() },
  ...{ rule: z.string(), what: z.string(), resource: z.string(), hold: z.string() },
  calls: z.int().min(1).max(limits.leaseCallsMax),
  leaseMs: count.optional(),
  stage: z.enum(['request', 'connect', 'tunnel']),
  atMs: count,
  epoch: z.string(),
});
const use = z.object({
  final: z.boolean(),
  kind: z.enum(['request', 'connect', 'tunnel']),
  ...{ stream: z.string(), decision: z.string(), connectDecision: z.string(), hold: z.string() },
  ordinal: z.int().optional(),
  upstream: z.string(),
  left: z.boolean(),
  ...{ status: count, bytesIn: count, bytesOut: count, durationMs: count, atMs: count },
  ...{ flags: z.string(), details: z.string(), error: z.string(), method: z.string() },
  scheme: z.enum(['http', 'https', 'tcp']),
  ...{ authority: z.string(), path: z.string() },
});
const entry = z.object({
  facts,
  /** Milliseconds since the epoch: a monotonic time means nothing to the next process. */
  endsWallMs: count,
  streams: z.array(z.tuple([z.int(), z.boolean(), use])),
  ended: z.base64().optional(),
  sent: totals,
  notSent: totals,
  connect: z.enum(['none', 'open', 'over']),
  isDoubtful: z.boolean(),
});
const place = z.object({ inode: z.string(), offset: z.int().min(0), before: z.string().max(64) });
const stateSchema = z.object({
  version: z.literal(1),
  places: z.record(z.string(), place),
  journal: z.object({ file: z.string(), offset: z.int().min(0), before: z.string().max(64) }).optional(),
  epoch: z.string(),
  open: z.array(entry).max(limits.ledgerOpenMax),
});

type Kept = z.output<typeof stateSchema>;

const fileOf = (stateDir: string): string => path.join(stateDir, 'ledger.json');

type JournalEnd = NonNullable<Kept['journal']>;

const beforeBytes = 32;

/** What stands right before an offset of the journal: erasing content writes a file anew. */
const textBefore = (directory: string, { file, offset }: JournalPlace): string | undefined => {
  const at = path.join(directory, file);
  if ((statSync(at, { throwIfNoEntry: false })?.size ?? -1) < offset) return undefined;
  return withFile(at, (fd) => readRange(fd, Math.max(0, offset - beforeBytes), offset).toString('latin1'));
};

/** Where the journal ends now. Nothing is appended meanwhile: all of it is of this turn. */
function journalEnd(directory: string): JournalEnd | undefined {
  const file = journalFiles(directory).at(-1);
  if (file === undefined) return undefined;
  const { size } = statSync(path.join(directory, file));
  return { file, offset: size, before: textBefore(directory, { file, offset: size }) ?? '' };
}

/** Where to go on in the journal; at its beginning, where it is not what it was. */
const journalFrom = (directory: string, kept: JournalEnd | undefined): JournalPlace | undefined =>
  kept !== undefined && textBefore(directory, kept) === kept.before ? kept : undefined;

export type StateParts = Readonly<{
  stateDir: string;
  clock: Clock;
  open: OpenDecisions;
}>;

const keptOf = (one: OpenDecision, wallAheadMs: number): z.input<typeof entry> => ({
  facts: { ...one.facts, chain: [...one.facts.chain] },
  endsWallMs: one.endsMs + wallAheadMs,
  // Without the words of the request: a settlement takes them from the decision, and they are the longest part.
  streams: [...one.streams].map(([ordinal, { left, latest }]) => [
    ordinal,
    left,
    { ...latest, method: '', authority: '', path: '', details: '', error: '' },
  ]),
  ended: one.ended === undefined ? undefined : Buffer.from(one.ended).toString('base64'),
  sent: one.sent,
  notSent: one.notSent,
  connect: one.connect === undefined ? 'none' : one.connect.isOver ? 'over' : 'open',
  isDoubtful: one.isDoubtful,
});

export function writeLedgerState(
  { stateDir, clock, open }: StateParts,
  places: Readonly<Record<string, Place>>,
  epoch: string,
): void {
  const wallAheadMs = clock.wallMs() - clock.monotonicMs();
  const state: z.input<typeof stateSchema> = {
    version: 1,
    places: { ...places },
    journal: journalEnd(path.join(stateDir, 'journal')),
    epoch,
    open: [...open.entries()].map((one) => keptOf(one, wallAheadMs)),
  };
  const file = fileOf(stateDir);
  writeFileSync(`${file}.new`, JSON.stringify(state), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

function readKept(stateDir: string): Kept | undefined {
  const file = fileOf(stateDir);
  if (
    (statSync(file, { throwIfNoEntry: false })?.size ?? Number.POSITIVE_INFINITY) > limits.ledgerStateBytesMax
  )
    return undefined;
  try {
    const parsed = stateSchema.safeParse(JSON.parse(readFileSync(file, 'utf8')));
    return parsed.success ? parsed.data : undefined;
  } catch (thrown) {
    // What cannot be read is made anew, out of the whole journal.
    if (thrown instanceof SyntaxError) return undefined;
    throw thrown;
  }
}

function restore(kept: Kept, { clock, open }: StateParts): void {
  const nowMs = clock.monotonicMs();
  const wallAheadMs = clock.wallMs() - nowMs;
  for (const one of kept.open) {
    const { leaseMs = undefined } = one.facts;
    const size = (one.facts.calls >> 3) + 1;
    const ended = one.ended === undefined ? undefined : new Uint8Array(Buffer.from(one.ended, 'base64'));
    const full = (given: z.output<typeof totals>) => ({ firstMs: undefined, lastMs: undefined, ...given });
    open.restore({
      facts: { ...one.facts, leaseMs },
      endsMs: Math.min(one.endsWallMs - wallAheadMs, nowMs + (leaseMs ?? 0)),
      streams: new Map(
        one.streams.map(([ordinal, left, latest]) => [
          ordinal,
          { left, latest: { ordinal: undefined, ...latest }, toldMs: nowMs },
        ]),
      ),
      ended: leaseMs === undefined ? undefined : ended?.length === size ? ended : new Uint8Array(size),
      sent: full(one.sent),
      notSent: full(one.notSent),
      connect: one.connect === 'none' ? undefined : { toldMs: nowMs, isOver: one.connect === 'over' },
      isDoubtful: one.isDoubtful,
    });
  }
}

/** What the journal says since the state was written. */
export type Replayed = Readonly<{
  places: Readonly<Record<string, Place>>;
  epoch: string;
  /** The last line of the log whose records are written. */
  until: string;
  /** What a crash may have cut off behind the last settlement: its usage event, and other kinds of its calls. */
  cut: Readonly<{ facts: OpenFacts; record: SettlementRecord; isUsed: boolean; missing: number }> | undefined;
  /** Lines from before this are not judged: the decisions of that time are not known. Milliseconds since the epoch. */
  judgeFromMs: number;
  /** Why the state was made anew; empty where it was not. */
  anew: string;
}>;

function lineOf(record: JournalRecord): string {
  if (record.type === 'settlement' || record.type === 'incident') return record.line;
  // Not its request_id, which a caller may have chosen.
  return record.type === 'decision' ? (record.line ?? '') : '';
}

export function readLedgerState(parts: StateParts): Replayed {
  const { stateDir, clock, open } = parts;
  const kept = readKept(stateDir);
  if (kept !== undefined) restore(kept, parts);
  const epoch = kept?.epoch ?? '';
  let until = '';
  let cut: Replayed['cut'];
  let firstMs: number | undefined;
  const directory = path.join(stateDir, 'journal');
  for (const { bytes } of linesFrom(directory, journalFrom(directory, kept?.journal))) {
    const line = bytes === undefined ? undefined : decodeLine(bytes);
    if (line?.kind !== 'record') continue;
    const { record } = line;
    firstMs ??= Number(BigInt(record.at.physical_ns) / 1_000_000n);
    until = lineOf(record) || until;
    if (record.type === 'decision') {
      const found = openFactsOf(record, epoch);
      if (found !== undefined) open.open(found, clock.monotonicMs());
    } else if (record.type === 'settlement') {
      const before = cut?.facts.id === record.id ? cut : undefined;
      const found = before?.facts ?? open.forget(record.id);
      if (found === undefined) continue;
      const missing = (before?.missing ?? found.calls) - record.calls;
      cut = { facts: found, record: before?.record ?? record, isUsed: before?.isUsed ?? false, missing };
    } else if (record.type === 'usage' && cut?.facts.id === record.id) cut = { ...cut, isUsed: true };
  }
  const anew = kept === undefined && (until !== '' || open.size() > 0);
  return {
    ...{ places: kept?.places ?? {}, epoch, until, cut },
    judgeFromMs: kept === undefined ? (firstMs ?? clock.wallMs()) : 0,
    anew: anew ? 'its state could not be read' : '',
  };
}
