/**
 * Header compression for HTTP/2 (RFC 7541), the receiving side. What is sent is written without tables, as
 * constants (`h2-frames.ts`).
 */
import { limits } from '../config/limits.ts';
import { connectionError } from './h2-frames.ts';
import { huffmanDecoded } from './h2-huffman.ts';

export type Field = readonly [name: string, value: string];

/** Appendix A; the first entry has index 1. */
const staticTable: readonly Field[] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  ...['200', '204', '206', '304', '400', '404', '500'].map((status): Field => [':status', status]),
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ...[
    'accept-language',
    'accept-ranges',
    'accept',
    'access-control-allow-origin',
    'age',
    'allow',
    'authorization',
    'cache-control',
    'content-disposition',
    'content-encoding',
    'content-language',
    'content-length',
    'content-location',
    'content-range',
    'content-type',
    'cookie',
    'date',
    'etag',
    'expect',
    'expires',
    'from',
    'host',
    'if-match',
    'if-modified-since',
    'if-none-match',
    'if-range',
    'if-unmodified-since',
    'last-modified',
    'link',
    'location',
    'max-forwards',
    'proxy-authenticate',
    'proxy-authorization',
    'range',
    'referer',
    'refresh',
    'retry-after',
    'server',
    'set-cookie',
    'strict-transport-security',
    'transfer-encoding',
    'user-agent',
    'vary',
    'via',
    'www-authenticate',
  ].map((name): Field => [name, '']),
];

/** What SETTINGS_HEADER_TABLE_SIZE is where nobody says otherwise, and we do not (RFC 9113, section 6.5.2). */
const tableBytesMax = 4_096;
/** Section 4.1: what an entry counts beside its name and value. */
const entryBytes = 32;

export class HpackDecoder {
  /** Newest last. */
  private table: Field[] = [];
  private tableBytes = 0;
  private tableMax = tableBytesMax;
  private bytes: Uint8Array = new Uint8Array(0);
  private at = 0;

  /** True where the block that was decoded last changed the table: the same bytes may then mean something else. */
  changed = false;

  /**
   * The fields of one whole header block. A block that is none, or is too large, ends the connection: its table
   * is then not what the sender believes (RFC 9113, section 4.3).
   */
  decode(block: Uint8Array): readonly Field[] {
    this.bytes = block;
    this.at = 0;
    this.changed = false;
    const fields: Field[] = [];
    let size = 0;
    while (this.at < block.length) {
      const first = block[this.at] ?? 0;
      if ((first & 0xe0) === 0x20) {
        if (fields.length > 0) throw broken('a table size stands after a field');
        this.resize(this.integer(5));
        continue;
      }
      const field = this.field(first);
      size += field[0].length + field[1].length + entryBytes;
      if (size > limits.checkHeaderBytesMax)
        throw connectionError(
          'ENHANCE_YOUR_CALM',
          `headers of more than ${limits.checkHeaderBytesMax} bytes`,
        );
      fields.push(field);
    }
    return fields;
  }

  /** Sections 6.1 and 6.2. */
  private field(first: number): Field {
    if ((first & 0x80) !== 0) return this.entry(this.integer(7));
    const indexed = (first & 0x40) !== 0;
    const index = this.integer(indexed ? 6 : 4);
    const name = index === 0 ? this.text() : this.entry(index)[0];
    const field: Field = [name, this.text()];
    if (indexed) this.insert(field);
    return field;
  }

  private entry(index: number): Field {
    const known = index <= staticTable.length;
    const found = known
      ? staticTable[index - 1]
      : this.table[this.table.length - (index - staticTable.length)];
    if (found === undefined) throw broken(`there is no entry ${index}`);
    return found;
  }

  private insert(field: Field): void {
    this.changed = true;
    this.table.push(field);
    this.tableBytes += field[0].length + field[1].length + entryBytes;
    this.evict();
  }

  private resize(size: number): void {
    if (size > tableBytesMax) throw broken(`a table of ${size} bytes; ${tableBytesMax} are allowed`);
    this.changed = true;
    this.tableMax = size;
    this.evict();
  }

  private evict(): void {
    let gone = 0;
    while (this.tableBytes > this.tableMax) {
      const oldest = this.table[gone];
      if (oldest === undefined) break;
      this.tableBytes -= oldest[0].length + oldest[1].length + entryBytes;
      gone += 1;
    }
    if (gone > 0) this.table.splice(0, gone);
  }

  /** Section 5.1. */
  private integer(prefixBits: number): number {
    const mask = 2 ** prefixBits - 1;
    let value = this.byte() & mask;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      // Four octets after the prefix reach past every length and index that is allowed here.
      if (shift > 21) throw broken('an integer is too long');
      const next = this.byte();
      value += (next & 0x7f) * 2 ** shift;
      if (next < 0x80) return value;
    }
  }

  private byte(): number {
    const value = this.bytes[this.at];
    if (value === undefined) throw broken('a header block ends in the middle');
    this.at += 1;
    return value;
  }

  /** Section 5.2; one character for each byte. */
  private text(): string {
    const coded = ((this.bytes[this.at] ?? 0) & 0x80) !== 0;
    const length = this.integer(7);
    const from = this.at;
    const to = from + length;
    if (to > this.bytes.length) throw broken('a header block ends in the middle');
    this.at = to;
    if (!coded)
      return Buffer.from(this.bytes.buffer, this.bytes.byteOffset + from, length).toString('latin1');
    const text = huffmanDecoded(this.bytes, from, to);
    if (text === undefined) throw broken('a string is not in the code');
    return text;
  }
}

const broken = (why: string) => connectionError('COMPRESSION_ERROR', why);
