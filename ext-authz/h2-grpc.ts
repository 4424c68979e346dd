/**
 * gRPC over HTTP/2 (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md), the server's side: methods that take one
 * message. Messages are bytes here; what they mean is the method's.
 */
import { limits } from '../config/limits.ts';
import { headerBlock, uint32 } from './h2-frames.ts';
import type { RequestHead } from './h2-head.ts';
import type { Accept, Receiver, Stream } from './h2-stream.ts';

/** github.com/grpc/grpc, doc/statuscodes.md. */
export const grpcStatus = {
  deadlineExceeded: 4,
  notFound: 5,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
  unauthenticated: 16,
} as const;

export type Metadata = ReadonlyMap<string, string>;
/** `message` is the request, whole. */
export type Method = (call: GrpcCall, message: Buffer) => void;

export type GrpcOptions = Readonly<{
  methods: ReadonlyMap<string, Method>;
  /** Asked before anything of the message is read. A text refuses the call as unauthenticated. */
  refusal?: ((path: string, metadata: Metadata) => string | undefined) | undefined;
  /** Where a method takes less than a check does. */
  messageBytesMax?: ((path: string) => number | undefined) | undefined;
}>;

const prefixBytes = 5;
const contentType: readonly [string, string] = ['content-type', 'application/grpc'];
const openingBlock = headerBlock(200, [contentType]);
const okBlock = headerBlock(undefined, [['grpc-status', '0']]);

export class GrpcCall {
  readonly metadata: Metadata;
  private readonly stream: Stream;
  private timer: NodeJS.Timeout | undefined;
  private opened = false;
  /** Nobody waits for the answer any more. */
  isGone = false;
  /** Told once when the caller goes, or its time is up, before it was answered whole. */
  onGone: (() => void) | undefined;

  constructor(stream: Stream, metadata: Metadata) {
    this.stream = stream;
    this.metadata = metadata;
  }

  /** The one message of a unary method, and that all went well. Binary text, as everything that is sent. */
  answer(message: string): void {
    this.write(message);
    this.end();
  }

  write(message: string): void {
    if (!this.opened) this.stream.head(openingBlock, false);
    this.opened = true;
    this.stream.data(`\0${uint32(message.length)}${message}`);
  }

  end(): void {
    this.close(okBlock);
  }

  fail(code: number, words: string): void {
    const status: [string, string][] = [
      ['grpc-status', String(code)],
      ['grpc-message', words.replace(/[^\x20-\x24\x26-\x7e]/g, '?')],
    ];
    // Without an answer before it the status stands in the one block that there is (Trailers-Only).
    this.close(this.opened ? headerBlock(undefined, status) : headerBlock(200, [contentType, ...status]));
  }

  /** Not a gRPC request at all (doc/PROTOCOL-HTTP2.md, "Requests"). */
  notGrpc(): void {
    this.isGone = true;
    this.stream.head(headerBlock(415, []), true);
  }

  private close(block: string): void {
    clearTimeout(this.timer);
    this.isGone = true;
    this.stream.head(block, true);
  }

  /** The caller went. */
  leave(): void {
    if (this.isGone) return;
    clearTimeout(this.timer);
    this.isGone = true;
    this.onGone?.();
  }

  /** The caller's own deadline. One past ours is not followed: the check ends by itself before it. */
  expireAfter(ms: number): void {
    if (ms >= limits.checkTimeoutMs) return;
    this.timer = setTimeout(() => {
      if (this.isGone) return;
      this.leave();
      // What is half sent cannot be told an outcome in time.
      if (this.opened) this.stream.drop();
      else this.fail(grpcStatus.deadlineExceeded, 'the deadline of the call has passed');
    }, ms);
  }
}

const unitMs: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

/** Undefined where there is none; NaN where it is none. */
function timeoutMs(metadata: Metadata): number | undefined {
  const given = metadata.get('grpc-timeout');
  if (given === undefined) return undefined;
  const match = /^(\d{1,8})([HMSmun])$/.exec(given);
  return match === null ? Number.NaN : Number(match[1]) * (unitMs[match[2] ?? ''] ?? Number.NaN);
}

export function acceptGrpc(options: GrpcOptions): Accept {
  return (stream, head) => {
    const call = new GrpcCall(stream, head.fields);
    const refused = refusalOf(call, head, options);
    if (refused !== undefined) {
      refused();
      return deaf;
    }
    const method = options.methods.get(head.path);
    const bytesMax = options.messageBytesMax?.(head.path) ?? limits.checkRequestBytesMax;
    return method === undefined ? deaf : receive(call, method, bytesMax);
  };
}

const deaf: Receiver = { data: () => undefined, end: () => undefined, gone: () => undefined };

function refusalOf(call: GrpcCall, head: RequestHead, options: GrpcOptions): (() => void) | undefined {
  const { fields } = head;
  if (head.method !== 'POST' || !/^application\/grpc(?:[+;]|$)/.test(fields.get('content-type') ?? ''))
    return () => call.notGrpc();
  const unauthenticated = options.refusal?.(head.path, fields);
  if (unauthenticated !== undefined) return () => call.fail(grpcStatus.unauthenticated, unauthenticated);
  if (!options.methods.has(head.path))
    return () => call.fail(grpcStatus.unimplemented, 'there is no such method');
  const ms = timeoutMs(fields);
  if (ms !== undefined && Number.isNaN(ms))
    return () => call.fail(grpcStatus.internal, 'grpc-timeout is none');
  if (ms !== undefined) call.expireAfter(ms);
  return undefined;
}

/** Collects the one message. */
function receive(call: GrpcCall, method: Method, bytesMax: number): Receiver {
  /** The first piece as it came; more go into one buffer of ours, so that no tiny piece is kept for itself. */
  let bytes: Buffer = nothing;
  let size = 0;
  let expected: number | undefined;
  const add = (piece: Buffer): void => {
    const sum = size + piece.length;
    if (size === 0) bytes = piece;
    else {
      if (sum > bytes.length) {
        // Room grows with what has come, whatever length the message says it has.
        const wider = Buffer.allocUnsafe(Math.max(sum, Math.min(2 * sum, expected ?? 0)));
        bytes.copy(wider, 0, 0, size);
        bytes = wider;
      }
      piece.copy(bytes, size);
    }
    size = sum;
  };
  return {
    data: (piece) => {
      add(piece);
      if (expected === undefined && size >= prefixBytes) {
        if (bytes[0] !== 0) return call.fail(grpcStatus.unimplemented, 'compressed messages are not read');
        expected = bytes.readUInt32BE(1) + prefixBytes;
        if (expected - prefixBytes > bytesMax)
          return call.fail(grpcStatus.resourceExhausted, `the message is larger than ${bytesMax} bytes`);
      }
      if (expected !== undefined && size > expected) call.fail(grpcStatus.internal, notOne);
    },
    end: () => {
      if (size !== expected) call.fail(grpcStatus.internal, notOne);
      else method(call, bytes.subarray(prefixBytes, size));
    },
    gone: () => call.leave(),
  };
}

const nothing = Buffer.alloc(0);
const notOne = 'there is not exactly one message';
