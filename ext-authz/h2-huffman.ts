/** The string code of HPACK (RFC 7541, section 5.2 and appendix B). */

/**
 * Bits of each symbol's code. The code is canonical: codes of one length are consecutive, in the order of their
 * symbols, and follow those of the length before; so the lengths are all that has to be written down.
 */
const bitsOf: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7,
  8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19,
  13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13,
  28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21,
  22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23,
  22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
  19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25,
  25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const bitsMax = 30;

/** Per length: the first code, how many there are, and where their symbols begin in `symbols`. */
const first = new Int32Array(bitsMax + 1);
const count = new Int32Array(bitsMax + 1);
const begins = new Int32Array(bitsMax + 1);
const symbols = new Uint8Array(256);

let code = 0;
let placed = 0;
for (let bits = 1; bits <= bitsMax; bits += 1) {
  code *= 2;
  first[bits] = code;
  begins[bits] = placed;
  for (let symbol = 0; symbol < 256; symbol += 1) {
    if (bitsOf[symbol] !== bits) continue;
    symbols[placed] = symbol;
    placed += 1;
    code += 1;
  }
  count[bits] = placed - (begins[bits] ?? 0);
}

/** The text of a Huffman-coded string, one character for each byte; undefined where it is not one. */
export function huffmanDecoded(bytes: Uint8Array, from: number, to: number): string | undefined {
  let text = '';
  let value = 0;
  let bits = 0;
  for (let at = from; at < to; at += 1) {
    const byte = bytes[at] ?? 0;
    for (let bit = 7; bit >= 0; bit -= 1) {
      value = value * 2 + ((byte >> bit) & 1);
      bits += 1;
      if (bits > bitsMax) return undefined;
      const offset = value - (first[bits] ?? 0);
      if (offset < 0 || offset >= (count[bits] ?? 0)) continue;
      text += String.fromCharCode(symbols[(begins[bits] ?? 0) + offset] ?? 0);
      value = 0;
      bits = 0;
    }
  }
  // Section 5.2: less than a byte of padding, all ones. The end-of-string symbol itself (30 ones) never decodes.
  return bits < 8 && value === 2 ** bits - 1 ? text : undefined;
}
