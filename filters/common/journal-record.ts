/** One record, one line. JSON leaves no raw control character in it, so a line feed always ends a record. */
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { jsonObject } from './json-object.ts';
import type { JournalRecord } from './record.ts';

/** What a caller can make long. A refusal of a huge request must still be written down. */
const longFields = ['what', 'resource', 'why', 'request_id', 'by'] as const;

const { journalLongFieldCharsMax: charsMax } = limits;
export const shorten = (text: string): string =>
  text.length > charsMax ? `${text.slice(0, charsMax)}… (${text.length - charsMax} more)` : text;

function shortened(record: JournalRecord): Record<string, unknown> {
  const short: Record<string, unknown> = { ...record };
  // A usage event tells them a second time.
  if (record.type === 'usage') {
    const { event } = record;
    const { what, resource } = event.data;
    short['event'] = { ...event, data: { ...event.data, what: shorten(what), resource: shorten(resource) } };
  }
  for (const field of longFields) {
    const value = short[field];
    if (typeof value === 'string') short[field] = shorten(value);
  }
  return short;
}

/** What the journal adds to a record: its place in its agent's sequence, and what hides its content in the log. */
export type LineFields = Readonly<{ seq: number; salt: Buffer }>;

/** One JSON object, its members in the order in which they were written; the journal's own two come last. */
const lineOf = (record: JournalRecord | Record<string, unknown>, { seq, salt }: LineFields): Buffer =>
  Buffer.from(
    `${JSON.stringify(record).slice(0, -1)},"seq":${seq},"salt":"${salt.toString('base64url')}"}\n`,
    'utf8',
  );

export function encodeRecord(record: JournalRecord, fields: LineFields): Buffer {
  const line = lineOf(record, fields);
  if (line.length <= limits.journalRecordBytesMax) return line;
  const short = lineOf(shortened(record), fields);
  if (short.length <= limits.journalRecordBytesMax) return short;
  throw new SallyportError(
    'RequestTooLarge',
    `a record of the journal has at most ${limits.journalRecordBytesMax} bytes, not ${short.length}`,
  );
}

const saltBytes = 16;

/**
 * What a line is. `sequenced` is absent from lines that were written before the journal counted (0.1).
 * Of an erased record its leaf is left: what the log commits to, without the content.
 */
export type JournalLine =
  | Readonly<{ kind: 'record'; record: JournalRecord; sequenced?: Readonly<{ seq: number; salt: Buffer }> }>
  | Readonly<{ kind: 'erased'; leaf: string }>;

/** A line as it was read, untrusted; undefined where it is not a record. */
export function decodeLine(line: Buffer): JournalLine | undefined {
  const fields = jsonObject(line.toString('utf8'));
  if (fields === undefined) return undefined;
  const { erased, seq, salt, ...record } = fields;
  if (typeof erased === 'string') return { kind: 'erased', leaf: erased };
  if (!isRecord(record)) return undefined;
  if (seq === undefined && salt === undefined) return { kind: 'record', record };
  if (typeof seq !== 'number' || !Number.isSafeInteger(seq) || seq < 1 || typeof salt !== 'string')
    return undefined;
  const bytes = Buffer.from(salt, 'base64url');
  return bytes.length === saltBytes ? { kind: 'record', record, sequenced: { seq, salt: bytes } } : undefined;
}

const heads = ['agent', 'policy_version', 'type', 'id'] as const;

/** Every type of the union in `record.ts`. */
const types: ReadonlySet<unknown> = new Set<JournalRecord['type']>([
  'decision',
  'hold',
  'audit',
  'settlement',
  'usage',
  'incident',
  'lockdown',
]);

function isRecord(
  fields: Readonly<Record<string, unknown>>,
): fields is Readonly<Record<string, unknown>> & JournalRecord {
  const at = fields['at'];
  return (
    heads.every((head) => typeof fields[head] === 'string') &&
    typeof at === 'object' &&
    at !== null &&
    'physical_ns' in at &&
    typeof at.physical_ns === 'string' &&
    /^\d{1,19}$/.test(at.physical_ns) &&
    Array.isArray(fields['delegation_chain']) &&
    types.has(fields['type'])
  );
}
