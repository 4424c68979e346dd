/**
 * One HTTP/2 connection (RFC 9113), the server's side, as far as gRPC needs it: no push, no priorities, answers
 * without header tables. node:http2 makes two streams of a dozen listeners for each request; here a request is
 * one small object, and all answers of a turn leave in one write (docs/decisions/0011).
 *
 * Everything is bounded: header block, frame, bytes of a stream and of the connection by their windows, streams
 * at once, time until a request is whole and until its answer is taken, work of one turn, frames that bring no
 * request. No frame but SETTINGS costs more for there being many streams, and of those there are few. While the
 * peer reads nothing, nothing more is read of it.
 */
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { limits } from '../config/limits.ts';
import {
  assertFrame,
  connectionError,
  type ErrorName,
  flag,
  frame,
  frameType,
  goaway,
  H2ConnectionError,
  rstStream,
  setting,
  settingsAck,
  settingsFrame,
  unpadded,
  windowDefault,
  windowMax,
  windowUpdate,
} from './h2-frames.ts';
import { createHeadReader, type HeadReader } from './h2-head.ts';
import { Patience } from './h2-patience.ts';
import { FrameReader, type FrameTaker } from './h2-reader.ts';
import { Sender } from './h2-sender.ts';
import { type Accept, type Part, Stream, type StreamOwner } from './h2-stream.ts';

export type ConnectionOptions = Readonly<{
  accept: Accept;
  log: Logger;
  /** Streams at once; one more is refused, and may be tried again. */
  streamsMax: number;
  /** Bytes that one request may have under way. */
  streamWindowBytes: number;
  /** The same of all requests of this connection. */
  windowBytes: number;
  nowMs: () => number;
}>;

/** A header block that goes over several frames. */
type Unfinished = { id: number; isLast: boolean; parts: Buffer[]; size: number };

/** Frames that a header block counts as, and a request that has come whole. */
const heavy = 8;

