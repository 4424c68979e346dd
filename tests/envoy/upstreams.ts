/** Destinations: HTTP in the clear, HTTP/1.1 and HTTP/2 over TLS, gRPC-like h2c, and a server that speaks first. */
import type { EventEmitter } from 'node:events';
import { createServer as createHttp, type IncomingMessage } from 'node:http';
import { createServer as createH2c, createSecureServer } from 'node:http2';
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from 'node:net';
import { createSecureContext } from 'node:tls';
import { createClock } from '../../filters/common/time.ts';
import { authorityIn } from '../support/keys.ts';

/** Requests and answers of HTTP/1.1; those of HTTP/2 have all that is used here (node's compatibility API). */
type Asked = Pick<IncomingMessage, 'url' | 'method' | 'httpVersion' | 'headers'> & EventEmitter;
type Answer = Readonly<{
  writeHead(status: number, headers: Record<string, string>): unknown;
  write(text: string): unknown;
  end(): unknown;
  addTrailers(trailers: Record<string, string>): void;
}>;

/** Says what it got, so that a test sees what left the proxy. */
const echo = (request: Asked, response: Answer): void => {
  const url = request.url ?? '';
  if (url.startsWith('/events')) {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: one\n\n');
    request.on('close', () => response.end());
    return;
  }
  let bytes = 0;
  request.on('data', (part: Buffer) => {
    bytes += part.length;
  });
  request.on('end', () => {
    if (String(request.headers['content-type'] ?? '').startsWith('application/grpc')) {
      response.writeHead(200, { 'content-type': 'application/grpc' });
      response.write(`${bytes} over ${request.httpVersion}`);
      response.addTrailers({ 'grpc-status': '0' });
      response.end();
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.write(
      JSON.stringify({
        version: request.httpVersion,
        method: request.method,
        url,
        authority: request.headers[':authority'] ?? request.headers['host'],
        headers: request.headers,
        bytes,
      }),
    );
    response.end();
  });
};

/** Answers the upgrade without the key's digest: nothing here needs a WebSocket library. */
const upgrade = (_request: unknown, socket: Socket): void => {
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello');
  socket.on('data', (part) => socket.write(part));
  socket.on('error', () => undefined);
  socket.on('end', () => socket.end());
};

const listen = (server: Server): Promise<number> =>
  new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
  });

export type Upstreams = Readonly<{
  plain: number;
  secure: number;
  h2c: number;
  speaksFirst: number;
  caPem: string;
  stop(): Promise<void>;
}>;

export async function startUpstreams(dir: string): Promise<Upstreams> {
  const authority = await authorityIn(`${dir}/upstream-authority`, createClock());
  const contextOf = async (name: string) => {
    // `wrong.test` proves another name.
    const minted = await authority.mint(name === 'wrong.test' ? 'other.test' : name);
    return createSecureContext({ cert: minted.certificatePem, key: minted.privateKeyPem });
  };
  // What a client that names no server is shown.
  const first = await authority.mint('127.0.0.1');
  const sockets = new Set<Socket>();
  const track = <T extends Server>(server: T): T => {
    server.on('connection', (socket: Socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      socket.on('error', () => undefined);
    });
    return server;
  };
  const secureServer = track(
    createSecureServer(
      {
        allowHTTP1: true,
        cert: first.certificatePem,
        key: first.privateKeyPem,
        SNICallback: (name, done) => {
          contextOf(name).then((context) => done(null, context), done);
        },
      },
      echo,
    ),
  );
  secureServer.on('upgrade', upgrade);
  const plainServer = track(createHttp(echo));
  plainServer.on('upgrade', upgrade);
  const h2cServer = track(createH2c((request, response) => echo(request, response)));
  const tcpServer = track(
    createTcp((socket) => {
      socket.write('220 ready\r\n');
      socket.on('data', (part) => socket.write(`echo:${part}`));
    }),
  );
  const servers = [plainServer, secureServer, h2cServer, tcpServer];
  const [plain = 0, secure = 0, h2c = 0, speaksFirst = 0] = await Promise.all(servers.map(listen));
  return {
    plain,
    secure,
    h2c,
    speaksFirst,
    caPem: authority.caPem,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    },
  };
}
