/** One request and its answer on an HTTP/2 connection. */
import type { RequestHead } from './h2-head.ts';

/** Who reads a request. */
export type Receiver = Readonly<{
  data(bytes: Buffer): void;
  /** The request is whole. */
  end(): void;
  /** The peer gave it up, or is gone, before it was answered whole. */
  gone(): void;
}>;

export type Accept = (stream: Stream, head: RequestHead) => Receiver;

/** A header block, or data of which the first `at` bytes are sent. All of it is binary text. */
export type Part = { readonly block: string; readonly last: boolean } | { readonly data: string; at: number };

/** What a stream asks of its connection. */
export type StreamOwner = Readonly<{ send(stream: Stream, part: Part): void; drop(stream: Stream): void }>;

export class Stream {
  readonly id: number;
  readonly openedMs: number;
  private readonly owner: StreamOwner;
  receiver: Receiver | undefined;
  /** Bytes of the request that count on the connection's window still. */
  held = 0;
  received = 0;
  isWhole = false;
  /** What the peer takes of the answer. */
  window: number;
  /** What waits for a window; undefined where nothing does. */
  waiting: Part[] | undefined;
  /** Since when, where something does. */
  waitsFromMs = 0;
  /** Answered whole, given up, or gone. */
  isOver = false;

  constructor(owner: StreamOwner, id: number, window: number, openedMs: number) {
    this.owner = owner;
    this.id = id;
    this.window = window;
    this.openedMs = openedMs;
  }

  /** @param last nothing follows. */
  head(block: string, last: boolean): void {
    if (!this.isOver) this.owner.send(this, { block, last });
  }

  data(data: string): void {
    if (!this.isOver) this.owner.send(this, { data, at: 0 });
  }

  /** Gives the stream up: what is not sent yet is not sent. */
  drop(): void {
    if (!this.isOver) this.owner.drop(this);
  }
}
