/** The first bytes of a tunnel, looked at and put back. */
import type { Socket } from 'node:net';
import type { More } from './client-hello.ts';

const isMore = (said: unknown): said is More =>
  typeof said === 'object' && said !== null && 'kind' in said && said.kind === 'more';

/**
 * Collects bytes until `read` says what they are, then gives them back to the socket, paused. `read` is asked
 * again only once as many bytes are there as it wants. Undefined where the client closed, stayed silent or
 * sent too much first.
 */
export function sniff<T>(
  socket: Socket,
  read: (bytes: Buffer) => T | More,
  options: Readonly<{ timeoutMs: number; bytesMax: number }>,
): Promise<T | undefined> {
  return new Promise((resolve) => {
    let room = Buffer.alloc(0);
    let size = 0;
    let needed = 1;
    const finish = (found: T | undefined): void => {
      clearTimeout(timer);
      socket.off('data', onData);
      socket.off('end', onEnd);
      socket.off('close', onEnd);
      socket.pause();
      if (size > 0 && !socket.destroyed) socket.unshift(room.subarray(0, size));
      resolve(found);
    };
    const onEnd = (): void => finish(undefined);
    const onData = (chunk: Buffer): void => {
      if (size + chunk.length > room.length) {
        const larger = Buffer.allocUnsafeSlow(Math.max(size + chunk.length, room.length * 2));
        room.copy(larger, 0, 0, size);
        room = larger;
      }
      chunk.copy(room, size);
      size += chunk.length;
      if (size >= needed) {
        const found = read(room.subarray(0, size));
        if (!isMore(found)) {
          finish(found);
          return;
        }
        needed = found.bytesNeeded;
      }
      if (size > options.bytesMax) finish(undefined);
    };
    const timer = setTimeout(onEnd, options.timeoutMs);
    socket.on('data', onData);
    socket.once('end', onEnd);
    socket.once('close', onEnd);
    socket.resume();
  });
}

export type Protocol = 'tls' | 'http1' | 'http2' | 'other';

/** RFC 9113, section 3.4: the preface of HTTP/2 in the clear. */
const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** More is wanted while the bytes could still become more than one protocol. */
export function protocolOf(bytes: Buffer): Protocol | More {
  const first = bytes[0];
  if (first === undefined) return { kind: 'more', bytesNeeded: 1 };
  if (first === 22) return 'tls';
  if (bytes.subarray(0, preface.length).equals(preface.subarray(0, bytes.length)))
    return bytes.length >= preface.length ? 'http2' : { kind: 'more', bytesNeeded: bytes.length + 1 };
  // Methods are upper-case in the policy; a blank line before the request line is left to the parser.
  return first >= 0x41 && first <= 0x5a ? 'http1' : 'other';
}
