/** Two connections become one: bytes pass unread both ways, no faster than the slower side. */
import type { Socket } from 'node:net';
import { type Duplex, pipeline } from 'node:stream';
import { limits } from '../../config/limits.ts';

/** Ends both sides after `durationMs`, after silence, after an error, or once both have said all they had to. */
export function join(socket: Socket, upstream: Duplex, durationMs?: number): void {
  const end = (): void => {
    clearTimeout(timer);
    socket.destroy();
    upstream.destroy();
  };
  const timer = durationMs === undefined ? undefined : setTimeout(end, durationMs).unref();
  let open = 2;
  const done = (error: Error | null | undefined): void => {
    open -= 1;
    // One side may close its half and still read (RFC 9110, section 9.3.6).
    if (open === 0 || error) end();
  };
  if (socket.destroyed || upstream.destroyed) {
    end();
    return;
  }
  socket.setTimeout(limits.streamIdleTimeoutMs, end);
  // A pipeline in each direction listens more often than Node expects of one stream; the number is fixed.
  for (const side of [socket, upstream]) side.setMaxListeners(side.getMaxListeners() + 10);
  pipeline(socket, upstream, done);
  pipeline(upstream, socket, done);
}
