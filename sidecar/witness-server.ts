/** The witness on a port: what is asked goes to `filters/audit/witness.ts`, whatever is too much is refused before it. */
import { once } from 'node:events';
import { createServer as createSecureServer } from 'node:https';
import type { Logger } from 'pino';
import { limits } from '../config/limits.ts';
import type { Witness, WitnessAnswer } from '../filters/audit/witness.ts';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from '../filters/common/node-http.ts';
import type { Clock } from '../filters/common/time.ts';
import { bearerMatches } from './admin/token.ts';

export type WitnessServer = Readonly<{ url: string; stop(): Promise<void> }>;

export type WitnessTls = Readonly<{ cert: string; key: string; clientCa: string | undefined }>;

const plain = 'text/plain; charset=utf-8';
const refuse = (status: number, why: string): WitnessAnswer => ({ status, type: plain, body: `${why}\n` });

/**
 * Requests of one second, for each address and all together: the process decides calls as well. What an address
 * asks past its own part is not counted among all, so that it takes no neighbour's.
 */
function createRate(clock: Clock): (source: string) => boolean {
  let secondMs = Number.NEGATIVE_INFINITY;
  let count = 0;
  /** An address for each request that was read, at most. */
  const ofSource = new Map<string, number>();
  return (source) => {
    const now = clock.monotonicMs();
    if (now - secondMs >= 1_000) {
      secondMs = now;
      count = 0;
      ofSource.clear();
    }
    const own = ofSource.get(source) ?? 0;
    if (own >= limits.witnessSourceRequestsPerSecondMax) return false;
    if (count >= limits.witnessRequestsPerSecondMax) return false;
    count += 1;
    ofSource.set(source, own + 1);
    return true;
  };
}

/** Undefined where it is longer than may be. */
async function bodyOf(request: IncomingMessage): Promise<Buffer | undefined> {
  const max = limits.witnessRequestBytesMax;
  if (Number(request.headers['content-length'] ?? 0) > max) return undefined;
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    if (!Buffer.isBuffer(chunk)) continue;
    bytes += chunk.length;
    if (bytes > max) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

export async function startWitnessServer(
  options: Readonly<{
    witness: Witness;
    host: string;
    port: number;
    token: string | undefined;
    tls: WitnessTls | undefined;
    clock: Clock;
    log: Logger;
    onAnswer(status: number): void;
  }>,
): Promise<WitnessServer> {
  const { witness, token, tls, log, host } = options;
  const mayRead = createRate(options.clock);

  const answer = async (request: IncomingMessage): Promise<WitnessAnswer> => {
    if (token !== undefined && !bearerMatches(request.headers.authorization, token))
      return refuse(401, 'this witness wants a token');
    if (!mayRead(request.socket.remoteAddress ?? '')) return refuse(429, 'too many requests in this second');
    const { method = '', url = '' } = request;
    const read = /^\/([0-9a-f]{64})\/checkpoint$/.exec(url);
    if (read?.[1] !== undefined)
      return method === 'GET' ? witness.checkpoint(read[1]) : refuse(405, 'ask with GET');
    if (url !== '/add-checkpoint') return refuse(404, 'there is nothing here');
    if (method !== 'POST') return refuse(405, 'ask with POST');
    const body = await bodyOf(request);
    if (body === undefined)
      return refuse(413, `a request has at most ${limits.witnessRequestBytesMax} bytes`);
    return witness.addCheckpoint(body);
  };

  const send = (
    request: IncomingMessage,
    response: ServerResponse,
    { status, type, body }: WitnessAnswer,
  ): void => {
    options.onAnswer(status);
    response.writeHead(status, {
      'content-type': type,
      'content-length': Buffer.byteLength(body),
      ...(status === 401 ? { 'www-authenticate': 'Bearer' } : {}),
      ...(status === 429 ? { 'retry-after': '1' } : {}),
      // What was not read of the request would be taken for the next one.
      ...(request.complete ? {} : { connection: 'close' }),
    });
    response.end(body);
  };

  const listener: RequestListener = (request, response) => {
    answer(request)
      .catch((err: unknown) => {
        if (request.destroyed && !request.complete) return refuse(400, 'the request did not end');
        log.error({ err }, 'the witness could not answer');
        return refuse(503, 'this witness cannot cosign now');
      })
      .then((given) => send(request, response, given))
      .catch((err: unknown) => log.error({ err }, 'the witness could not answer'));
  };
  const bounds = {
    maxHeaderSize: 16 * 1024,
    headersTimeout: limits.witnessRequestMs,
    requestTimeout: limits.witnessRequestMs,
    keepAliveTimeout: limits.clientKeepAliveMs,
    connectionsCheckingInterval: 1_000,
  };
  const server: Server =
    tls === undefined
      ? createServer(bounds, listener)
      : createSecureServer(
          {
            ...bounds,
            ...{
              cert: tls.cert,
              key: tls.key,
              minVersion: 'TLSv1.2',
              handshakeTimeout: limits.witnessRequestMs,
            },
            ...(tls.clientCa === undefined
              ? {}
              : { ca: tls.clientCa, requestCert: true, rejectUnauthorized: true }),
          },
          listener,
        );
  server.maxConnections = limits.witnessConnectionsMax;
  const listening = once(server, 'listening');
  server.listen({ host, port: options.port });
  await listening;
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : options.port;
  return {
    url: `${tls === undefined ? 'http' : 'https'}://${host.includes(':') ? `[${host}]` : host}:${port}`,
    stop: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
