/**
 * Identifiers of decisions and holds: ULIDs (github.com/ulid/spec): 48 bits of milliseconds and 80 random
 * bits in Crockford base 32, so that text order is time order. Within a millisecond, and while the wall
 * clock is behind, the random part counts up. They are names, not capabilities: nothing is granted for knowing one.
 */
import { randomBytes } from 'node:crypto';
import type { DecisionId, HoldId } from './brand.ts';
import type { Clock } from './time.ts';

export type Ids = Readonly<{
  decision(): DecisionId;
  hold(): HoldId;
  /** Of another kind of record: its prefix, an underscore, a ULID. */
  of(prefix: string): string;
}>;

const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const halfBits = 2 ** 40;
const timeMax = 2 ** 48 - 1;
/** 48 bits fill 10 characters of 5 bits with two to spare, so the first character is at most 7. */
const ulid = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;

/**
 * Written as bytes and read as one string: joined from parts it would stay a tree of them, twice as large for as
 * long as somebody remembers it.
 */
const prefixCharsMax = 32;
const ulidChars = 26;
const scratch = Buffer.alloc(prefixCharsMax + ulidChars);

function base32(value: number, end: number, characters: number): void {
  let rest = value;
  for (let i = 1; i <= characters; i += 1) {
    scratch[end - i] = alphabet.charCodeAt(rest % 32);
    rest = Math.floor(rest / 32);
  }
}

const readBigEndian = (bytes: Uint8Array): number => bytes.reduce((sum, byte) => sum * 256 + byte, 0);

export function createIds(clock: Clock, random: (bytes: number) => Uint8Array = randomBytes): Ids {
  let lastMs = -1;
  // The 80 random bits as two halves of 40, each a safe integer.
  let high = 0;
  let low = 0;

  /** @param prefix ends in an underscore, and is ASCII. */
  const next = (prefix: string): string => {
    const wallMs = Math.min(timeMax, Math.max(0, Math.trunc(clock.wallMs())));
    if (wallMs > lastMs) {
      const bytes = random(10);
      lastMs = wallMs;
      high = readBigEndian(bytes.subarray(0, 5));
      low = readBigEndian(bytes.subarray(5, 10));
    } else {
      low += 1;
      if (low === halfBits) {
        low = 0;
        high += 1;
      }
      if (high === halfBits) {
        high = 0;
        lastMs += 1;
      }
    }
    const begin = scratch.write(prefix, 0, prefixCharsMax, 'latin1');
    base32(lastMs, begin + 10, 10);
    base32(high, begin + 18, 8);
    base32(low, begin + ulidChars, 8);
    return scratch.toString('latin1', 0, begin + ulidChars);
  };

  return {
    decision: () => next('dec_') as DecisionId,
    hold: () => next('hold_') as HoldId,
    of: (prefix) => next(`${prefix}_`),
  };
}

export const isHoldId = (text: string): text is HoldId =>
  text.startsWith('hold_') && ulid.test(text.slice(5));
