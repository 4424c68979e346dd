/**
 * Ids of spans, from the ids that everything else carries: a decision's ULID has the 128 bits of a trace id, and its
 * last 64 are random, as W3C Trace Context wants them (section 3.2.2.3). So a span leads back to its decision, and
 * nothing has to be kept to name it.
 */
import { createHash } from 'node:crypto';
import { parseTraceparent } from './traceparent.ts';

const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const ulidPattern = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const ulidChars = 26;

/** Eight characters of 5 bits are ten hex digits, and a safe integer. */
const groupChars = 8;

function hexOf(chars: string, digits: number): string {
  let value = 0;
  for (let i = 0; i < chars.length; i += 1) value = value * 32 + alphabet.indexOf(chars.charAt(i));
  return value.toString(16).padStart(digits, '0');
}

/** 32 hex digits of a ULID, with or without `dec_` before it; undefined for other text. */
export function ulidHex(id: string): string | undefined {
  const ulid = id.slice(-ulidChars);
  if (!ulidPattern.test(ulid)) return undefined;
  // The first two characters have ten bits, of which the upper two are zero (the first is at most 7).
  let hex = hexOf(ulid.slice(0, 2), 2);
  for (let at = 2; at < ulidChars; at += groupChars) hex += hexOf(ulid.slice(at, at + groupChars), 10);
  return hex;
}

/** The inverse: the ULID of 32 hex digits. */
export function hexUlid(hex: string): string {
  let rest = BigInt(`0x${hex}`);
  let text = '';
  for (let i = 0; i < ulidChars; i += 1) {
    text = alphabet.charAt(Number(rest % 32n)) + text;
    rest /= 32n;
  }
  return text;
}

/** Never zero, which names no span. */
const nonZero = (hex: string): string => (/[1-9a-f]/.test(hex) ? hex : `${hex.slice(0, -1)}1`);

const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex');

export type SpanPlace = Readonly<{
  traceId: string;
  spanId: string;
  /** The caller's own span, where it sent one. */
  parentId: string | undefined;
}>;

/** Where a decision stands: in the caller's trace, or in one of its own. */
export function decisionPlace(decisionId: string, traceparent: string | undefined): SpanPlace {
  const own = ulidHex(decisionId) ?? digestOf(decisionId).slice(0, 32);
  const parent = parseTraceparent(traceparent);
  return {
    traceId: parent?.traceId ?? nonZero(own),
    spanId: nonZero(own.slice(16)),
    parentId: parent?.spanId,
  };
}

/** A span below a decision's: the same part of the same decision always has the same one. */
export const childSpanId = (decisionId: string, part: string): string =>
  nonZero(digestOf(`${decisionId} ${part}`).slice(0, 16));
