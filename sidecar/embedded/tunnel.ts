/** CONNECT: check, answer, and then what the decision says: read the requests, pass TLS by name, or pass bytes. */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { SallyportError, toSallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { Minted } from '../../envoy/data-plane.ts';
import type { Allow } from '../../filters/decision.ts';
import { parseAuthority } from '../../filters/egress/canonical.ts';
import type { Agent, Call, Pin } from '../../filters/facts.ts';
import { readCall, tunnelCallOf } from './call.ts';
import { type ClientHello, type More, readClientHello } from './client-hello.ts';
import type { Core } from './core.ts';
import { dial } from './dial.ts';
import { join } from './join.ts';
import type { Peer, Tunnel } from './peer.ts';
import { failedAllow, refuseSocket, refuseTls } from './refuse.ts';
import { protocolOf, sniff } from './sniff.ts';
import { toldOf } from './target.ts';

/** Hands a connection whose requests are read to the HTTP servers. */
export type ServeInside = (socket: Socket, peer: Peer, protocol: 'http1' | 'http2') => void;

/** Never rejects. */
export async function serveConnect(
  core: Core,
  peer: Peer,
  request: IncomingMessage,
  socket: Socket,
  inside: ServeInside,
): Promise<void> {
  const gone = new AbortController();
  socket.once('close', () => gone.abort());
  socket.on('error', () => socket.destroy());
  let call: Call | undefined;
  let agent: Agent | undefined;
  try {
    const authority = request.url ?? '';
    core.assertElsewhere(authority);
    call = readCall(
      request,
      peer,
      { stage: 'connect', prefix: '', upstream: '', authority, path: '' },
      peer.id,
    );
    agent = core.deps.identify(call);
    if (agent !== undefined) core.connections.claim(peer.id, agent.name);
    const decision = await core.deps.checker.check(call, gone.signal);
    if (decision.kind !== 'Allow') {
      refuseSocket(socket, call, decision);
      return;
    }
    if (gone.signal.aborted) {
      core.deps.checker.settle(decision, 'NotSent');
      return;
    }
    const tunnel: Tunnel = {
      authority,
      agent: decision.agent?.name ?? '',
      proof: decision.agent?.proof ?? '',
      ...{ sni: '', scheme: 'http' },
    };
    const within: Peer = { ...peer, tunnel };
    switch (decision.inspect) {
      case 'tls':
        established(socket, decision);
        await intercept(core, within, tunnel, socket, inside);
        return;
      case 'sni':
        established(socket, decision);
        await passByName(core, within, decision, socket, gone.signal);
        return;
      case 'tunnel':
        await passBytes(core, within, call, decision, socket);
        return;
    }
  } catch (thrown) {
    const failure = toSallyportError(thrown);
    if (!(thrown instanceof SallyportError)) core.deps.log.error({ err: thrown }, 'a CONNECT failed');
    refuseSocket(socket, call, core.refusal(failure, call ?? toldOf(request), { agent }));
  }
}

const established = (socket: Socket, decision: Allow): void => {
  socket.write(`HTTP/1.1 200 Connection established\r\nx-sallyport-decision: ${decision.id}\r\n\r\n`);
};

async function intercept(
  core: Core,
  peer: Peer,
  tunnel: Tunnel,
  socket: Socket,
  inside: ServeInside,
): Promise<void> {
  const wait = { timeoutMs: limits.requestHeadersTimeoutMs, bytesMax: limits.clientHelloBytesMax };
  const protocol = await sniff(socket, protocolOf, wait);
  if (protocol === 'http1' || protocol === 'http2') {
    inside(socket, peer, protocol);
    return;
  }
  const hello = protocol === 'tls' ? await sniff<Read>(socket, readClientHello, wait) : undefined;
  if (hello?.kind !== 'hello') {
    socket.destroy();
    return;
  }
  const leaf = await leafFor(core, tunnel);
  if (socket.destroyed) return;
  if (leaf === undefined) {
    refuseTls(socket, 'handshake_failure');
    return;
  }
  // A server of its own, never listening: it alone marks a handshake as done in the way that HTTP/2 waits for.
  const server = createTlsServer({
    cert: leaf.certificatePem,
    key: leaf.privateKeyPem,
    ALPNProtocols: ['h2', 'http/1.1'],
    handshakeTimeout: limits.inspectorTimeoutMs,
  });
  server.once('tlsClientError', () => socket.destroy());
  server.once('secureConnection', (secured) => {
    secured.once('close', () => socket.destroy());
    // What was read from the hello and what OpenSSL read are one name, or nothing is served for it.
    if ((secured.servername || '').toLowerCase() !== hello.sni) {
      secured.destroy();
      return;
    }
    inside(
      secured,
      { ...peer, tunnel: { ...tunnel, sni: hello.sni, scheme: 'https' } },
      secured.alpnProtocol === 'h2' ? 'http2' : 'http1',
    );
  });
  server.emit('connection', socket);
}

type Read = Exclude<ClientHello, More>;

/**
 * Always of the host that the CONNECT names: another SNI is answered with 421 under that certificate, and
 * makes none of its own.
 */
async function leafFor(core: Core, tunnel: Tunnel): Promise<Minted | undefined> {
  try {
    const { host } = parseAuthority(tunnel.authority);
    if (!core.policy().inspectable(host)) return undefined;
    return await core.deps.authority.mint(host);
  } catch (thrown) {
    core.deps.log.info({ err: thrown }, 'no certificate could be made for a tunnel');
    return undefined;
  }
}

/** The client's TLS goes to the destination untouched, once its SNI is known and agrees. */
async function passByName(
  core: Core,
  peer: Peer,
  connect: Allow,
  socket: Socket,
  gone: AbortSignal,
): Promise<void> {
  const wait = { timeoutMs: limits.requestHeadersTimeoutMs, bytesMax: limits.clientHelloBytesMax };
  const hello = await sniff<Read>(socket, readClientHello, wait);
  if (hello?.kind !== 'hello') {
    core.deps.checker.settle(connect, 'NotSent');
    socket.destroy();
    return;
  }
  const call = tunnelCallOf(peer, hello.sni);
  const decision = await core.deps.checker.check(call, gone);
  const pin = decision.kind === 'Allow' && decision.inspect === 'sni' ? decision.pin : undefined;
  if (pin === undefined) {
    core.deps.checker.settle(connect, 'NotSent');
    refuseTls(socket, 'access_denied');
    return;
  }
  let upstream: Socket;
  try {
    upstream = await open(core, pin);
  } catch (thrown) {
    core.deps.checker.settle(connect, 'NotSent');
    core.deps.log.info({ decision: decision.id, err: thrown }, 'a tunnel could not be opened');
    refuseTls(socket, 'handshake_failure');
    return;
  }
  core.ledger.joined(connect, upstream);
  join(socket, upstream, durationMs(core));
  core.unread.opened(call, 'sni', socket);
  core.deps.checker.settle(connect, 'Sent');
}

/** Any bytes, either side first. The answer to CONNECT waits until the destination is there. */
async function passBytes(core: Core, peer: Peer, call: Call, decision: Allow, socket: Socket): Promise<void> {
  let upstream: Socket;
  try {
    if (decision.pin === undefined)
      throw new SallyportError('Internal', 'the decision names no address to dial');
    upstream = await open(core, decision.pin);
  } catch (thrown) {
    core.deps.checker.settle(decision, 'NotSent');
    refuseSocket(socket, call, failedAllow(decision, toSallyportError(thrown, 'UpstreamUnreachable')));
    return;
  }
  established(socket, decision);
  core.ledger.joined(decision, upstream);
  join(socket, upstream, durationMs(core));
  core.unread.opened(tunnelCallOf(peer, ''), 'tunnel', socket);
  core.deps.checker.settle(decision, 'Sent');
}

const open = (core: Core, pin: Pin): Promise<Socket> =>
  dial(pin, core.deps.settings.upstream.connect_timeout_ms, true);

const durationMs = (core: Core): number => core.deps.settings.proxy.tunnel_duration_ms_max;
