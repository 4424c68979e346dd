/**
 * ext_authz over HTTP (Envoy's `http_service` with `path_prefix: /check`), for an Envoy that is not ours or
 * cannot speak gRPC. What the user's configuration has to say:
 *
 * - `authorization_request.headers_to_add`: `x-sallyport-token` with the token where this listens on TCP
 *   (or `authorization: Bearer`, which then hides the caller's own), `x-sallyport-body: read` where the body
 *   is buffered, and `x-sallyport-stage` only on listeners that overwrite every other `x-sallyport-*` header.
 * - `allowed_headers`: what rules read, `x-forwarded-proto` for the scheme, and never `x-sallyport-*` from callers.
 * - `authorization_response.dynamic_metadata_from_headers`: `x-sallyport-dst` and the like, to dial the pin.
 *
 * Envoy takes 200 for an OK and 5xx for a failure of this server (it drops the body, and `failure_mode_allow`
 * lets the request pass), so a denial goes out with neither.
 */
import type { AddressInfo, Socket } from 'node:net';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import {
  createServer,
  type IncomingMessage,
  type ServerResponse,
  STATUS_CODES,
} from '../filters/common/node-http.ts';
import { renderForEnvoy } from './denial.ts';
import { grantOf } from './encode.ts';
import { type Answer, createGate, type Gate, type GateOptions } from './gate.ts';
import { httpWireRequest } from './http-request.ts';
import {
  assertTcp,
  bearerOf,
  bindSocket,
  type Listen,
  type RunningServer,
  removeSocket,
  stopWithin,
  tokenVerifier,
} from './listen.ts';
import type { Refused } from './problem.ts';
import { rateLimitHeaders } from './rate-limit.ts';
import { type Decoded, decodeWireRequest } from './wire-request.ts';

export type HttpOptions = GateOptions & Readonly<{ listen: Listen; stopTimeoutMs?: number }>;

/** Rejects with SettingsInvalid where it may not listen there, else with the system's error. */
export async function serveHttp(options: HttpOptions): Promise<RunningServer> {
  const { listen } = options;
  if ('token' in listen) assertTcp(listen);
  const verify = 'token' in listen ? tokenVerifier(listen.token) : undefined;
  const gate = createGate(options);
  const server = createServer(
    {
      insecureHTTPParser: false,
      requireHostHeader: true,
      maxHeaderSize: limits.requestHeaderBytesMax + limits.pathBytesMax,
      headersTimeout: limits.requestHeadersTimeoutMs,
      requestTimeout: limits.requestHeadersTimeoutMs,
      // Envoy ends idle connections. If this side did too, a check could meet the closing and be lost.
      keepAliveTimeout: 0,
    },
    (request, response) => {
      void handle(gate, verify, request, response, () => server.listening);
    },
  );
  // Node drops the headers past its own limit in silence; they are counted when they are read instead.
  server.maxHeadersCount = 0;
  server.maxConnections = limits.connectionsMax;
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    refuseRaw(socket, error.code === 'HPE_HEADER_OVERFLOW' ? 431 : 400);
  });
  const bind = (target: string | Readonly<{ host: string; port: number }>): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(target, () => {
        server.removeListener('error', reject);
        resolve();
      });
    });
  const address = await listenOn(listen, bind, () => server.address());

  let stopping: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    await removeSocket(listen);
    await stopWithin(options.stopTimeoutMs ?? limits.stopTimeoutMs, {
      close: () =>
        new Promise((resolve) => {
          server.close(() => resolve());
          server.closeIdleConnections();
        }),
      abort: gate.close,
      cut: () => server.closeAllConnections(),
    });
  };
  return {
    address,
    stop: () => {
      stopping ??= stop();
      return stopping;
    },
  };
}

async function listenOn(
  listen: Listen,
  bind: (target: string | Readonly<{ host: string; port: number }>) => Promise<void>,
  bound: () => AddressInfo | string | null,
): Promise<string> {
  if ('socketPath' in listen) {
    await bindSocket(listen, bind);
    return `unix:${listen.socketPath}`;
  }
  await bind({ host: listen.host, port: listen.port });
  const address = bound();
  const port = typeof address === 'object' && address !== null ? address.port : listen.port;
  return `${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${port}`;
}

