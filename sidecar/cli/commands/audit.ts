/** `sallyport audit`: what is on record, and the proof of it. Reads the state directory; only `erase` asks a sidecar. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { limits } from '../../../config/limits.ts';
import { cloudEventOf } from '../../../filters/audit/cloudevents.ts';
import { type AuditEntry, entryMs } from '../../../filters/audit/entry.ts';
import { type Found, findById, findByIndex } from '../../../filters/audit/find.ts';
import { auditDirectory, readIdentity } from '../../../filters/audit/identity.ts';
import { type Published, readCheckpoint, readVkeys } from '../../../filters/audit/log.ts';
import { type NoteKey, parseCheckpoint, parseNote, parseVkey } from '../../../filters/audit/note.ts';
import { ocsfOf } from '../../../filters/audit/ocsf.ts';
import { type AuditFilter, entries, entryOfLine, newestEntries } from '../../../filters/audit/query.ts';
import { encodeReceipt, makeReceipt, parseReceipt, verifyReceipt } from '../../../filters/audit/receipt.ts';
import { readState } from '../../../filters/audit/state.ts';
import { createTileReader } from '../../../filters/audit/tile-reader.ts';
import { type LogReport, verifyLog } from '../../../filters/audit/verify.ts';
import { witnessedFile } from '../../../filters/audit/witness-store.ts';
import { printable } from '../../../filters/common/printable.ts';
import type { AuditRecord, Outcome } from '../../../filters/common/record.ts';
import { version } from '../../version.ts';
import { caller, clientOf } from '../client.ts';
import { wholeId } from '../journal.ts';
import {
  CommandFailure,
  createOutput,
  exitCodes,
  isUnread,
  type Output,
  snakeCased,
  table,
} from '../output.ts';
import type { Flags } from '../program.ts';
import { commandSettings } from '../settings.ts';
import { exactTime, sinceMs } from '../since.ts';
import { readBounded } from './check.ts';

export type AuditFlags = Flags &
  Readonly<{
    agent?: string;
    chain?: string;
    what?: string;
    resource?: string;
    outcome?: Outcome;
    event?: string;
    since?: string;
    until?: string;
  }>;

type Place = Readonly<{ stateDir: string; journal: string; directory: string }>;

function placeOf(flags: Flags): Place {
  const { state_dir: stateDir } = commandSettings(flags);
  return { stateDir, journal: path.join(stateDir, 'journal'), directory: auditDirectory(stateDir) };
}

/** What a command reads may be missing, or another user's. */
function reading<T>({ stateDir }: Place, read: () => T): T {
  try {
    return read();
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined;
    if (code !== 'ENOENT' && code !== 'EACCES') throw thrown;
    throw new CommandFailure(
      code === 'ENOENT' ? `there is no record in ${stateDir}` : `${stateDir} is not for you to read`,
      code === 'ENOENT'
        ? 'Name the state directory of the sidecar with --state-dir.'
        : 'Call this as the user that the sidecar runs as.',
    );
  }
}

function filterOf(flags: AuditFlags): AuditFilter {
  const { agent, chain, what, resource, outcome, event, since, until } = flags;
  const nowMs = Date.now();
  return {
    ...(agent === undefined ? {} : { agent }),
    ...(chain === undefined ? {} : { chain }),
    ...(what === undefined ? {} : { what }),
    ...(resource === undefined ? {} : { resource }),
    ...(outcome === undefined ? {} : { outcome }),
    ...(event === undefined ? {} : { event }),
    ...(since === undefined ? {} : { sinceMs: sinceMs(since, nowMs) }),
    ...(until === undefined ? {} : { untilMs: sinceMs(until, nowMs) }),
  };
}

/** Who did what no agent did; else who decided about it. */
const byOf = ({ record }: AuditEntry): string => ('by' in record ? record.by : '');

/** What was done to the sidecar itself says little without its reason. */
const reasonOf = ({ record, why }: AuditEntry): string =>
  why !== '' && (record.type === 'audit' || record.type === 'lockdown') ? ` (${why})` : '';

const rowOf = (entry: AuditEntry): string[] => [
  exactTime(entryMs(entry)),
  entry.outcome,
  entry.event,
  printable(entry.who || byOf(entry), 60) || '–',
  printable(`${entry.what} ${entry.resource}`.trim() + reasonOf(entry), 160),
  entry.id,
];

export function tail(flags: AuditFlags & Readonly<{ limit: number }>): number {
  const output = createOutput(flags.json === true);
  const place = placeOf(flags);
  const found = reading(place, () => newestEntries(place.journal, filterOf(flags), flags.limit)).reverse();
  output.value({ records: found });
  if (found.length === 0) output.line('no record fits');
  for (const row of table(found.map(rowOf))) output.line(row);
  return exitCodes.ok;
}

const isIndex = (id: string): boolean => /^\d{1,16}$/.test(id) && Number.isSafeInteger(Number(id));

