import { type AddressInfo, createServer, type Socket } from 'node:net';
import { connect } from 'node:tls';
import fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { readClientHello } from '../../../sidecar/embedded/client-hello.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

let hello: Buffer = Buffer.alloc(0);
let bare: Buffer = Buffer.alloc(0);

/** What OpenSSL sends first. */
function capture(options: Readonly<{ servername?: string; ALPNProtocols?: string[] }>): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket: Socket) => {
      let bytes = Buffer.alloc(0);
      socket.on('error', () => undefined);
      socket.on('data', (chunk: Buffer) => {
        bytes = Buffer.concat([bytes, chunk]);
        if (bytes.length < 5 || bytes.length < 5 + bytes.readUInt16BE(3)) return;
        socket.destroy();
        server.close(() => resolve(bytes));
      });
    });
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      connect({ port, host: '127.0.0.1', ...options }).on('error', () => undefined);
    });
  });
}

beforeAll(async () => {
  hello = await capture({ servername: 'API.Example.test', ALPNProtocols: ['h2', 'http/1.1'] });
  bare = await capture({});
});

/** The same handshake message in records of this size. */
function inRecords(bytes: Buffer, size: number): Buffer {
  const message = bytes.subarray(5);
  const records: Buffer[] = [];
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size);
    records.push(Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part);
  }
  return Buffer.concat(records);
}

const whole = { kind: 'hello', sni: 'api.example.test', alpn: ['h2', 'http/1.1'] };

test('a hello of OpenSSL is read: name in lower case, protocols in order', () => {
  expect(readClientHello(hello)).toEqual(whole);
  expect(readClientHello(bare)).toEqual({ kind: 'hello', sni: '', alpn: [] });
});

test('every part of a hello asks for more, whatever the size of the pieces', () => {
  for (let length = 0; length < hello.length; length += 1)
    expect(readClientHello(hello.subarray(0, length)), String(length)).toMatchObject({ kind: 'more' });
});

test.each([1, 2, 3, 7, 100, 1_000])('a hello in records of %i bytes is the same hello', (size) => {
  const split = inRecords(hello, size);
  const fits = Math.ceil((hello.length - 5) / size) <= limits.clientHelloRecordsMax;
  expect(readClientHello(split)).toMatchObject(fits ? whole : { kind: 'invalid' });
  for (let length = 0; length < Math.min(split.length, 200); length += 1)
    expect(readClientHello(split.subarray(0, length))).toMatchObject({ kind: 'more' });
});

test.each([8, 100, 1_000])('a hello in records of %i bytes is asked for in few steps', (size) => {
  const split = inRecords(hello, size);
  let steps = 0;
  let length = 1;
  for (;;) {
    const found = readClientHello(split.subarray(0, length));
    if (found.kind !== 'more') {
      expect(found).toEqual(whole);
      break;
    }
    expect(found.bytesNeeded).toBeGreaterThan(length);
    expect(found.bytesNeeded).toBeLessThanOrEqual(split.length);
    length = found.bytesNeeded;
    steps += 1;
  }
  expect(steps).toBeLessThanOrEqual(2 * Math.ceil(hello.length / size) + 3);
});

test('a hello in more records than the limit is refused before it is whole', () => {
  const split = inRecords(
    Buffer.concat([Buffer.alloc(5), Buffer.from([1, 0, 16, 0]), Buffer.alloc(4_096)]),
    1,
  );
  const first = 6 * limits.clientHelloRecordsMax;
  expect(readClientHello(split.subarray(0, first))).toMatchObject({ kind: 'more' });
  expect(readClientHello(split.subarray(0, first + 6))).toMatchObject({ kind: 'invalid' });
});

test('what follows the hello is left alone', () => {
  expect(readClientHello(Buffer.concat([hello, Buffer.from('more')]))).toEqual(whole);
});

const extension = (type: number, body: Buffer): Buffer =>
  Buffer.concat([Buffer.from([type >> 8, type & 255, body.length >> 8, body.length & 255]), body]);
const sized = (bytes: Buffer): Buffer =>
  Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 255]), bytes]);
const serverName = (...names: readonly string[]): Buffer =>
  sized(Buffer.concat(names.map((name) => Buffer.concat([Buffer.from([0]), sized(Buffer.from(name))]))));
const made = (...extensions: readonly Buffer[]): Buffer => {
  const body = Buffer.concat([
    Buffer.from([3, 3]),
    Buffer.alloc(32),
    Buffer.from([0, 0, 2, 0x13, 0x01, 1, 0]),
    sized(Buffer.concat(extensions)),
  ]);
  const message = Buffer.concat([Buffer.from([1, 0, body.length >> 8, body.length & 255]), body]);
  return Buffer.concat([Buffer.from([22, 3, 1]), sized(message)]);
};

test('a hello with two readings of its name is refused', () => {
  expect(readClientHello(made(extension(0, serverName('a.test'))))).toMatchObject({ sni: 'a.test' });
  const twice = made(extension(0, serverName('a.test')), extension(0, serverName('b.test')));
  expect(readClientHello(twice)).toMatchObject({ kind: 'invalid' });
  expect(readClientHello(made(extension(0, serverName('a.test', 'b.test'))))).toMatchObject({
    kind: 'invalid',
  });
  for (const name of ['', 'a\0.test', 'a test', 'ä.test', 'a'.repeat(256)])
    expect(readClientHello(made(extension(0, serverName(name)))), name).toMatchObject({ kind: 'invalid' });
});

test.each([
  ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
  ['another handshake message', Buffer.from([22, 3, 1, 0, 4, 2, 0, 0, 0])],
  ['a record without content', Buffer.from([22, 3, 1, 0, 0])],
  ['a record that is too long', Buffer.from([22, 3, 1, 0x40, 1])],
  ['SSL 2', Buffer.from([22, 2, 0, 0, 10])],
  ['an alert', Buffer.from([21, 3, 1, 0, 2, 2, 40])],
  ['a message that claims 16 MiB', Buffer.from([22, 3, 1, 0, 4, 1, 255, 255, 255])],
])('%s is no hello', (_, bytes) => {
  expect(readClientHello(bytes)).toMatchObject({ kind: 'invalid' });
});

test('a hello that never ends is refused at the limit', () => {
  const endless = inRecords(Buffer.alloc(limits.clientHelloBytesMax + 100, 1), 1);
  expect(readClientHello(endless)).toMatchObject({ kind: 'invalid' });
});

test('any bytes are answered, never thrown at', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.boolean(), (bytes, framed) => {
      const found = readClientHello(
        framed ? Buffer.concat([Buffer.from([22, 3, 1]), sized(Buffer.from(bytes))]) : Buffer.from(bytes),
      );
      expect(['more', 'invalid', 'hello']).toContain(found.kind);
    }),
    fuzzRuns,
  );
});

test('a hello with any byte changed is answered, and its name stays a name', () => {
  fc.assert(
    fc.property(fc.nat(hello.length - 1), fc.nat(255), (at, value) => {
      const changed = Buffer.from(hello);
      changed[at] = value;
      const found = readClientHello(changed);
      if (found.kind === 'hello') expect(found.sni).toMatch(/^[\x21-\x7e]{0,255}$/);
    }),
    fuzzRuns,
  );
});