/** For bytes that are not HTTP, or more of it than is read: answered and closed, never resynchronised. */
function refuseRaw(socket: Socket, status: number): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nconnection: close\r\ncontent-length: 0\r\ncache-control: no-store\r\n\r\n`,
  );
}

async function handle(
  gate: Gate,
  verify: ((given: string) => boolean) | undefined,
  request: IncomingMessage,
  response: ServerResponse,
  keepsConnections: () => boolean,
): Promise<void> {
  const caller = new AbortController();
  response.on('close', () => {
    if (!response.writableFinished) caller.abort();
  });
  let read: () => Decoded;
  try {
    const token = authenticate(verify, request);
    const body = await bodyOf(request);
    read = () => decodeWireRequest(httpWireRequest(request, body, token));
  } catch (thrown) {
    // The rest of what was sent is not read, so nothing more can be understood on this connection.
    response.shouldKeepAlive = false;
    deny(response, undefined, gate.refuse(thrown));
    return;
  }
  const answer = await gate.answer(read, caller);
  if (response.destroyed) {
    gate.undelivered(answer.decision);
    return;
  }
  // While stopping, a connection ends with the answer that it waited for.
  if (!keepsConnections()) response.shouldKeepAlive = false;
  write(gate, response, answer);
}

/** Which header carried the token, so that it is not taken for the caller's. */
function authenticate(
  verify: ((given: string) => boolean) | undefined,
  request: IncomingMessage,
): 'authorization' | undefined {
  if (verify === undefined) return undefined;
  const own = request.headers['x-sallyport-token'];
  if (typeof own === 'string') {
    if (verify(own)) return undefined;
  } else if (verify(bearerOf(request.headers.authorization ?? ''))) return 'authorization';
  throw new SallyportError('Unauthorized', 'x-sallyport-token or authorization: Bearer is missing or wrong');
}

async function bodyOf(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of request) {
      if (!(chunk instanceof Uint8Array)) throw new TypeError('a request without encoding gives bytes');
      size += chunk.byteLength;
      if (size > limits.inspectedBodyBytesMax) {
        throw new SallyportError(
          'RequestTooLarge',
          `the body is larger than the limit of ${limits.inspectedBodyBytesMax} bytes`,
        );
      }
      chunks.push(chunk);
    }
  } catch (thrown) {
    if (thrown instanceof SallyportError) throw thrown;
    throw new SallyportError('RequestMalformed', 'the body ended before its length', { cause: thrown });
  }
  return Buffer.concat(chunks, size);
}

/** Only an Allow with its pin is written as 200; what cannot be written is a denial. */
function write(gate: Gate, response: ServerResponse, { decoded, decision }: Answer): void {
  if (decision.kind !== 'Allow') {
    deny(response, decoded, decision);
    return;
  }
  try {
    if (decoded === undefined)
      throw new SallyportError('Internal', 'a request that was not read is not allowed');
    const grant = grantOf(decoded, decision);
    const headers: Record<string, string> = {
      ...Object.fromEntries(Object.entries(grant).map(([key, value]) => [`x-sallyport-${key}`, value])),
      ...rateLimitHeaders(decision.quotas),
      // Envoy's own word for "remove these before the request goes up".
      'x-envoy-auth-headers-to-remove': decoded.remove.join(','),
      'cache-control': 'no-store',
      'content-length': '0',
    };
    response.writeHead(200, headers).end();
  } catch (thrown) {
    gate.undelivered(decision);
    deny(response, undefined, gate.refuse(thrown));
  }
}

/** A status that Envoy takes for a denial and hands on: see the head of this file. */
const deniedStatus = (status: number): number => (status >= 400 && status <= 499 ? status : 403);

function deny(response: ServerResponse, decoded: Decoded | undefined, decision: Refused): void {
  const denial = renderForEnvoy(decoded?.call, decision);
  response
    .writeHead(deniedStatus(denial.status), {
      ...denial.headers,
      'content-length': String(Buffer.byteLength(denial.body)),
    })
    .end(denial.body);
}