async function find(place: Place, id: string): Promise<Found[]> {
  const noted = reading(place, () => readState(place.directory))?.files ?? [];
  if (!isIndex(id)) return findById(place.journal, noted, id, limits.adminPageItemsMax);
  const found = await findByIndex(place.journal, noted, Number(id));
  return found === undefined ? [] : [found];
}

/** What is known of a record: its entry where the content is there, and its place in the log. */
type Shown = Readonly<{
  index: number | null;
  /** Leaves under the checkpoint that covers it; null while none does. */
  covered_by: number | null;
  leaf: unknown;
  /** Null where it is erased or pruned. */
  entry: AuditEntry | null;
}>;

export async function show(text: string, flags: Flags): Promise<number> {
  const output = createOutput(flags.json === true);
  const place = placeOf(flags);
  const checkpoint = reading(place, () => readCheckpoint(place.directory));
  const size = checkpoint?.size ?? 0;
  const id = wholeId(place.stateDir, text);
  const reader = createTileReader(place.directory, size);
  const leafOf = (index: number): unknown => JSON.parse(reader.entry(index).toString('utf8'));
  const shown = (await find(place, id)).map(({ index, placed }): Shown => {
    const isCovered = index !== undefined && index < size;
    return {
      index: index ?? null,
      covered_by: isCovered ? size : null,
      leaf: isCovered ? leafOf(index) : null,
      entry: entryOfLine(placed.bytes) ?? null,
    };
  });
  // Its line is pruned, and its leaf may be there.
  if (shown.length === 0 && isIndex(id) && Number(id) < size)
    shown.push({ index: Number(id), covered_by: size, leaf: leafOf(Number(id)), entry: null });
  if (shown.length === 0)
    throw new CommandFailure(
      `nothing is on record under ${id}`,
      'It may be pruned (audit.retention_days), or be in another state directory (--state-dir).',
    );
  output.value({ records: shown });
  for (const one of shown) showOne(output, one);
  return exitCodes.ok;
}

const whoOf = (entry: AuditEntry): string =>
  entry.who !== ''
    ? `${printable(entry.who)}, record ${entry.agent_seq} of it`
    : `${printable(byOf(entry)) || (entry.record.type === 'audit' ? 'the sidecar itself' : 'unknown')}, record ${entry.agent_seq} without an agent`;

const detailsOf = ({ details }: AuditRecord): string =>
  printable(
    Object.entries(details)
      .map(([name, value]) => `${name}: ${value}`)
      .join('; '),
    2_000,
  ) || '–';

function showOne(output: Output, { index, covered_by: size, leaf, entry }: Shown): void {
  const where =
    index === null
      ? 'of before the audit log'
      : size === null
        ? `leaf ${index}, under no checkpoint yet`
        : `leaf ${index} of ${size}`;
  if (entry === null) output.line(`erased or pruned (${where})`);
  else {
    output.line(`${entry.event} ${entry.id} (${where})`);
    for (const row of table([
      ['time', `${new Date(entryMs(entry)).toISOString()}, logical ${entry.timestamp.logical}`],
      ['who', whoOf(entry)],
      ...(entry.who === '' || byOf(entry) === '' ? [] : [['by', printable(byOf(entry))]]),
      ['for', entry.delegation_chain.map((member) => printable(member)).join(' → ') || '–'],
      ['what', printable(entry.what) || '–'],
      ['resource', printable(entry.resource, 2_000) || '–'],
      ['why', printable(entry.why) || '–'],
      ['outcome', entry.outcome],
      ...(entry.record.type === 'audit' ? [['details', detailsOf(entry.record)]] : []),
      ['policy', entry.policy_version],
    ]))
      output.line(`  ${row}`);
  }
  if (leaf !== null) output.line(`  leaf      ${printable(JSON.stringify(leaf))}`);
}

function keysFrom(file: string | undefined, place: Place): readonly NoteKey[] {
  const lines =
    file === undefined
      ? reading(place, () => readVkeys(place.directory))
      : readBounded(file, 'keys', limits.auditStateBytesMax)
          .split('\n')
          .map((line) => line.trim())
          .filter((line) => line !== '' && !line.startsWith('#'));
  if (lines.length === 0)
    throw new CommandFailure(
      'there is no verifier key',
      'Name a file of vkeys with --keys.',
      exitCodes.usage,
    );
  return lines.map(parseVkey);
}

export async function verify(
  receipt: string | undefined,
  flags: Flags & Readonly<{ keys?: string; against?: string }>,
): Promise<number> {
  const output = createOutput(flags.json === true);
  const place = placeOf(flags);
  const keys = keysFrom(flags.keys, place);
  if (receipt !== undefined) return verifyOne(receipt, keys, output);
  const old =
    flags.against === undefined
      ? undefined
      : parseCheckpoint(parseNote(readBounded(flags.against, 'checkpoint', limits.noteBytesMax)).body);
  const report = await verifyLog(place.stateDir, keys, old);
  output.value(snakeCased(report));
  showReport(report, output);
  return report.problems.length === 0 ? exitCodes.ok : exitCodes.failed;
}

