/**
 * The servers behind every connection: one for HTTP/1.1, which also carries what comes out of tunnels, one for
 * HTTP/2 inside tunnels, and the mutual-TLS port. What a connection is, is known from the socket alone.
 */
import {
  createServer as createHttp2Server,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';
import type { Socket } from 'node:net';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import {
  createServer,
  type IncomingMessage,
  type Server,
  ServerResponse,
} from '../../filters/common/node-http.ts';
import type { Core } from './core.ts';
import { type Exchange, serve } from './exchange.ts';
import type { Request, Response } from './headers.ts';
import { type Peer, peerOf, spiffeIdOf } from './peer.ts';
import { refuseRequest, refuseSocket } from './refuse.ts';
import { targetOf, toldOf } from './target.ts';
import { serveConnect } from './tunnel.ts';

export type Listeners = Readonly<{
  http: Server;
  /** Ends every connection that any of the servers carries. */
  destroyAll(): void;
  tls(options: Readonly<{ certificatePem: string; privateKeyPem: string; trustPem: string }>): TlsServer;
}>;

/** @param route carries an origin-form request to the base-URL routes. */
export function createListeners(core: Core, route: (exchange: Exchange) => void): Listeners {
  const peers = new WeakMap<object, Peer>();
  const underWay = new WeakMap<Socket, Set<AbortController>>();
  const sockets = new Set<Socket>();
  const connectionsMax = core.deps.settings.proxy.connections_max;

  const track = (socket: Socket, peer: Peer): void => {
    peers.set(socket, peer);
    sockets.add(socket);
    socket.once('close', () => {
      sockets.delete(socket);
      for (const gone of underWay.get(socket) ?? []) gone.abort();
    });
    socket.on('error', () => socket.destroy());
  };
  const peerBehind = (request: Request): Peer => {
    const peer = 'stream' in request ? peers.get(request.stream.session ?? {}) : peers.get(request.socket);
    if (peer === undefined) throw new SallyportError('Internal', 'a request of an unknown connection');
    return peer;
  };

  const http = createServer({
    maxHeaderSize: limits.requestHeaderBytesMax,
    headersTimeout: limits.requestHeadersTimeoutMs,
    // Streams last as long as something is sent; the idle limit below ends the rest.
    requestTimeout: 0,
    connectionsCheckingInterval: 1_000,
    keepAliveTimeout: limits.clientKeepAliveMs,
    insecureHTTPParser: false,
    // Node would answer by itself, in its own words and unseen; `readCall` refuses it.
    requireHostHeader: false,
    noDelay: true,
    // h2c is an offer that may be ignored (RFC 9110, section 7.8): the request goes on as HTTP/1.1.
    shouldUpgradeCallback: (request) => request.headers.upgrade?.trim().toLowerCase() !== 'h2c',
  });
  // Beyond this count Node would drop headers silently; bytes are bounded and the check counts.
  http.maxHeadersCount = 0;
  http.maxConnections = connectionsMax;
  http.setTimeout(limits.streamIdleTimeoutMs);

  const http2: Http2Server = createHttp2Server({
    settings: {
      maxConcurrentStreams: limits.streamsPerConnectionMax,
      maxHeaderListSize: limits.requestHeaderBytesMax,
      enableConnectProtocol: false,
    },
    // Past it Node ends the stream without a word; bytes are bounded and the check counts.
    maxHeaderListPairs: limits.requestHeaderBytesMax,
  });

  const inside = (socket: Socket, peer: Peer, protocol: 'http1' | 'http2'): void => {
    track(socket, peer);
    if (protocol === 'http1') {
      http.emit('connection', socket);
      // It was paused while its first bytes were looked at.
      socket.resume();
      return;
    }
    // The session event is emitted before `emit` returns; its socket is only a proxy of ours.
    const take = (session: ServerHttp2Session): void => {
      peers.set(session, peer);
      session.setTimeout(limits.streamIdleTimeoutMs, () => session.destroy());
    };
    http2.once('session', take);
    http2.emit('connection', socket);
    http2.off('session', take);
  };

  const carry = (
    request: Request,
    response: Response,
    options: Readonly<{ expectsContinue: boolean; upgrade?: { socket: Socket; head: Buffer } }>,
  ): void => {
    try {
      const peer = peerBehind(request);
      const gone = new AbortController();
      if (!('stream' in request)) enter(request.socket, response, gone);
      const target = targetOf(request, peer);
      const exchange: Exchange = { peer, request, response, gone, upgrade: undefined, ...options };
      if (target === undefined) {
        route(exchange);
        return;
      }
      if (peer.tunnel === undefined) core.assertElsewhere(target.authority);
      void serve(core, exchange, target);
    } catch (thrown) {
      refuseThrown(request, response, thrown);
    }
  };
  /**
   * Node starts every request that a connection has sent, and tells the end of the connection only to the one
   * whose answer is being written; the others would go on for a client that is gone.
   */
  const enter = (socket: Socket, response: Response, gone: AbortController): void => {
    const all = underWay.get(socket) ?? new Set();
    underWay.set(socket, all);
    all.add(gone);
    response.once('close', () => all.delete(gone));
    if (all.size <= limits.requestsPipelinedMax) return;
    if (!('stream' in response)) response.shouldKeepAlive = false;
    throw new SallyportError(
      'Overloaded',
      `one connection has more than ${limits.requestsPipelinedMax} requests under way`,
    );
  };
  const refuseThrown = (request: Request, response: Response, thrown: unknown): void => {
    if (!(thrown instanceof SallyportError)) core.deps.log.error({ err: thrown }, 'a request failed');
    const failure =
      thrown instanceof SallyportError ? thrown : new SallyportError('Internal', 'the proxy failed');
    refuseRequest(request, response, undefined, core.refusal(failure, toldOf(request)));
  };

  http.on('connection', (socket) => {
    if (peers.has(socket)) return;
    const peer = peerOf(socket);
    track(socket, peer);
    core.connections.opened(peer.id, socket);
  });
  http.on('request', (request, response) => carry(request, response, { expectsContinue: false }));
  http.on('checkContinue', (request, response) => carry(request, response, { expectsContinue: true }));
  http.on('checkExpectation', (request, response) => {
    const failure = new SallyportError('RequestMalformed', 'Expect is something else than 100-continue');
    refuseThrown(request, response, failure);
  });
  http2.on('request', (request: Http2ServerRequest, response: Http2ServerResponse) =>
    carry(request, response, { expectsContinue: false }),
  );
  http2.on('checkContinue', (request: Http2ServerRequest, response: Http2ServerResponse) =>
    carry(request, response, { expectsContinue: true }),
  );
  http2.on('sessionError', () => undefined);
  http.on('upgrade', (request, stream, head) => {
    const socket = stream as Socket; // The servers are only given sockets.
    const response = new ServerResponse(request);
    response.assignSocket(socket);
    response.shouldKeepAlive = false;
    response.once('finish', () => socket.end());
    // Before Node 24.9 every upgrade comes here.
    if (isWebSocket(request)) carry(request, response, { expectsContinue: false, upgrade: { socket, head } });
    else
      refuseThrown(
        request,
        response,
        new SallyportError('ProtocolNotAllowed', 'an upgrade that is no WebSocket'),
      );
  });
  http.on('connect', (request, stream, head) => {
    const socket = stream as Socket; // The servers are only given sockets.
    const peer = peers.get(socket);
    if (head.length > 0) socket.unshift(head);
    if (peer === undefined || peer.tunnel !== undefined) {
      const failure = new SallyportError('RequestMalformed', 'a CONNECT inside a tunnel');
      refuseSocket(socket, undefined, core.refusal(failure, toldOf(request)));
      return;
    }
    void serveConnect(core, peer, request, socket, inside);
  });
  http.on('clientError', (error, stream) => {
    const code = 'code' in error ? String(error.code) : '';
    if (code === 'ECONNRESET' || !stream.writable) {
      stream.destroy();
      return;
    }
    const deny = core.refusal(malformedBytes(code));
    const socket = stream as Socket; // The servers are only given sockets.
    // Between answers that are still to come, one to these bytes would be taken for another's.
    if ((underWay.get(socket)?.size ?? 0) > 0) socket.destroySoon();
    else refuseSocket(socket, undefined, deny);
  });

  return {
    http,
    destroyAll: () => {
      for (const socket of sockets) socket.destroy();
    },
    tls: ({ certificatePem, privateKeyPem, trustPem }) => {
      const server = createTlsServer({
        cert: certificatePem,
        key: privateKeyPem,
        ca: trustPem,
        requestCert: true,
        rejectUnauthorized: true,
        ALPNProtocols: ['http/1.1'],
        handshakeTimeout: limits.inspectorTimeoutMs,
      });
      server.maxConnections = connectionsMax;
      // Before the handshake there is only the socket below, which names the same two ends.
      const shaking = new Map<string, Peer>();
      server.on('connection', (socket: Socket) => {
        const ends = endsOf(socket);
        const peer = peerOf(socket);
        shaking.set(ends, peer);
        sockets.add(socket);
        socket.once('close', () => {
          sockets.delete(socket);
          shaking.delete(ends);
        });
        core.connections.opened(peer.id, socket);
      });
      server.on('secureConnection', (socket) => {
        const peer = shaking.get(endsOf(socket));
        if (peer === undefined) {
          socket.destroy();
          return;
        }
        track(socket, { ...peer, spiffeId: spiffeIdOf(socket) });
        http.emit('connection', socket);
      });
      server.on('tlsClientError', (_, socket) => socket.destroy());
      return server;
    },
  };
}

const endsOf = ({ remoteAddress, remotePort, localAddress, localPort }: Socket): string =>
  [remoteAddress, remotePort, localAddress, localPort].join(' ');

const isWebSocket = (request: IncomingMessage): boolean =>
  request.method === 'GET' && request.headers.upgrade?.toLowerCase() === 'websocket';

function malformedBytes(code: string): SallyportError {
  if (code === 'HPE_HEADER_OVERFLOW')
    return new SallyportError(
      'HeadersTooLarge',
      `the request line and headers weigh more than the limit of ${limits.requestHeaderBytesMax} bytes`,
    );
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT')
    return new SallyportError(
      'RequestMalformed',
      `the headers were not whole within ${limits.requestHeadersTimeoutMs} ms`,
    );
  return new SallyportError(
    'RequestMalformed',
    `the request is not strict HTTP/1.1 (${code || 'unreadable'})`,
  );
}
