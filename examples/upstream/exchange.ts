/** What every path of the example upstream works with: a bounded body and short answers. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';

export type Request = IncomingMessage | Http2ServerRequest;
export type Response = ServerResponse | Http2ServerResponse;

export const bodyBytesMax = 16 * 1024 * 1024;

export type Exchange = Readonly<{
  request: Request;
  response: Response;
  url: URL;
  /** The whole body; `undefined` where it is larger than the limit. */
  body: Buffer | undefined;
}>;

export async function readBody(request: Request): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size <= bodyBytesMax) chunks.push(chunk);
  }
  return size <= bodyBytesMax ? Buffer.concat(chunks) : undefined;
}

/** Both kinds of response write the same way; their types only differ in what they return. */
export function write(response: Response, chunk: string | Uint8Array): void {
  if ('stream' in response) response.write(chunk);
  else response.write(chunk);
}

export function head(response: Response, status: number, headers: Record<string, string>): void {
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.statusCode = status;
}

export function sendJson(
  response: Response,
  status: number,
  value: unknown,
  headers: Record<string, string> = {},
): void {
  const text = Buffer.from(`${JSON.stringify(value)}\n`);
  head(response, status, {
    'content-type': 'application/json',
    'content-length': String(text.length),
    ...headers,
  });
  response.end(text);
}

/** The body as a JSON object; `undefined` where it is none. */
export function jsonObject(body: Buffer | undefined): Record<string, unknown> | undefined {
  if (body === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value))
      : undefined;
  } catch {
    return undefined;
  }
}

/** Server-sent events with a pause between; ends early when the client goes. */
export async function sendEvents(
  response: Response,
  events: readonly string[],
  pauseMs: number,
): Promise<void> {
  head(response, 200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  for (const [index, event] of events.entries()) {
    if (index > 0 && pauseMs > 0) await pause(pauseMs, gone.signal);
    if (gone.signal.aborted) return;
    write(response, `${event}\n\n`);
  }
  response.end();
}

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