function showReport(report: LogReport, output: Output): void {
  const { content, problems } = report;
  output.line(`${report.origin}: ${report.size} leaves, root ${report.root}`);
  output.line(`signed by ${report.signers.join(', ') || 'nobody who is known'}`);
  output.line(`${report.leaves} leaves of ${report.agents} agents read, their numbers in order`);
  if (report.minimumIndex > 0) output.line(`leaves below ${report.minimumIndex} are pruned`);
  output.line(
    `content: ${content.whole} whole, ${content.erased} erased, ${content.pruned} pruned, ${content.waiting} not under the checkpoint yet`,
  );
  for (const problem of problems) output.line(`wrong: ${printable(problem)}`);
  output.line(problems.length === 0 ? 'all is well' : `${problems.length} things are wrong`);
}

function verifyOne(file: string, keys: readonly NoteKey[], output: Output): number {
  const text =
    file === '-' ? readFileSync(0, 'utf8') : readBounded(file, 'receipt', limits.auditReceiptBytesMax);
  const receipt = parseReceipt(text);
  const verdict = verifyReceipt(receipt, keys);
  const { checkpoint, leaf, content, signers } = verdict;
  output.value({
    ...{ origin: checkpoint.origin, size: checkpoint.size, index: receipt.index, leaf },
    signers: signers.map(({ name, id }) => `${name}+${id}`),
    content: content ?? null,
  });
  output.line(`leaf ${receipt.index} of ${checkpoint.size} in ${printable(checkpoint.origin)}`);
  output.line(`signed by ${signers.map(({ name, id }) => printable(`${name}+${id}`)).join(', ')}`);
  output.line(`a ${leaf.type}, record ${leaf.agent_seq} of its agent, ${new Date(leaf.at).toISOString()}`);
  if (content === false)
    output.line('wrong: the record in the receipt is not the one that the leaf commits to');
  if (content === true) output.line(printable(receipt.line ?? '', limits.journalRecordBytesMax));
  return content === false ? exitCodes.failed : exitCodes.ok;
}

/** The newest checkpoint that covers the leaf, one with witnesses' cosignatures before one without. */
function covering(place: Place, index: number): Published | undefined {
  const witnessed = readCheckpoint(place.directory, witnessedFile);
  return witnessed !== undefined && index < witnessed.size ? witnessed : readCheckpoint(place.directory);
}

export async function prove(text: string, flags: Flags & Readonly<{ content?: boolean }>): Promise<number> {
  const place = placeOf(flags);
  const id = wholeId(place.stateDir, text);
  const found = await find(place, id);
  const own = found.find(({ line }) => line.kind === 'record' && line.record.id === id) ?? found[0];
  const index = isIndex(id) ? Number(id) : own?.index;
  if (index === undefined)
    throw new CommandFailure(
      `nothing is on record under ${id}`,
      'A leaf whose record is pruned is proven by its number.',
    );
  const checkpoint = reading(place, () => covering(place, index));
  if (checkpoint === undefined || index >= checkpoint.size)
    throw new CommandFailure(
      `leaf ${index} is under no checkpoint yet`,
      `A running sidecar publishes one within ${limits.auditBatchMs} ms.`,
    );
  if (flags.content === true && own?.line.kind !== 'record')
    throw new CommandFailure(
      `the record of leaf ${index} is erased or pruned`,
      'Prove it without --content.',
    );
  const line = flags.content === true ? own?.placed.bytes.toString('utf8') : undefined;
  const receipt = encodeReceipt(
    makeReceipt(createTileReader(place.directory, checkpoint.size), checkpoint, index, line),
  );
  const output = createOutput(flags.json === true);
  output.value({ index, size: checkpoint.size, receipt });
  output.line(receipt.replace(/\n$/, ''));
  return exitCodes.ok;
}

export async function exportRecords(
  flags: AuditFlags & Readonly<{ format: 'ocsf' | 'cloudevents' }>,
): Promise<number> {
  const place = placeOf(flags);
  const origin = reading(place, () => readIdentity(place.stateDir))?.origin ?? '';
  const convert = (entry: AuditEntry): object =>
    flags.format === 'ocsf' ? ocsfOf(entry, { version, origin }) : cloudEventOf(entry, origin);
  for (const entry of reading(place, () => entries(place.journal, filterOf(flags)))) {
    if (process.stdout.write(`${JSON.stringify(convert(entry))}\n`)) continue;
    try {
      await once(process.stdout, 'drain');
    } catch (thrown) {
      if (!isUnread(thrown)) throw thrown;
      break;
    }
  }
  return exitCodes.ok;
}

export async function erase(
  id: string,
  flags: Flags & Readonly<{ why: string; by?: string }>,
): Promise<number> {
  const output = createOutput(flags.json === true);
  const answer = await clientOf(commandSettings(flags)).post('/v1/audit/erase', {
    record: isIndex(id) ? Number(id) : id,
    by: flags.by ?? caller(),
    why: flags.why,
  });
  output.value(answer);
  output.line(`what ${id} said is erased; backups made before still hold it`);
  return exitCodes.ok;
}
