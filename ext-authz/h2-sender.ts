/** What a server writes to an HTTP/2 connection: within the peer's windows, and in one write a turn. */
import type { Socket } from 'node:net';
import {
  connectionError,
  flag,
  frame,
  frameBytesDefault,
  frameType,
  windowDefault,
  windowMax,
} from './h2-frames.ts';
import type { Part, Stream } from './h2-stream.ts';

export type SenderOwner = Readonly<{
  /** Told when the last of a stream's answer was put. */
  answered(stream: Stream): void;
  /** Told when the peer takes again what is written. */
  drained(): void;
  nowMs(): number;
}>;

export class Sender {
  private readonly socket: Socket;
  private readonly owner: SenderOwner;
  private window = windowDefault;
  /** What the peer takes on each new stream. */
  streamWindow = windowDefault;
  private frameBytesMax = frameBytesDefault;
  /**
   * Streams whose answers wait for the connection's window. One that waits for its own is not among them: only
   * its own frames, or a setting, help it, and no other stream's frame pays for looking at it.
   */
  private readonly blocked = new Set<Stream>();
  private out = '';
  private flushing = false;
  /** Of answers' data. */
  sentBytes = 0;
  /** The peer does not take what is written, for now. */
  isFull = false;

  constructor(socket: Socket, owner: SenderOwner) {
    this.socket = socket;
    this.owner = owner;
    socket.on('drain', () => {
      this.isFull = false;
      owner.drained();
    });
  }

  put(text: string): void {
    this.out += text;
    if (this.flushing) return;
    this.flushing = true;
    // After the microtasks: every check that this turn decides leaves in the same write.
    process.nextTick(this.flush);
  }

  readonly flush = (): void => {
    this.flushing = false;
    if (this.out === '' || !this.socket.writable) return;
    const text = this.out;
    this.out = '';
    if (this.socket.write(text, 'latin1')) return;
    this.isFull = true;
    this.socket.pause();
  };

  send(stream: Stream, part: Part): void {
    if (stream.waiting !== undefined) stream.waiting.push(part);
    else if (!this.isSent(stream, part)) {
      stream.waiting = [part];
      stream.waitsFromMs = this.owner.nowMs();
      if (stream.window > 0) this.blocked.add(stream);
    }
  }

  forget(stream: Stream): void {
    stream.waiting = undefined;
    this.blocked.delete(stream);
  }

  /** Section 6.9.1. */
  widen(by: number): void {
    if (by === 0) throw connectionError('PROTOCOL_ERROR', 'a window is widened by nothing');
    this.window += by;
    if (this.window > windowMax) throw tooWide();
    for (const stream of this.blocked) {
      if (this.window === 0) return;
      this.resume(stream);
    }
  }

  /** False where that is more than a window can be. */
  widenStream(stream: Stream, by: number): boolean {
    if (by === 0 || stream.window + by > windowMax) return false;
    stream.window += by;
    this.resume(stream);
    return true;
  }

  /** Section 6.9.2: streams that are open follow, by the difference, maybe below zero. */
  setStreamWindow(window: number, open: Iterable<Stream>): void {
    const by = window - this.streamWindow;
    if (by === 0) return;
    this.streamWindow = window;
    for (const stream of open) {
      stream.window += by;
      if (stream.window > windowMax) throw tooWide();
      this.resume(stream);
    }
  }

  setFrameBytesMax(bytes: number): void {
    if (bytes < frameBytesDefault || bytes > 2 ** 24 - 1)
      throw connectionError('PROTOCOL_ERROR', 'a frame size out of its bounds');
    this.frameBytesMax = bytes;
  }

  /** False where a window was too small for all of it. */
  private isSent(stream: Stream, part: Part): boolean {
    if ('block' in part) {
      const flags = flag.endHeaders | (part.last ? flag.endStream : 0);
      this.put(frame(frameType.headers, flags, stream.id, part.block));
      if (part.last) this.owner.answered(stream);
      return true;
    }
    const { data } = part;
    while (part.at < data.length) {
      const bytes = Math.min(data.length - part.at, this.frameBytesMax, stream.window, this.window);
      if (bytes <= 0) return false;
      this.put(frame(frameType.data, 0, stream.id, data.slice(part.at, part.at + bytes)));
      part.at += bytes;
      this.sentBytes += bytes;
      stream.window -= bytes;
      this.window -= bytes;
    }
    return true;
  }

  /** Sends what waits, as far as the windows reach. */
  private resume(stream: Stream): void {
    const parts = stream.waiting;
    if (parts === undefined) return;
    let next = parts[0];
    while (next !== undefined && this.isSent(stream, next)) {
      parts.shift();
      next = parts[0];
    }
    if (next === undefined) this.forget(stream);
    else if (stream.window > 0) this.blocked.add(stream);
    else this.blocked.delete(stream);
  }
}

const tooWide = () => connectionError('FLOW_CONTROL_ERROR', 'a window is too large');
