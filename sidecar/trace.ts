/** Everything that is on record of one decision, read from the state directory: no sidecar has to run. */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { limits } from '../config/limits.ts';
import { decodeLedgerLine } from '../envoy/ledger-line.ts';
import { envoyPaths } from '../envoy/paths.ts';
import { type Found, findById } from '../filters/audit/find.ts';
import { auditDirectory } from '../filters/audit/identity.ts';
import { readState } from '../filters/audit/state.ts';
import { linesOf } from '../filters/common/journal-lines.ts';
import type {
  DecisionRecord,
  HoldRecord,
  IncidentRecord,
  JournalRecord,
  SettlementRecord,
  UsageRecord,
} from '../filters/common/record.ts';
import { decisionPlace, type SpanPlace } from '../filters/common/trace-ids.ts';
import type { LedgerUse } from '../filters/metering/use.ts';
import { embeddedLogFile } from './embedded/ledger.ts';
import { proofOf, type TraceProof } from './trace-proof.ts';

export type Trace = Readonly<{
  decision: DecisionRecord;
  /** Transitions of its hold, oldest first. */
  holds: readonly HoldRecord[];
  settlements: readonly SettlementRecord[];
  usage: readonly UsageRecord[];
  incidents: readonly IncidentRecord[];
  /** What the access log tells of its calls, the newest line of each; empty once the log has rotated away. */
  uses: readonly LedgerUse[];
  /** Other decisions about the same hold. */
  same_hold: readonly DecisionRecord[];
  span: SpanPlace;
  audit: TraceProof;
}>;

const isOf =
  <T extends JournalRecord['type']>(type: T) =>
  (record: JournalRecord): record is Extract<JournalRecord, { type: T }> =>
    record.type === type;

/** Undefined where the decision's own record is not in the journal any more. */
export async function traceOf(stateDir: string, id: string): Promise<Trace | undefined> {
  const find = (wanted: string): Promise<Found[]> =>
    findById(path.join(stateDir, 'journal'), notedFiles(stateDir), wanted, limits.traceRecordsMax);
  const found = await find(id);
  const own = found.find(
    ({ line }) => line.kind === 'record' && line.record.type === 'decision' && line.record.id === id,
  );
  if (own?.line.kind !== 'record' || own.line.record.type !== 'decision') return undefined;
  const decision = own.line.record;
  const ofHold = decision.hold === '' ? [] : recordsOf(await find(decision.hold));
  const records = recordsOf(found);
  return {
    decision,
    holds: ofHold.filter(isOf('hold')).filter((record) => record.id === decision.hold),
    settlements: records.filter(isOf('settlement')),
    usage: records.filter(isOf('usage')),
    incidents: records.filter(isOf('incident')),
    uses: usesOf(stateDir, id),
    same_hold: ofHold.filter(isOf('decision')).filter((record) => record.id !== id),
    span: decisionPlace(id, decision.traceparent),
    audit: proofOf(stateDir, own),
  };
}

const recordsOf = (found: readonly Found[]): JournalRecord[] =>
  found.flatMap(({ line }) => (line.kind === 'record' ? [line.record] : []));

/** Without a log, or with a damaged one, records are found all the same; they have no place in it then. */
function notedFiles(stateDir: string): readonly Readonly<{ file: string; index: number }>[] {
  try {
    return readState(auditDirectory(stateDir))?.files ?? [];
  } catch {
    return [];
  }
}

/** The access logs of both data planes and the files before them (`access.jsonl.1` …), oldest first. */
function logFiles(stateDir: string): string[] {
  return [envoyPaths('', stateDir, '').accessLog, embeddedLogFile(stateDir)].flatMap((log) => {
    const directory = path.dirname(log);
    if (!existsSync(directory)) return [];
    const numbers = readdirSync(directory).flatMap((name) => {
      const number =
        name === path.basename(log) ? '0' : /^\.(\d{1,6})$/.exec(name.slice(path.basename(log).length))?.[1];
      return name.startsWith(path.basename(log)) && number !== undefined ? [Number(number)] : [];
    });
    return numbers
      .sort((one, other) => other - one)
      .map((number) => (number === 0 ? log : `${log}.${number}`));
  });
}

/** A stream that lasts is told of again and again: its newest line counts. */
function usesOf(stateDir: string, id: string): LedgerUse[] {
  const needle = Buffer.from(`"${id}`);
  const byStream = new Map<string, LedgerUse>();
  for (const file of logFiles(stateDir))
    for (const { bytes } of linesOf(path.dirname(file), path.basename(file))) {
      if (bytes?.includes(needle) !== true) continue;
      const use = decodeLedgerLine(bytes.toString('utf8'));
      if (use === undefined || (use.decision !== id && use.connectDecision !== id)) continue;
      if (byStream.size < limits.traceRecordsMax || byStream.has(use.stream)) byStream.set(use.stream, use);
    }
  return [...byStream.values()].sort((one, other) => one.atMs - other.atMs);
}
