/** One record, one line. JSON leaves no raw control character in it, so a line feed always ends a record. */
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { JournalRecord } from './record.ts';

/** What a caller can make long. A refusal of a huge request must still be written down. */
const longFields = ['what', 'resource', 'why', 'request_id', 'by'] as const;

const { journalLongFieldCharsMax: charsMax } = limits;
const shorten = (text: string): string =>
  text.length > charsMax ? `${text.slice(0, charsMax)}… (${text.length - charsMax} more)` : text;

function shortened(record: JournalRecord): Record<string, unknown> {
  const short: Record<string, unknown> = { ...record };
  for (const field of longFields) {
    const value = short[field];
    if (typeof value === 'string') short[field] = shorten(value);
  }
  return short;
}

const lineOf = (record: JournalRecord | Record<string, unknown>): Buffer =>
  Buffer.from(`${JSON.stringify(record)}\n`, 'utf8');

export function encodeRecord(record: JournalRecord): Buffer {
  const line = lineOf(record);
  if (line.length <= limits.journalRecordBytesMax) return line;
  const short = lineOf(shortened(record));
  if (short.length <= limits.journalRecordBytesMax) return short;
  throw new SallyportError(
    'RequestTooLarge',
    `a record of the journal has at most ${limits.journalRecordBytesMax} bytes, not ${short.length}`,
  );
}

const heads = ['agent', 'policy_version', 'type', 'id'] as const;

/** A line as it was read, untrusted; undefined where it is not a record. */
export function decodeRecord(line: string): JournalRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  return isRecord(value) ? value : undefined;
}

function isRecord(value: unknown): value is JournalRecord {
  if (typeof value !== 'object' || value === null) return false;
  const fields = new Map<string, unknown>(Object.entries(value));
  const type = fields.get('type');
  return (
    heads.every((head) => typeof fields.get(head) === 'string') &&
    typeof fields.get('at') === 'object' &&
    fields.get('at') !== null &&
    Array.isArray(fields.get('delegation_chain')) &&
    (type === 'decision' || type === 'hold')
  );
}
