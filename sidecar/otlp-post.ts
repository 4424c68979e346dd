/** One POST at a time to the collector, on a connection that is kept. Bounded in time and in what is read of the answer. */
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { limits } from '../config/limits.ts';
import type { Header } from '../config/settings-telemetry.ts';
import {
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from '../filters/common/node-http.ts';

export type Answer = Readonly<{
  /** 0 where there was none. */
  status: number;
  text: string;
  retryAfterMs: number | undefined;
  why?: string;
}>;

/** Rejects where there is no answer. */
export type Poster = ((body: Buffer) => Promise<Answer>) & Readonly<{ close(): void }>;

/** RFC 9110, section 10.2.3: seconds, or a date. */
export function retryAfterOf(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1_000;
  const ms = Date.parse(header);
  return Number.isNaN(ms) ? undefined : Math.max(0, ms - nowMs);
}

function textOf(response: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    response.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      // What is longer is no answer of a collector; the connection is not kept for the rest of it.
      if (bytes > limits.otlpAnswerBytesMax)
        response.destroy(new Error(`its answer has more than ${limits.otlpAnswerBytesMax} bytes`));
      else chunks.push(chunk);
    });
    response.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    response.on('error', reject);
  });
}

export function createPoster(url: URL, headers: readonly Header[], ca: Buffer | undefined): Poster {
  const isTls = url.protocol === 'https:';
  const kept = { keepAlive: true, maxSockets: 1 } as const;
  const agent = isTls
    ? new HttpsAgent({ ...kept, ...(ca === undefined ? {} : { ca }) })
    : new HttpAgent(kept);
  const send = isTls ? httpsRequest : httpRequest;
  const post = (body: Buffer): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const call = send(
        url,
        {
          method: 'POST',
          agent,
          headers: {
            ...Object.fromEntries(headers),
            'content-type': 'application/json',
            'content-length': body.length,
          },
          signal: AbortSignal.timeout(limits.otlpAnswerMs),
        },
        (response) => {
          const { statusCode: status = 0 } = response;
          const retryAfterMs = retryAfterOf(response.headers['retry-after'], Date.now());
          textOf(response).then((text) => resolve({ status, text, retryAfterMs }), reject);
        },
      );
      // The collector being away must not keep the process from ending.
      call.on('socket', (socket) => socket.unref());
      call.on('error', (thrown) =>
        reject(
          thrown.name === 'AbortError' ? new Error(`no answer within ${limits.otlpAnswerMs} ms`) : thrown,
        ),
      );
      call.end(body);
    });
  return Object.assign(post, { close: () => agent.destroy() });
}
