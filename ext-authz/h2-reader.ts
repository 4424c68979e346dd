/** What comes on an HTTP/2 connection, cut into frames (RFC 9113, sections 3.4 and 4.1). */
import { connectionError, frameBytesDefault, frameHeadBytes, preface } from './h2-frames.ts';

export type FrameTaker = Readonly<{
  /** Whether another frame is wanted now. */
  wants(): boolean;
  take(type: number, flags: number, id: number, payload: Buffer): void;
}>;

const nothing = Buffer.alloc(0);

export class FrameReader {
  /** Bytes that came and were not taken yet. */
  private rest: Buffer = nothing;
  private prefaced = false;

  add(chunk: Buffer): void {
    this.rest = this.rest.length === 0 ? chunk : Buffer.concat([this.rest, chunk]);
  }

  /** True where a frame may be left. */
  get hasMore(): boolean {
    return this.rest.length >= frameHeadBytes;
  }

  read(taker: FrameTaker): void {
    const bytes = this.rest;
    let at = 0;
    if (!this.prefaced) {
      const came = bytes.toString('latin1', 0, preface.length);
      if (!preface.startsWith(came)) throw connectionError('PROTOCOL_ERROR', 'this is not HTTP/2');
      this.prefaced = came.length === preface.length;
      if (this.prefaced) at = preface.length;
    }
    while (this.prefaced && bytes.length - at >= frameHeadBytes && taker.wants()) {
      const length = bytes.readUIntBE(at, 3);
      if (length > frameBytesDefault)
        throw connectionError(
          'FRAME_SIZE_ERROR',
          `a frame of ${length} bytes; ${frameBytesDefault} are allowed`,
        );
      const from = at + frameHeadBytes;
      if (bytes.length < from + length) break;
      const type = bytes[at + 3] ?? 0;
      const flags = bytes[at + 4] ?? 0;
      const id = bytes.readUInt32BE(at + 5) & 0x7fffffff;
      at = from + length;
      taker.take(type, flags, id, bytes.subarray(from, at));
    }
    this.rest = at === bytes.length ? nothing : bytes.subarray(at);
  }
}
