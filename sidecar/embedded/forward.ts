/**
 * Carries one allowed request over undici and its response back, chunk by chunk and no faster than the slower
 * side. No redirect is followed and nothing is sent twice.
 */
import { type Duplex, PassThrough, type Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { SallyportError } from '../../config/errors.ts';
import { isGrpc } from '../../ext-authz/caller-protocol.ts';
import { rateLimitHeaders } from '../../ext-authz/rate-limit.ts';
import type { Allow } from '../../filters/decision.ts';
import type { Call, Destination, Pin } from '../../filters/facts.ts';
import { hasBody } from './body.ts';
import type { Core } from './core.ts';
import type { Exchange } from './exchange.ts';
import { flatHeaders, type Request, type Response, responseHeaders, upstreamHeaders } from './headers.ts';
import { join } from './join.ts';
import { discardBody, failedAllow, refuseRequest } from './refuse.ts';

export type Allowed = Exchange &
  Readonly<{ call: Call; decision: Allow; destination: Destination; pin: Pin }>;

/** @returns when the exchange is over. Rejects only where provably nothing was sent and nothing answered. */
export function forward(core: Core, allowed: Allowed): Promise<void> {
  const { request, response, call, decision } = allowed;
  const gone = allowed.gone.signal;
  const grpc = isGrpc(call.headers['content-type']);
  const dispatcher = core.pools.of(allowed.destination, allowed.pin, grpc);
  const body = bodyOf(request, call, allowed.upgrade !== undefined);
  if (body instanceof PassThrough)
    request.on('data', (chunk: Buffer) => core.ledger.moved(decision, chunk.length, 0));

  return new Promise((resolve, reject) => {
    let control: Dispatcher.DispatchController | undefined;
    let settled = false;
    const sent = (): void => {
      if (settled) return;
      settled = true;
      core.deps.checker.settle(decision, 'Sent');
    };
    const cancel = (): void => control?.abort(new Error('the client went away'));
    gone.addEventListener('abort', cancel, { once: true });
    const over = (): void => {
      gone.removeEventListener('abort', cancel);
      resolve();
    };

    const handler: Dispatcher.DispatchHandler = {
      onRequestStart: (controller) => {
        if (gone.aborted) {
          controller.abort(new Error('the client went away'));
          return;
        }
        control = controller;
      },
      onResponseStart: (controller, status, headers, reason) => {
        sent();
        if (status < 200) writeInformational(response, status, headers);
        else writeHead(allowed, status, flatHeaders(controller.rawHeaders), reason ?? '');
      },
      onResponseData: (controller, chunk) => {
        core.ledger.moved(decision, 0, chunk.length);
        if (writeChunk(response, chunk)) return;
        controller.pause();
        response.once('drain', () => controller.resume());
      },
      onResponseEnd: (controller) => {
        addTrailers(response, flatHeaders(controller.rawTrailers));
        response.end();
        if (!request.complete) discardBody(request);
        over();
      },
      onRequestUpgrade: (controller, _, __, socket) => {
        sent();
        core.ledger.joined(decision, socket);
        joinSockets(
          allowed,
          flatHeaders(controller.rawHeaders),
          socket,
          core.deps.settings.proxy.tunnel_duration_ms_max,
        );
        over();
      },
      onResponseError: (_, error) => {
        gone.removeEventListener('abort', cancel);
        if (body instanceof PassThrough) body.destroy();
        if (control === undefined) {
          reject(error);
          return;
        }
        // From here on the request may have left: it is not said to be unsent, whatever became of it.
        sent();
        if (!gone.aborted)
          core.deps.log.info({ decision: decision.id, err: error }, 'the destination broke off');
        if (response.headersSent) response.destroy();
        else refuseRequest(request, response, call, failedAllow(decision, brokenOff(error)));
        resolve();
      },
    };
    dispatcher.dispatch(
      {
        path: call.path,
        method: call.method,
        headers: upstreamHeaders(request, call.authority, grpc),
        body,
        ...(allowed.upgrade === undefined ? {} : { upgrade: 'websocket' }),
      },
      handler,
    );
  });
}

const brokenOff = (cause: unknown): SallyportError =>
  new SallyportError(
    'UpstreamUnreachable',
    'the destination broke off before it answered; the request may have arrived',
    {
      cause,
    },
  );

/**
 * The bytes that were checked, or the stream itself. The stream goes through one of our own: undici destroys
 * a body when the destination fails, which would take the client's connection with it before it is answered.
 */
function bodyOf(request: Request, call: Call, upgrade: boolean): Buffer | Readable | null {
  if (call.body.kind === 'whole') return call.body.bytes.byteLength === 0 ? null : asBuffer(call.body.bytes);
  if (upgrade || !hasBody(request)) return null;
  const through = new PassThrough();
  through.on('error', () => undefined);
  request.once('error', (error) => through.destroy(error));
  // A body that is cut must never look whole.
  request.once('close', () => {
    if (!request.complete) through.destroy(new Error('the client went away'));
  });
  request.pipe(through);
  return through;
}

/** The same memory: what was checked is what is sent. */
const asBuffer = ({ buffer, byteOffset, byteLength }: Uint8Array): Buffer =>
  Buffer.from(buffer, byteOffset, byteLength);

function writeHead(allowed: Allowed, status: number, raw: readonly string[], reason: string): void {
  const { request, response, decision } = allowed;
  const headers = responseHeaders(raw);
  // RFC 9110, section 6.6.2: trailers need a framing that has an end of its own.
  if (headers.has('content-length')) headers.delete('trailer');
  for (const [name, value] of Object.entries(ourHeaders(decision))) headers.set(name, [value]);
  response.sendDate = false;
  for (const [name, values] of headers) {
    const [only] = values;
    response.setHeader(name, values.length === 1 && only !== undefined ? only : values);
  }
  response.statusCode = status;
  if (!('stream' in response)) response.statusMessage = reason;
  if (allowed.upgrade !== undefined && !('stream' in response)) response.setHeader('connection', 'close');
  // SSE: the head leaves before the first event is there. Answers without a body end by themselves.
  if (request.method !== 'HEAD' && status !== 204 && status !== 304) {
    if ('stream' in response) response.writeHead(status);
    else response.flushHeaders();
  }
}

const ourHeaders = (decision: Allow): Record<string, string> => ({
  'x-sallyport-decision': decision.id,
  ...rateLimitHeaders(decision.quotas),
});

/** 103 is worth passing on; 100 and 102 are between us and the destination. */
function writeInformational(response: Response, status: number, headers: Record<string, unknown>): void {
  const link = headers['link'];
  if (status !== 103 || link === undefined || response.headersSent) return;
  response.writeEarlyHints({ link: Array.isArray(link) ? link.map(String) : String(link) });
}

const writeChunk = (response: Response, chunk: Buffer): boolean =>
  'stream' in response ? response.write(chunk) : response.write(chunk);

function addTrailers(response: Response, raw: readonly string[]): void {
  const trailers = Object.fromEntries(
    [...responseHeaders(raw)].map(([name, values]) => [name, values.join(', ')]),
  );
  if (Object.keys(trailers).length > 0) response.addTrailers(trailers);
}

/** 101: from here on bytes pass unread in both directions, for as long as those of a tunnel may. */
function joinSockets(
  { response, decision, upgrade }: Allowed,
  raw: readonly string[],
  upstream: Duplex,
  durationMs: number,
): void {
  upstream.on('error', () => upstream.destroy());
  if (upgrade === undefined || 'stream' in response) {
    upstream.destroy();
    response.destroy();
    return;
  }
  const { socket, head } = upgrade;
  const lines = [...responseHeaders(raw)].flatMap(([name, values]) =>
    values.map((value) => `${name}: ${value}`),
  );
  for (const [name, value] of Object.entries(ourHeaders(decision))) lines.push(`${name}: ${value}`);
  response.detachSocket(socket);
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n${lines.join('\r\n')}\r\n\r\n`,
    'latin1',
  );
  if (head.length > 0) socket.unshift(head);
  join(socket, upstream, durationMs);
}
