/**
 * The upstream of the demo and of the tests: small, real, over HTTP and HTTPS (HTTP/1.1 and HTTP/2).
 * `node examples/upstream/server.ts --http-port 10081 --https-port 10443 --ca-dir DIR`
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import { createSecureServer } from 'node:http2';
import type { AddressInfo, Server, Socket } from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { parseArgs } from 'node:util';
import { WebSocketServer } from 'ws';
import { createExampleAuthority, type KeyPair } from './certificates.ts';
import { type Request, type Response, readBody, sendJson } from './exchange.ts';
import { answer, type Counters } from './paths.ts';

export type RecordedRequest = Readonly<{
  protocol: 'http' | 'https';
  httpVersion: string;
  method: string;
  /** As it arrived, with the query. */
  path: string;
  host: string;
  headers: Readonly<Record<string, string | string[] | undefined>>;
  bodyBytes: number;
  /** False where the client went before the body was whole. */
  complete: boolean;
}>;

export type Upstream = Readonly<{
  httpPort: number;
  httpsPort: number;
  /** PEM of the example's authority; empty where the certificate was given. */
  caPem: string;
  /** The newest requests, oldest first, at most 10,000. */
  requests(): readonly RecordedRequest[];
  close(): Promise<void>;
}>;

export type UpstreamOptions = Readonly<{
  /** 0: any free port. */
  httpPort: number;
  httpsPort: number;
  host: string;
  /** Absent: minted by an authority of the example's own, for the demo's names. */
  tls?: KeyPair;
}>;

export const exampleNames = ['demo.sallyport.test', '*.sallyport.test', 'localhost', '127.0.0.1', '::1'];
const requestsKept = 10_000;

export async function startUpstream(options: UpstreamOptions): Promise<Upstream> {
  const authority = options.tls === undefined ? await createExampleAuthority() : undefined;
  const pair = options.tls ?? (await authority?.issue(exampleNames));
  if (pair === undefined) throw new Error('no certificate for the example upstream');
  const recorded: RecordedRequest[] = [];
  const counters: Counters = { orders: 0, limited: 0 };
  const sockets = new Set<Duplex>();

  const record = (
    request: Request,
    protocol: 'http' | 'https',
    bodyBytes: number,
    complete: boolean,
  ): void => {
    if (recorded.length >= requestsKept) recorded.shift();
    const authorityName = request.headers[':authority'];
    recorded.push({
      protocol,
      httpVersion: request.httpVersion,
      method: request.method ?? '',
      path: request.url ?? '',
      host: typeof authorityName === 'string' ? authorityName : (request.headers.host ?? ''),
      headers: { ...request.headers },
      bodyBytes,
      complete,
    });
  };

  const serve = (protocol: 'http' | 'https') => (request: Request, response: Response) => {
    handle(protocol, request, response).catch(() => {
      if (response.headersSent) response.destroy();
      else sendJson(response, 500, { error: 'the example failed' });
    });
  };
  const handle = async (protocol: 'http' | 'https', request: Request, response: Response): Promise<void> => {
    let body: Buffer | undefined;
    try {
      body = await readBody(request);
    } catch {
      record(request, protocol, 0, false);
      response.destroy();
      return;
    }
    record(request, protocol, body?.length ?? 0, true);
    const url = new URL(request.url ?? '/', 'http://upstream.invalid');
    await answer({ request, response, url, body }, counters);
  };

  const echo = new WebSocketServer({ noServer: true, maxPayload: 1024 * 1024 });
  const upgrade =
    (protocol: 'http' | 'https') => (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      record(request, protocol, 0, true);
      if (new URL(request.url ?? '/', 'http://upstream.invalid').pathname !== '/ws') {
        socket.end('HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n');
        return;
      }
      echo.handleUpgrade(request, socket, head, (client) => {
        client.on('error', () => client.terminate());
        client.on('message', (data, binary) => client.send(data, { binary }));
      });
    };
  const track = (socket: Socket): void => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => sockets.delete(socket));
  };

  const plain = createServer({ maxHeaderSize: 128 * 1024 }, serve('http'));
  const secure = createSecureServer(
    { allowHTTP1: true, cert: pair.certificatePem, key: pair.privateKeyPem },
    serve('https'),
  );
  plain.on('upgrade', upgrade('http'));
  secure.on('upgrade', upgrade('https'));
  plain.on('connection', track);
  secure.on('connection', track);
  secure.on('secureConnection', track);

  const httpPort = await listen(plain, options.httpPort, options.host);
  const httpsPort = await listen(secure, options.httpsPort, options.host).catch(async (thrown) => {
    await new Promise((resolve) => plain.close(resolve));
    throw thrown;
  });
  return {
    httpPort,
    httpsPort,
    caPem: authority?.caPem ?? '',
    requests: () => recorded,
    close: async () => {
      for (const client of echo.clients) client.terminate();
      const closed = Promise.all([plain, secure].map((server) => new Promise((done) => server.close(done))));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

const listen = (server: Server, port: number, host: string): Promise<number> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve((server.address() as AddressInfo).port);
    });
  });

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      'http-port': { type: 'string', default: '10081' },
      'https-port': { type: 'string', default: '10443' },
      'ca-dir': { type: 'string' },
      host: { type: 'string', default: '127.0.0.1' },
    },
  });
  const authority = await createExampleAuthority();
  const upstream = await startUpstream({
    httpPort: Number(values['http-port']),
    httpsPort: Number(values['https-port']),
    host: values.host,
    tls: await authority.issue(exampleNames),
  });
  if (values['ca-dir'] !== undefined) {
    await mkdir(values['ca-dir'], { recursive: true });
    const file = join(values['ca-dir'], 'example-upstream-ca.pem');
    await writeFile(file, authority.caPem);
    process.stdout.write(`ca ${file}\n`);
  }
  process.stdout.write(`http http://${values.host}:${upstream.httpPort}\n`);
  process.stdout.write(`https https://${values.host}:${upstream.httpsPort}\n`);
  const stop = (): void => {
    upstream.close().then(
      () => process.exit(0),
      () => process.exit(1),
    );
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}

if (import.meta.main) await main();
