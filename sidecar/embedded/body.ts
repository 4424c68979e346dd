/** Whole bodies, for the calls whose rules read them: bounded each, and all together. */
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { Body } from '../../filters/facts.ts';
import type { Request } from './headers.ts';

export type BodyBudget = Readonly<{
  /** Reads the whole body, or says that it is too large. Throws Overloaded; rejects where the client goes away. */
  read(request: Request): Promise<Exclude<Body, { kind: 'unread' }>>;
  /** Called once the bytes are no longer needed. */
  release(body: Body): void;
}>;

const nothing = Buffer.allocUnsafeSlow(0);

export function createBodyBudget(totalBytesMax: number = limits.inspectedBodiesBytesMax): BodyBudget {
  let held = 0;

  const read: BodyBudget['read'] = (request) => {
    const limitBytes = limits.inspectedBodyBytesMax;
    const declared = Number(request.headers['content-length'] ?? 0);
    if (declared > limitBytes) return Promise.resolve({ kind: 'too-large', limitBytes });
    return new Promise((resolve, reject) => {
      // One buffer that grows, not a list: a chunk may be one byte, and each would cost a hundred.
      let room = nothing;
      let size = 0;
      const finish = (): void => {
        request.off('data', onData);
        request.off('end', onEnd);
        request.off('error', onError);
        request.off('close', onClose);
      };
      const drop = (): void => {
        finish();
        held -= room.length;
        room = nothing;
        request.pause();
      };
      const onData = (chunk: Buffer): void => {
        if (size + chunk.length > limitBytes) {
          drop();
          resolve({ kind: 'too-large', limitBytes });
          return;
        }
        const wanted =
          size + chunk.length <= room.length
            ? room.length
            : Math.max(size + chunk.length, Math.min(room.length * 2, limitBytes));
        if (held - room.length + wanted > totalBytesMax) {
          drop();
          reject(
            new SallyportError(
              'Overloaded',
              `request bodies in memory are at their limit of ${totalBytesMax} bytes`,
            ),
          );
          return;
        }
        if (wanted > room.length) {
          const larger = Buffer.allocUnsafeSlow(wanted);
          room.copy(larger, 0, 0, size);
          held += wanted - room.length;
          room = larger;
        }
        chunk.copy(room, size);
        size += chunk.length;
      };
      const onEnd = (): void => {
        finish();
        resolve({ kind: 'whole', bytes: room.subarray(0, size) });
      };
      const onError = (cause: unknown): void => {
        drop();
        reject(new SallyportError('RequestMalformed', 'the body ended before it was whole', { cause }));
      };
      const onClose = (): void => onError(new Error('closed'));
      request.on('data', onData);
      request.once('end', onEnd);
      request.once('error', onError);
      request.once('close', onClose);
    });
  };

  return {
    read,
    release: (body) => {
      // All that was taken for it, of which the body may fill a part.
      if (body.kind === 'whole') held -= body.bytes.buffer.byteLength;
    },
  };
}

/** Whether the request has a body at all: without one nothing is piped, and no length is invented upstream. */
export function hasBody(request: Request): boolean {
  if ('stream' in request) return !request.stream.endAfterHeaders;
  return (
    request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0
  );
}
