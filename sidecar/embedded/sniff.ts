/** The first bytes of a tunnel, looked at and put back. */
import type { Socket } from 'node:net';

/**
 * Collects bytes until `read` says what they are, then gives them back to the socket, paused.
 * Undefined where the client closed, stayed silent or sent too much first.
 */
export function sniff<T>(
  socket: Socket,
  read: (bytes: Buffer) => T | undefined,
  options: Readonly<{ timeoutMs: number; bytesMax: number }>,
): Promise<T | undefined> {
  return new Promise((resolve) => {
    let bytes: Buffer = Buffer.alloc(0);
    const finish = (found: T | undefined): void => {
      clearTimeout(timer);
      socket.off('data', onData);
      socket.off('end', onEnd);
      socket.off('close', onEnd);
      socket.pause();
      if (bytes.length > 0 && !socket.destroyed) socket.unshift(bytes);
      resolve(found);
    };
    const onEnd = (): void => finish(undefined);
    const onData = (chunk: Buffer): void => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
      const found = read(bytes);
      if (found !== undefined) finish(found);
      else if (bytes.length > options.bytesMax) finish(undefined);
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

/** Undefined while the bytes could still become more than one protocol. */
export function protocolOf(bytes: Buffer): Protocol | undefined {
  const first = bytes[0];
  if (first === undefined) return undefined;
  if (first === 22) return 'tls';
  if (bytes.subarray(0, preface.length).equals(preface.subarray(0, bytes.length)))
    return bytes.length >= preface.length ? 'http2' : undefined;
  // Methods are upper-case in the policy; a blank line before the request line is left to the parser.
  return first >= 0x41 && first <= 0x5a ? 'http1' : 'other';
}
