/**
 * The log as files (C2SP tlog-tiles): which file holds what, and what is in one.
 *
 *   tile/<L>/<N>[.p/<W>]        W hashes of the N-th tile of level L; 256 of them where there is no .p/<W>
 *   tile/entries/<N>[.p/<W>]    the leaves below tile N of level 0, each after its length in 16 bits
 *
 * N is written in groups of three digits, each but the last after an x: 1234067 is x001/x234/067.
 */
import { SallyportError } from '../../config/errors.ts';
import { hashBytes } from './merkle.ts';

export const tileWidth = 256;

export type TileLevel = number | 'entries';

export function tilePath(level: TileLevel, n: number, width: number = tileWidth): string {
  const digits = String(n);
  const padded = digits.padStart(Math.ceil(digits.length / 3) * 3, '0');
  const groups = padded.match(/\d{3}/g) ?? [];
  const place = groups.map((group, i) => (i === groups.length - 1 ? group : `x${group}`)).join('/');
  return `tile/${level}/${place}${width === tileWidth ? '' : `.p/${width}`}`;
}

/** Hashes that tile N of a level has in a tree of this size: none, some, or all 256. */
export function widthIn(size: number, level: TileLevel, n: number): number {
  const height = level === 'entries' ? 0 : level;
  return Math.max(0, Math.min(tileWidth, Math.floor(size / tileWidth ** height) - n * tileWidth));
}

const damaged = (what: string): SallyportError => new SallyportError('StateUnavailable', what);

/** A full tile may stand for the partial one it grew out of. */
export function decodeTile(bytes: Buffer, width: number): Buffer[] {
  if (
    bytes.length % hashBytes !== 0 ||
    bytes.length < width * hashBytes ||
    bytes.length > tileWidth * hashBytes
  )
    throw damaged(`a tile of ${width} hashes has ${bytes.length} bytes`);
  return Array.from({ length: width }, (_, i) => bytes.subarray(i * hashBytes, (i + 1) * hashBytes));
}

export const entryBytesMax = 65_535;

/** One leaf as it stands in a bundle. */
export function encodeEntry(entry: Uint8Array): Buffer {
  if (entry.length > entryBytesMax)
    throw damaged(`a leaf has at most ${entryBytesMax} bytes, not ${entry.length}`);
  const bytes = Buffer.allocUnsafe(2 + entry.length);
  bytes.writeUInt16BE(entry.length);
  bytes.set(entry, 2);
  return bytes;
}

/** The first `width` leaves of a bundle, which may have grown since. */
export function decodeBundle(bytes: Buffer, width: number): Buffer[] {
  const entries: Buffer[] = [];
  let at = 0;
  while (at < bytes.length && entries.length < tileWidth) {
    const end = at + 2 <= bytes.length ? at + 2 + bytes.readUInt16BE(at) : Number.POSITIVE_INFINITY;
    if (end > bytes.length) throw damaged(`an entry bundle ends within its leaf ${entries.length}`);
    entries.push(bytes.subarray(at + 2, end));
    at = end;
  }
  if (at !== bytes.length || entries.length < width)
    throw damaged(
      `an entry bundle of ${width} leaves has ${entries.length}, and ${bytes.length - at} bytes more`,
    );
  return entries.slice(0, width);
}
