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

export function createBodyBudget(totalBytesMax: number = limits.inspectedBodiesBytesMax): BodyBudget {
  let held = 0;

  const read: BodyBudget['read'] = (request) => {
    const limitBytes = limits.inspectedBodyBytesMax;
    const declared = Number(request.headers['content-length'] ?? 0);
    if (declared > limitBytes) return Promise.resolve({ kind: 'too-large', limitBytes });
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let size = 0;
      const finish = (): void => {
        request.off('data', onData);
        request.off('end', onEnd);
        request.off('error', onError);
        request.off('close', onClose);
      };
      const drop = (): void => {
        finish();
        held -= size;
        request.pause();
      };
      const onData = (chunk: Buffer): void => {
        if (size + chunk.length > limitBytes) {
          drop();
          resolve({ kind: 'too-large', limitBytes });
          return;
        }
        if (held + chunk.length > totalBytesMax) {
          drop();
          reject(
            new SallyportError(
              'Overloaded',
              `request bodies in memory are at their limit of ${totalBytesMax} bytes`,
            ),
          );
          return;
        }
        size += chunk.length;
        held += chunk.length;
        chunks.push(chunk);
      };
      const onEnd = (): void => {
        finish();
        resolve({ kind: 'whole', bytes: Buffer.concat(chunks, size) });
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
      if (body.kind === 'whole') held -= body.bytes.byteLength;
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
