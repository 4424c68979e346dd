/**
 * The first message of a TLS client (RFC 8446, section 4.1.2), read only as far as routing needs it. It may
 * come in any number of records and of TCP segments; a hello that is not whole within the limit is refused.
 */
import { limits } from '../../config/limits.ts';

/** Everything so far fits; with less than `bytesNeeded` nothing new can be said of it. */
export type More = Readonly<{ kind: 'more'; bytesNeeded: number }>;

export type ClientHello =
  | More
  | Readonly<{ kind: 'invalid'; reason: string }>
  /** `sni` in lower case; empty where none was sent. */
  | Readonly<{ kind: 'hello'; sni: string; alpn: readonly string[] }>;

const handshakeRecord = 22;
const clientHelloType = 1;
const recordHeaderBytes = 5;
const handshakeHeaderBytes = 4;
/** RFC 8446, section 5.1. */
const recordBytesMax = 16_384;
const serverNameExtension = 0;
const alpnExtension = 16;
const hostName = /^[\x21-\x7e]{1,255}$/;

class Malformed extends Error {}

/** Reads big-endian fields and vectors; running past the end means that the hello contradicts itself. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;
  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }
  get done(): boolean {
    return this.#at === this.#bytes.length;
  }
  take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new Malformed('a length runs past the end');
    const part = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return part;
  }
  number(bytes: 1 | 2): number {
    return this.take(bytes).readUIntBE(0, bytes);
  }
  vector(lengthBytes: 1 | 2): Buffer {
    return this.take(this.number(lengthBytes));
  }
}

export function readClientHello(bytes: Buffer): ClientHello {
  if (bytes.length > limits.clientHelloBytesMax) return invalid('the hello is larger than the limit');
  try {
    const message = handshakeMessage(bytes);
    return typeof message === 'number' ? { kind: 'more', bytesNeeded: message } : readHello(message);
  } catch (thrown) {
    if (thrown instanceof Malformed) return invalid(thrown.message);
    throw thrown;
  }
}

const invalid = (reason: string): ClientHello => ({ kind: 'invalid', reason });

/**
 * The hello's body out of its records; while it is not whole, how many bytes there must be for the next step.
 * Linear: put together once, and of a bounded number of records.
 */
function handshakeMessage(bytes: Buffer): Buffer | number {
  const parts: Buffer[] = [];
  const header: number[] = [];
  let have = 0;
  let need = handshakeHeaderBytes;
  let at = 0;
  while (at < bytes.length) {
    if (bytes[at] !== handshakeRecord) throw new Malformed('not a handshake record');
    if (bytes.length > at + 1 && bytes[at + 1] !== 3) throw new Malformed('not TLS');
    if (bytes.length < at + recordHeaderBytes) return at + recordHeaderBytes;
    const length = bytes.readUInt16BE(at + 3);
    if (length === 0 || length > recordBytesMax) throw new Malformed('a record has an impossible length');
    if (parts.length === limits.clientHelloRecordsMax)
      throw new Malformed(`the hello is in more than ${limits.clientHelloRecordsMax} records`);
    const start = at + recordHeaderBytes;
    const part = bytes.subarray(start, start + length);
    parts.push(part);
    have += part.length;
    at = start + length;
    header.push(...part.subarray(0, handshakeHeaderBytes - header.length));
    const [type, ...size] = header;
    if (type !== undefined && type !== clientHelloType) throw new Malformed('not a client hello');
    if (header.length === handshakeHeaderBytes) {
      need = handshakeHeaderBytes + Buffer.from(size).readUIntBE(0, 3);
      if (need > handshakeHeaderBytes + limits.clientHelloBytesMax)
        throw new Malformed('the hello is larger than the limit');
      if (have >= need) return Buffer.concat(parts, have).subarray(handshakeHeaderBytes, need);
    }
    if (at > bytes.length) return Math.min(at, bytes.length + need - have);
  }
  return at + recordHeaderBytes;
}

function readHello(message: Buffer): ClientHello {
  const hello = new Reader(message);
  if (hello.number(2) >> 8 !== 3) throw new Malformed('not a TLS version');
  hello.take(32);
  if (hello.vector(1).length > 32) throw new Malformed('the session id is longer than 32 bytes');
  if (hello.vector(2).length % 2 !== 0) throw new Malformed('the cipher suites are cut');
  hello.vector(1);
  if (hello.done) return { kind: 'hello', sni: '', alpn: [] };
  const extensions = new Reader(hello.vector(2));
  if (!hello.done) throw new Malformed('bytes after the extensions');
  const seen = new Set<number>();
  let sni = '';
  let alpn: readonly string[] = [];
  while (!extensions.done) {
    const type = extensions.number(2);
    const body = extensions.vector(2);
    // RFC 8446, section 4.2: at most one extension of each type; two SNIs would have two readings.
    if (seen.has(type)) throw new Malformed('an extension is sent twice');
    seen.add(type);
    if (type === serverNameExtension) sni = readServerName(body);
    else if (type === alpnExtension) alpn = readAlpn(body);
  }
  return { kind: 'hello', sni, alpn };
}

/** RFC 6066, section 3: one name of each type, and only the type `host_name` (0) exists. */
function readServerName(body: Buffer): string {
  const outer = new Reader(body);
  const list = new Reader(outer.vector(2));
  if (!outer.done) throw new Malformed('bytes after the server names');
  if (list.number(1) !== 0) throw new Malformed('a server name that is not a host name');
  const name = list.vector(2).toString('latin1');
  if (!list.done) throw new Malformed('more than one server name');
  if (!hostName.test(name)) throw new Malformed('the server name has a character that no host has');
  return name.toLowerCase();
}

/** RFC 7301, section 3.1. */
function readAlpn(body: Buffer): readonly string[] {
  const outer = new Reader(body);
  const list = new Reader(outer.vector(2));
  if (!outer.done) throw new Malformed('bytes after the protocols');
  const names: string[] = [];
  while (!list.done) {
    const name = list.vector(1);
    if (name.length === 0) throw new Malformed('an empty protocol name');
    names.push(name.toString('latin1'));
  }
  return names;
}
