/**
 * Protocol Buffers (protobuf.dev/programming-guides/encoding), as much of them as checks are made of. Messages
 * are binary text, one character for each byte: made from bytes in one step, and cut without copying.
 */
import { malformed } from './shape.ts';

const wire = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

/** Reads one message, or one that lies inside of another. Whatever is not well formed is RequestMalformed. */
export class Reader {
  readonly text: string;
  at: number;
  end: number;
  /** Number of the field that `next` found. */
  field = 0;
  private type = 0;

  constructor(text: string, at = 0, end = text.length) {
    this.text = text;
    this.at = at;
    this.end = end;
  }

  /** False at the end. The field that is found has to be read or skipped. */
  next(): boolean {
    if (this.at >= this.end) return false;
    const tag = this.varint();
    this.field = Math.floor(tag / 8);
    this.type = tag % 8;
    if (this.field === 0) throw malformed('the message has a field without number');
    return true;
  }

  /** Past 2^53 it is no longer exact; nothing here is that large. */
  varint(): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 10; count += 1) {
      if (this.at >= this.end) throw cut();
      const byte = this.text.charCodeAt(this.at);
      this.at += 1;
      if (byte < 0x80) return value + byte * scale;
      value += (byte - 0x80) * scale;
      scale *= 128;
    }
    throw malformed('the message has a number that is too long');
  }

  number(): number {
    this.expect(wire.varint);
    return this.varint();
  }

  /** UTF-8; what is not becomes U+FFFD, which no check lets pass. */
  string(): string {
    const text = this.binary();
    return notAscii.test(text) ? Buffer.from(text, 'latin1').toString('utf8') : text;
  }

  bytes(): Uint8Array {
    return Buffer.from(this.binary(), 'latin1');
  }

  /** Into the message that stands here: `next` then finds its fields. Returns what `leave` has to be given. */
  enter(): number {
    this.expect(wire.bytes);
    const length = this.varint();
    const { end } = this;
    if (length > end - this.at) throw cut();
    this.end = this.at + length;
    return end;
  }

  /** Out of it, once `next` has said that nothing is left. */
  leave(end: number): void {
    this.end = end;
  }

  skip(): void {
    if (this.type === wire.varint) this.varint();
    else if (this.type === wire.bytes) this.jump(this.varint());
    else if (this.type === wire.fixed64) this.jump(8);
    else if (this.type === wire.fixed32) this.jump(4);
    else throw malformed('the message has a field of a kind that is not used');
  }

  private binary(): string {
    this.expect(wire.bytes);
    const length = this.varint();
    const from = this.at;
    this.jump(length);
    return this.text.slice(from, this.at);
  }

  private jump(bytes: number): void {
    this.at += bytes;
    if (this.at > this.end) throw cut();
  }

  private expect(type: number): void {
    if (this.type !== type) throw malformed(`field ${this.field} of the message has the wrong kind`);
  }
}

const notAscii = /[\x80-\xff]/;
const cut = () => malformed('the message is cut short');

function varint(value: number): string {
  let text = '';
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) text += String.fromCharCode((rest % 128) | 0x80);
  return text + String.fromCharCode(rest);
}

/** A field of bytes or of a message, binary text already. */
export const binaryField = (field: number, text: string): string =>
  varint(field * 8 + wire.bytes) + varint(text.length) + text;

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are the lower end of ASCII
const wide = /[^\x00-\x7f]/;
export const stringField = (field: number, text: string): string =>
  binaryField(field, wide.test(text) ? Buffer.from(text).toString('latin1') : text);

/** Zero is what an absent number means, and is left out. */
export const numberField = (field: number, value: number): string =>
  value === 0 ? '' : varint(field * 8 + wire.varint) + varint(value);
