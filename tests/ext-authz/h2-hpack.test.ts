import { connect } from 'node:http2';
import { createServer } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { limits } from '../../config/limits.ts';
import { H2ConnectionError, headerBlock } from '../../ext-authz/h2-frames.ts';
import { HpackDecoder } from '../../ext-authz/h2-hpack.ts';
import { huffmanDecoded } from '../../ext-authz/h2-huffman.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { closers, frames, portOf } from './h2-support.ts';

const hex = (text: string): Buffer => Buffer.from(text.replace(/\s+/g, ''), 'hex');

describe('the examples of RFC 7541, appendix C', () => {
  it.each<[string, string[]]>([
    [
      'without Huffman coding (C.3)',
      [
        '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
        '8286 84be 5808 6e6f 2d63 6163 6865',
        '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
      ],
    ],
    [
      'with it (C.4)',
      [
        '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
        '8286 84be 5886 a8eb 1064 9cbf',
        '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
      ],
    ],
  ])('%s', (_name, blocks) => {
    const decoder = new HpackDecoder();
    const [first, second, third] = blocks.map((block) => decoder.decode(hex(block)));
    const common = [
      [':method', 'GET'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'www.example.com'],
    ];
    expect(first).toEqual(common);
    expect(second).toEqual([...common, ['cache-control', 'no-cache']]);
    expect(third).toEqual([
      [':method', 'GET'],
      [':scheme', 'https'],
      [':path', '/index.html'],
      [':authority', 'www.example.com'],
      ['custom-key', 'custom-value'],
    ]);
  });

  it('with a table so small that entries leave it (C.5)', () => {
    const decoder = new HpackDecoder();
    // The example's table has 256 bytes, which the sender says first (section 6.3).
    const first = decoder.decode(
      hex(`3fe1 01 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230
           3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`),
    );
    const second = decoder.decode(hex('4803 3330 37c1 c0bf'));
    expect(first.map(([name]) => name)).toEqual([':status', 'cache-control', 'date', 'location']);
    expect(second).toEqual([[':status', '307'], ...first.slice(1)]);
    // `:status 302` left the table when `307` came.
    expect(() => decoder.decode(hex('c2'))).toThrow('no entry');
  });
});

it('keeps as many entries as the table has room for, to the byte', () => {
  const decoder = new HpackDecoder();
  // Two entries of 1 + 1 + 32 bytes.
  decoder.decode(hex('3f25 4001 6101 31 4001 6201 32'));
  expect(decoder.decode(hex('be bf'))).toEqual([
    ['b', '2'],
    ['a', '1'],
  ]);
  decoder.decode(hex('3f24'));
  expect(() => decoder.decode(hex('bf'))).toThrow('no entry');
});

describe('what is no header block', () => {
  it.each<[string, string]>([
    ['index 0', '80'],
    ['an index past both tables', 'be'],
    ['a length past the end', '4005 61'],
    ['a cut integer', 'ff'],
    ['an integer without end', 'ff80 8080 8080 8001'],
    ['a table larger than was offered', '3fe2 1f'],
    ['a table size after a field', '8220'],
    ['Huffman padding of a whole byte', '0081 ff00'],
    ['Huffman padding of zeros', '0081 0000'],
    ['the end-of-string symbol', '0084 ffff ffff 00'],
  ])('%s', (_name, block) => {
    expect(() => new HpackDecoder().decode(hex(block))).toThrow(
      expect.objectContaining({ code: 'COMPRESSION_ERROR' }),
    );
  });

  it('is one that unpacks to more than the limit', () => {
    const decoder = new HpackDecoder();
    // One long entry in the table, then one byte for each time it is meant.
    const value = 'x'.repeat(3_000);
    decoder.decode(
      Buffer.from(
        `\x40\x01a\x7f${String.fromCharCode(0x80 | ((3_000 - 127) & 0x7f), (3_000 - 127) >> 7)}${value}`,
        'latin1',
      ),
    );
    expect(() => decoder.decode(Buffer.alloc(limits.checkHeaderBytesMax / 3_000 + 1, 0xbe))).toThrow(
      expect.objectContaining({ code: 'ENHANCE_YOUR_CALM' }),
    );
  });

  it('is never any other failure, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 4 }), (blocks) => {
        const decoder = new HpackDecoder();
        try {
          for (const block of blocks) decoder.decode(block);
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(H2ConnectionError);
        }
      }),
      fuzzRuns,
    );
  });
});

it('reads every Huffman code as nghttp2 writes it', async () => {
  const seen: Buffer[] = [];
  const server = createServer((socket) => {
    socket.on('data', (chunk: Buffer) => seen.push(chunk));
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => new Promise((resolve) => server.close(resolve)));
  const session = connect(`http://127.0.0.1:${portOf(server)}`);
  session.on('error', () => undefined);
  closers.push(() => session.destroy());
  const printable = Array.from({ length: 95 }, (_, index) => String.fromCharCode(32 + index))
    .join('')
    .trim();
  const high = Array.from({ length: 128 }, (_, index) => String.fromCharCode(128 + index)).join('');
  // Codes of many bits are only chosen where the whole gets shorter by it.
  const values = [printable, `${'e'.repeat(800)}${high}${'e'.repeat(800)}`, '', 'aAaA%', 'e'.repeat(500)];
  for (const value of values)
    session
      .request({ ':path': '/', 'x-a': Buffer.from(value, 'latin1').toString('latin1') })
      .on('error', () => undefined);
  const blocks = (): Buffer[] =>
    frames(Buffer.concat(seen).subarray(24))
      .filter(({ type }) => type === 1)
      .map(({ payload }) => payload);
  while (blocks().length < values.length) await new Promise((resolve) => setTimeout(resolve, 5));
  const decoder = new HpackDecoder();
  const got = blocks().map((block) => decoder.decode(block).find(([name]) => name === 'x-a')?.[1]);
  expect(got).toEqual(values);
});

it('reads back what this side writes, and keeps none of it in the table', () => {
  const block = headerBlock(404, [
    ['x-long', 'v'.repeat(5_000)],
    ['x-short', ''],
    ['x-edge', 'w'.repeat(127)],
  ]);
  const decoder = new HpackDecoder();
  expect(decoder.decode(Buffer.from(block, 'latin1'))).toEqual([
    [':status', '404'],
    ['x-long', 'v'.repeat(5_000)],
    ['x-short', ''],
    ['x-edge', 'w'.repeat(127)],
  ]);
  expect(decoder.changed).toBe(false);
});

it('says a Huffman text only for whole codes', () => {
  const coded = hex('f1e3c2e5f23a6ba0ab90f4ff');
  expect(huffmanDecoded(coded, 0, coded.length)).toBe('www.example.com');
  expect(huffmanDecoded(coded, 0, coded.length - 1)).toBeUndefined();
});