export class H2Connection implements StreamOwner, FrameTaker {
  private readonly socket: Socket;
  private readonly options: ConnectionOptions;
  private readonly frames = new FrameReader();
  private readonly patience = new Patience();
  private readonly heads: HeadReader = createHeadReader();
  private readonly sender: Sender;
  private readonly streams = new Map<number, Stream>();
  private readonly openedMs: number;
  private hasSettings = false;
  private unfinished: Unfinished | undefined;
  private lastId = 0;
  /** What the peer may still send, and what of it is read but not yet given back. */
  private window: number;
  private owed = 0;
  private draining = false;
  private over = false;
  /** Frames of this turn: the first answers leave while the last questions are still read. */
  private work = 0;
  /** There are whole frames that wait for the next turn. */
  private behind = false;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.socket = socket;
    this.options = options;
    this.openedMs = options.nowMs();
    this.window = options.windowBytes;
    this.sender = new Sender(socket, {
      answered: (stream) => this.answered(stream),
      drained: this.readOn,
      nowMs: options.nowMs,
    });
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.read(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.closed());
    this.sender.put(
      settingsFrame([
        [setting.maxConcurrentStreams, options.streamsMax],
        [setting.initialWindowSize, options.streamWindowBytes],
        [setting.maxHeaderListSize, limits.checkHeaderBytesMax],
      ]) + windowUpdate(0, options.windowBytes - windowDefault),
    );
  }

  /** Takes no new stream; ends once the ones it has are answered. */
  drain(): void {
    if (this.draining || this.over) return;
    this.draining = true;
    this.sender.put(goaway(this.lastId, 'NO_ERROR'));
    if (this.streams.size === 0) this.finish();
  }

  cut(): void {
    this.over = true;
    this.socket.destroy();
  }

  /** Gives up what took too long to come whole, or to be taken. Called now and then. */
  sweep(nowMs: number): void {
    this.patience.renew();
    const before = nowMs - limits.requestHeadersTimeoutMs;
    if (!this.hasSettings && this.openedMs < before) this.cut();
    const answersBefore = nowMs - limits.checkAnswerTimeoutMs;
    for (const stream of this.streams.values()) {
      const isUntaken = stream.waiting !== undefined && stream.waitsFromMs < answersBefore;
      if (isUntaken || (!stream.isWhole && stream.openedMs < before)) this.abandon(stream, 'CANCEL');
    }
  }

  send(stream: Stream, part: Part): void {
    this.sender.send(stream, part);
  }

  drop(stream: Stream): void {
    this.sender.put(rstStream(stream.id, 'CANCEL'));
    this.forget(stream, false);
  }

  private read(chunk: Buffer): void {
    if (this.over) return;
    this.frames.add(chunk);
    if (!this.behind) this.readTurn();
  }

  private readTurn(): void {
    this.work = 0;
    try {
      this.frames.read(this);
    } catch (thrown) {
      this.fail(thrown);
    }
    this.behind = !this.wants() && !this.over && this.frames.hasMore;
    if (!this.behind) return;
    this.socket.pause();
    setImmediate(this.readOn);
  }

  /** In the next turn, or when the peer takes answers again: who does not read is not read. */
  private readonly readOn = (): void => {
    if (this.over || this.sender.isFull) return;
    if (this.behind) this.readTurn();
    if (!this.behind) this.socket.resume();
  };

  wants(): boolean {
    return !this.over && this.work < limits.checkFramesPerTurnMax;
  }

  take(type: number, flags: number, id: number, payload: Buffer): void {
    this.work += 1;
    if (type !== frameType.data && type !== frameType.windowUpdate) this.patience.idle();
    if (!this.hasSettings && (type !== frameType.settings || (flags & flag.ack) !== 0))
      throw connectionError('PROTOCOL_ERROR', 'the first frame is not SETTINGS');
    if (this.unfinished !== undefined && (type !== frameType.continuation || id !== this.unfinished.id))
      throw connectionError('PROTOCOL_ERROR', 'a header block is interrupted');
    switch (type) {
      case frameType.data:
        this.onData(flags, id, payload);
        break;
      case frameType.headers:
        this.onHeaders(flags, id, payload);
        break;
      case frameType.continuation:
        this.onContinuation(flags, payload);
        break;
      case frameType.rstStream:
        this.onReset(id, payload);
        break;
      case frameType.settings:
        this.onSettings(flags, id, payload);
        break;
      case frameType.windowUpdate:
        this.onWindowUpdate(id, payload);
        break;
      case frameType.ping:
        assertFrame(payload.length === 8, id === 0);
        if ((flags & flag.ack) === 0)
          this.sender.put(frame(frameType.ping, flag.ack, 0, payload.toString('latin1')));
        break;
      case frameType.priority:
        assertFrame(payload.length === 5, id !== 0);
        break;
      case frameType.goaway:
        assertFrame(payload.length >= 8, id === 0);
        break;
      case frameType.pushPromise:
        throw connectionError('PROTOCOL_ERROR', 'a client does not push');
      // Section 4.1: frames of other types are ignored.
    }
  }

  private onData(flags: number, id: number, payload: Buffer): void {
    this.window -= payload.length;
    if (this.window < 0) throw connectionError('FLOW_CONTROL_ERROR', 'more bytes than the window has');
    const stream = this.streams.get(id);
    if (stream === undefined) {
      this.assertNotIdle(id);
      this.patience.idle();
      this.giveBack(payload.length);
      return;
    }
    stream.held += payload.length;
    stream.received += payload.length;
    if (stream.isWhole || stream.received > this.options.streamWindowBytes) {
      this.abandon(stream, stream.isWhole ? 'STREAM_CLOSED' : 'FLOW_CONTROL_ERROR');
      return;
    }
    const bytes = unpadded(flags, payload);
    if (bytes.length > 0) stream.receiver?.data(bytes);
    else this.patience.idle();
    if ((flags & flag.endStream) !== 0 && !stream.isOver) this.whole(stream);
  }

  private onHeaders(flags: number, id: number, payload: Buffer): void {
    assertFrame(true, id % 2 === 1);
    let block = unpadded(flags, payload);
    if ((flags & flag.priority) !== 0) {
      assertFrame(block.length >= 5, true);
      block = block.subarray(5);
    }
    const isLast = (flags & flag.endStream) !== 0;
    if ((flags & flag.endHeaders) !== 0) this.onBlock(id, isLast, block);
    else this.unfinished = { id, isLast, parts: [block], size: block.length };
  }

  private onContinuation(flags: number, payload: Buffer): void {
    const { unfinished } = this;
    if (unfinished === undefined) throw connectionError('PROTOCOL_ERROR', 'nothing is to be continued');
    unfinished.parts.push(payload);
    unfinished.size += payload.length;
    if (unfinished.size > limits.checkHeaderBytesMax || unfinished.parts.length > limits.checkHeaderFramesMax)
      throw connectionError('ENHANCE_YOUR_CALM', 'the header block is too long');
    if ((flags & flag.endHeaders) === 0) return;
    this.unfinished = undefined;
    this.onBlock(unfinished.id, unfinished.isLast, Buffer.concat(unfinished.parts));
  }

  private onBlock(id: number, isLast: boolean, block: Buffer): void {
    this.work += heavy - 1;
    const known = this.streams.get(id);
    if (known !== undefined) {
      this.heads.skip(block);
      // Trailers (section 8.1): they end the request, and only once.
      if (known.isWhole || !isLast) this.abandon(known, known.isWhole ? 'STREAM_CLOSED' : 'PROTOCOL_ERROR');
      else this.whole(known);
      return;
    }
    const head = this.heads.read(block);
    // Of a stream that is over already.
    if (id <= this.lastId) return;
    this.lastId = id;
    const isRefused = this.draining || this.streams.size >= this.options.streamsMax;
    if (isRefused || head === undefined) {
      this.sender.put(rstStream(id, isRefused ? 'REFUSED_STREAM' : 'PROTOCOL_ERROR'));
      return;
    }
    const stream = new Stream(this, id, this.sender.streamWindow, this.options.nowMs());
    this.streams.set(id, stream);
    stream.isWhole = isLast;
    stream.receiver = this.options.accept(stream, head);
    if (isLast && !stream.isOver) this.whole(stream);
  }

  private whole(stream: Stream): void {
    stream.isWhole = true;
    this.work += heavy - 1;
    this.patience.request();
    this.giveBack(stream.held);
    stream.held = 0;
    stream.receiver?.end();
  }

  private onReset(id: number, payload: Buffer): void {
    assertFrame(payload.length === 4, id !== 0);
    const stream = this.streams.get(id);
    if (stream === undefined) this.assertNotIdle(id);
    else this.forget(stream, true);
  }

  private onSettings(flags: number, id: number, payload: Buffer): void {
    const isAck = (flags & flag.ack) !== 0;
    assertFrame(isAck ? payload.length === 0 : payload.length % 6 === 0, id === 0);
    if (isAck) return;
    this.patience.settings();
    this.hasSettings = true;
    let streamWindow: number | undefined;
    for (let at = 0; at < payload.length; at += 6) {
      const value = payload.readUInt32BE(at + 2);
      switch (payload.readUInt16BE(at)) {
        case setting.initialWindowSize:
          if (value > windowMax) throw connectionError('FLOW_CONTROL_ERROR', 'a window is too large');
          streamWindow = value;
          break;
        case setting.maxFrameSize:
          this.sender.setFrameBytesMax(value);
          break;
        case setting.enablePush:
          if (value > 1) throw connectionError('PROTOCOL_ERROR', 'a setting out of its bounds');
      }
    }
    // Once a frame, whatever it says in between: every open stream follows.
    if (streamWindow !== undefined) this.sender.setStreamWindow(streamWindow, this.streams.values());
    this.sender.put(settingsAck);
  }

  private onWindowUpdate(id: number, payload: Buffer): void {
    assertFrame(payload.length === 4, true);
    const by = payload.readUInt32BE(0) & 0x7fffffff;
    const stream = this.streams.get(id);
    const { sentBytes } = this.sender;
    if (id === 0) this.sender.widen(by);
    else if (stream === undefined) this.assertNotIdle(id);
    else if (!this.sender.widenStream(stream, by))
      this.abandon(stream, by === 0 ? 'PROTOCOL_ERROR' : 'FLOW_CONTROL_ERROR');
    // One that lets something of an answer out is the answer's, however small its steps.
    if (this.sender.sentBytes === sentBytes) this.patience.idle();
  }

  /** Section 5.1.1: a stream that was never opened. */
  private assertNotIdle(id: number): void {
    if (id % 2 === 0 || id > this.lastId)
      throw connectionError('PROTOCOL_ERROR', 'a frame of a stream that is not open');
  }

  private giveBack(bytes: number): void {
    this.owed += bytes;
    if (this.owed < this.options.windowBytes / 4 || this.over) return;
    this.window += this.owed;
    this.sender.put(windowUpdate(0, this.owed));
    this.owed = 0;
  }

  private answered(stream: Stream): void {
    // Section 8.1: the rest of a request that is answered already is not wanted.
    if (!stream.isWhole) this.sender.put(rstStream(stream.id, 'NO_ERROR'));
    this.forget(stream, false);
  }

  /** A fault of the peer's, but this stream's alone. */
  private abandon(stream: Stream, code: ErrorName): void {
    this.sender.put(rstStream(stream.id, code));
    this.forget(stream, true);
  }

  /** @param tell whoever works on it. */
  private forget(stream: Stream, tell: boolean): void {
    this.streams.delete(stream.id);
    this.sender.forget(stream);
    stream.isOver = true;
    this.giveBack(stream.held);
    stream.held = 0;
    if (tell) stream.receiver?.gone();
    if (this.draining && this.streams.size === 0) this.finish();
  }

  /** What is written goes out; a peer that does not take it is cut. */
  private finish(): void {
    if (this.over) return;
    this.sender.flush();
    this.over = true;
    this.socket.end();
    setTimeout(() => this.socket.destroy(), limits.refusedSocketLingerMs).unref();
  }

  private fail(thrown: unknown): void {
    const known = thrown instanceof H2ConnectionError;
    if (known)
      this.options.log.warn({ code: thrown.code, detail: thrown.message }, 'a gRPC connection is ended');
    else this.options.log.error({ err: thrown }, 'a gRPC connection failed');
    this.sender.put(goaway(this.lastId, known ? thrown.code : 'INTERNAL_ERROR'));
    this.finish();
    this.closed();
  }

  private closed(): void {
    this.over = true;
    for (const stream of [...this.streams.values()]) this.forget(stream, true);
  }
}
