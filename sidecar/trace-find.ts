/** Which decision is meant: by its id or the beginning of it, by its hold, or by a trace id. */
import { openScan, type ScannedRecord } from '../filters/common/journal-scan.ts';
import { hexUlid } from '../filters/common/trace-ids.ts';
import { parseTraceparent } from '../filters/common/traceparent.ts';

/** Told apart at most; more are as good as any number. */
const candidatesMax = 20;

export type Meant =
  | Readonly<{ kind: 'one'; id: string; ordinal: number | undefined }>
  | Readonly<{ kind: 'none' }>
  /** What it said was erased: who and why, and which leaves are left of it. */
  | Readonly<{ kind: 'erased'; id: string; by: string; why: string; leaves: string }>
  | Readonly<{ kind: 'many'; ids: readonly string[] }>
  /** Text that is no id at all. */
  | Readonly<{ kind: 'malformed' }>
  /** There is no journal in the state directory. */
  | Readonly<{ kind: 'no journal' }>;

const ulidStart = '[0-9A-HJKMNP-TV-Z]';
const decisionPattern = new RegExp(`^(?:dec_)?(${ulidStart}{1,26})(?:#([1-9]\\d{0,9}))?$`, 'i');
const holdPattern = new RegExp(`^hold_(${ulidStart}{1,26})$`, 'i');
const tracePattern = /^[0-9a-f]{32}$/i;

type Asked = Readonly<{
  /** What a line that is meant has in it. */
  needle: string;
  idOf: (record: ScannedRecord) => unknown;
}>;

function askedOf(text: string): Asked | undefined {
  if (tracePattern.test(text)) {
    const traceId = text.toLowerCase();
    const own = `dec_${hexUlid(traceId)}`;
    return {
      // Its own trace has the bits of its id; the caller's is written as it was sent.
      needle: '',
      idOf: ({ id, traceparent }) => {
        const sent = typeof traceparent === 'string' ? parseTraceparent(traceparent)?.traceId : undefined;
        return sent === traceId || (sent === undefined && id === own) ? id : undefined;
      },
    };
  }
  const hold = holdPattern.exec(text)?.[1];
  if (hold !== undefined) {
    const start = `hold_${hold.toUpperCase()}`;
    return {
      needle: `"hold":"${start}`,
      idOf: (record) => (startsWith(record['hold'], start) ? record['id'] : undefined),
    };
  }
  const decision = decisionPattern.exec(text)?.[1];
  if (decision === undefined) return undefined;
  const start = `dec_${decision.toUpperCase()}`;
  return {
    needle: `"id":"${start}`,
    idOf: ({ id }) => (startsWith(id, start) ? id : undefined),
  };
}

const startsWith = (value: unknown, start: string): boolean =>
  typeof value === 'string' && value.startsWith(start);

/** An erased line does not tell its id any more, and the record of its erasure does. */
function erasureOf(stateDir: string, text: string): Meant | undefined {
  const start = decisionPattern.exec(text)?.[1]?.toUpperCase();
  if (start === undefined) return undefined;
  const id = `dec_${start}`;
  const contains = [Buffer.from(`"resource":"${id}`)];
  for (const record of openScan(stateDir, { contains })?.records() ?? []) {
    const { resource, by, why, details } = record;
    if (record['action'] !== 'content_erased' || !startsWith(resource, id)) continue;
    const leaves =
      typeof details === 'object' && details !== null && 'leaves' in details ? details.leaves : '';
    return { kind: 'erased', id: String(resource), by: String(by), why: String(why), leaves: String(leaves) };
  }
  return undefined;
}

export function findMeant(
  stateDir: string,
  text: string,
  onProgress?: (doneBytes: number, allBytes: number) => void,
): Meant {
  const asked = askedOf(text);
  if (asked === undefined) return { kind: 'malformed' };
  const { needle, idOf } = asked;
  const scan = openScan(stateDir, {
    ...(needle === '' ? {} : { contains: [Buffer.from(needle)] }),
    ...(onProgress === undefined ? {} : { onProgress }),
  });
  if (scan === undefined) return { kind: 'no journal' };
  const ids = new Set<string>();
  for (const record of scan.records()) {
    if (record.type !== 'decision') continue;
    const id = idOf(record);
    if (typeof id === 'string') ids.add(id);
    if (ids.size > candidatesMax) break;
  }
  const all = [...ids];
  // Of the decisions of one hold the last is the one that came of it.
  const last = holdPattern.test(text) && text.length === 'hold_'.length + 26 ? all.at(-1) : undefined;
  const id = last ?? all[0];
  if (id === undefined) return erasureOf(stateDir, text) ?? { kind: 'none' };
  if (all.length > 1 && last === undefined) return { kind: 'many', ids: all.slice(0, candidatesMax) };
  const ordinal = tracePattern.test(text) ? undefined : decisionPattern.exec(text)?.[2];
  return { kind: 'one', id, ordinal: ordinal === undefined ? undefined : Number(ordinal) };
}
