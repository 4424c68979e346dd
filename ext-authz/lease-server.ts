/**
 * Where Envoy's lease filter (`envoy/lease.lua`) asks: HTTP/1.1 on a Unix socket that only Envoy's user opens.
 * Question and answer are headers. A question is answered with 200 whether a lease is granted or not; what
 * cannot be read is 400, and the filter then lets the request be checked.
 */
import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import { toSallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { DecisionId } from '../filters/common/brand.ts';
import { createServer, type IncomingMessage, type ServerResponse } from '../filters/common/node-http.ts';
import type { Clock } from '../filters/common/time.ts';
import { type LeaseRegion, plainPath } from '../filters/policy/lease-region.ts';
import { dialled } from './encode.ts';
import { type HeaderEntry, ourPrefix } from './headers.ts';
import type { LeaseGrant, LeaseWish, Lessor } from './lease.ts';
import { bindSocket, type RunningServer, removeSocket, type SocketListen, stopWithin } from './listen.ts';
import { malformed, shown } from './shape.ts';
import { decodeWireRequest, type WireRequest, type WireStage } from './wire-request.ts';

export type LeaseServerOptions = Readonly<{
  lessor: Lessor;
  log: Logger;
  clock: Clock;
  listen: SocketListen;
  /** Envoy closes a connection over which it asked nothing for so long. */
  idleMs: number;
}>;

/** `connect` is never leased. */
const stages: readonly WireStage[] = ['absolute', 'base', 'mitm', 'plain'];

/** Of our headers, those that say something of the connection. */
const ours = ['source', 'connection', 'connect', 'agent', 'proof'].map((key) => ourPrefix + key);

const idPattern = /^dec_[0-9A-HJKMNP-TV-Z]{26}$/;
const reportPattern = /^(dec_[0-9A-HJKMNP-TV-Z]{26})=(\d{1,5})$/;

export type LeaseQuestion = Readonly<{
  wire: WireRequest;
  wish: LeaseWish;
  ended: readonly Readonly<{ id: DecisionId; left: number }>[];
}>;

/** @param headers as Node reads them: lower-case names; a repeated one is joined and then no longer valid. */
export function decodeLeaseQuestion(headers: IncomingMessage['headers']): LeaseQuestion {
  const given = (name: string): string => {
    const value = headers[name];
    return typeof value === 'string' ? Buffer.from(value, 'latin1').toString('utf8') : '';
  };
  const said = given('x-lease-stage');
  const stage = stages.find((known) => known === said);
  if (stage === undefined) throw malformed(`x-lease-stage is ${shown(said)}`);
  const vm = given('x-lease-vm');
  if (!/^[\w-]{1,64}$/.test(vm)) throw malformed('x-lease-vm is not an id of up to 64 letters and digits');
  const entries: HeaderEntry[] = [];
  for (const name of [...ours, 'proxy-authorization'])
    if (headers[name] !== undefined) entries.push([name, given(name)]);
  const renews = given('x-lease-renews');
  const wire: WireRequest = {
    stage,
    prefix: given('x-lease-prefix'),
    upstream: given('x-lease-upstream'),
    method: given('x-lease-method'),
    scheme: '',
    authority: given('x-lease-authority'),
    path: given('x-lease-path'),
    headers: entries,
    body: undefined,
    mcp: { kind: 'none' },
    peerAddress: '',
    peerPort: 0,
    principal: given('x-lease-principal'),
    sni: given('x-lease-sni'),
    requestId: '',
  };
  return {
    wire,
    wish: {
      vm,
      renews: renews === '' ? undefined : report(renews),
      onWire: (region, path) => regionOnWire(region, wire, path),
    },
    ended: decodeEnded(given('x-lease-ended')),
  };
}

/** What leases left that nothing more is taken from: `ID=LEFT,…`. */
export function decodeEnded(text: string): LeaseQuestion['ended'] {
  const reports = text === '' ? [] : text.split(',');
  if (reports.length > limits.leaseReportsMax)
    throw malformed(`${reports.length} leases are reported; the limit is ${limits.leaseReportsMax}`);
  return reports.map(report);
}

function report(text: string): { id: DecisionId; left: number } {
  const match = reportPattern.exec(text);
  if (match?.[1] === undefined || !idPattern.test(match[1]))
    throw malformed('a report of a lease is not ID=LEFT');
  return { id: match[1] as DecisionId, left: Number(match[2]) };
}

/**
 * The region in the paths that the data plane sees: under a base-URL route they have the route's prefix where
 * the destination has the base path. Undefined where it cannot be said so.
 */
export function regionOnWire(region: LeaseRegion, wire: WireRequest, path: string): LeaseRegion | undefined {
  if (wire.stage !== 'base') return region;
  const queryAt = wire.path.indexOf('?');
  const asked = queryAt === -1 ? wire.path : wire.path.slice(0, queryAt);
  if (!plainPath(asked)) return undefined;
  if (region.exact) return { ...region, prefix: asked };
  // The shared end of both paths is what the rewrite leaves as it is.
  const rest = asked.slice(wire.prefix.length);
  const base = path.slice(0, path.length - rest.length);
  if (!path.endsWith(rest) || !rest.startsWith('/')) return { ...region, exact: true, prefix: asked };
  if (region.prefix.startsWith(`${base}/`))
    return { ...region, prefix: wire.prefix + region.prefix.slice(base.length) };
  // The region is wider than the route: all of the route is in it.
  return `${base}/`.startsWith(region.prefix) ? { ...region, prefix: `${wire.prefix}/` } : undefined;
}

const epoch = randomUUID();

function answerOf(grant: LeaseGrant, sequence: number): Record<string, string> {
  const head = { 'x-lease-epoch': epoch, 'x-lease-sequence': String(sequence) };
  const quiet = { ...head, 'x-lease-quiet-ms': String(limits.leaseQuietMs) };
  if (grant.kind === 'none')
    return grant.quietMs === undefined ? quiet : { ...head, 'x-lease-quiet-ms': String(grant.quietMs) };
  const { region } = grant;
  const place = {
    'x-lease-for': encodeURIComponent(grant.principal),
    'x-lease-path': region.prefix,
    'x-lease-exact': region.exact ? '1' : '0',
  };
  if (grant.kind === 'known') return { ...quiet, ...place };
  return {
    ...head,
    ...place,
    'x-lease-id': grant.allow.id,
    'x-lease-calls': String(grant.lease.calls),
    'x-lease-ms': String(grant.lease.lifeMs),
    'x-lease-dst': dialled(grant.pin),
  };
}

/** One connection of a worker: which states of it asked over it, and when they were answered last. */
type Line = { readonly vms: Set<string>; asking: number; answeredMs: number; answeredBeforeMs: number };

/**
 * What connections prove of their workers. A question that follows two answers was sent after the turn in which
 * the first of them was read; a connection that was idle until its time is over is closed by a timer, after all
 * those that were due before it.
 */
function attend(lessor: Lessor, clock: Clock, idleMs: number): (socket: Socket) => Line {
  const lines = new WeakMap<Socket, Line>();
  return (socket) => {
    const known = lines.get(socket);
    if (known !== undefined) return known;
    const never = Number.NEGATIVE_INFINITY;
    const line: Line = { vms: new Set(), asking: 0, answeredMs: never, answeredBeforeMs: never };
    lines.set(socket, line);
    socket.once('close', () => {
      const closesMs = line.answeredMs + idleMs - limits.leaseTimerSlackMs;
      if (line.asking === 0 && clock.monotonicMs() >= closesMs) lessor.proof.ran(line.vms, closesMs);
    });
    return line;
  };
}

export async function serveLeases(options: LeaseServerOptions): Promise<RunningServer> {
  const { lessor, log, listen, clock } = options;
  const lineOf = attend(lessor, clock, options.idleMs);
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    request.resume();
    const line = lineOf(request.socket);
    lessor.proof.ran(line.vms, line.answeredBeforeMs);
    line.asking += 1;
    let answeredMs = Number.NEGATIVE_INFINITY;
    try {
      if (request.method !== 'POST') throw malformed('expected POST');
      if (request.url === '/ended') {
        const { 'x-lease-ended': text = '' } = request.headers;
        for (const { id, left } of decodeEnded(String(text))) lessor.report(id, left);
        answeredMs = clock.monotonicMs();
        response.writeHead(200, { 'content-length': '0' }).end();
        return;
      }
      if (request.url !== '/lease') throw malformed('expected /lease or /ended');
      const { wire, wish, ended } = decodeLeaseQuestion(request.headers);
      line.vms.add(wish.vm);
      for (const { id, left } of ended) lessor.report(id, left);
      // Read before the grant: what is granted under an older sequence is not used.
      const sequence = lessor.sequence();
      const { call } = decodeWireRequest(wire);
      const grant = await lessor.grant(call, wish);
      if (response.destroyed) {
        // Nobody holds it: all of it flows back.
        if (grant.kind === 'lease') lessor.report(grant.allow.id, grant.lease.calls);
        return;
      }
      answeredMs = clock.monotonicMs();
      response.writeHead(200, { ...answerOf(grant, sequence), 'content-length': '0' }).end();
    } catch (thrown) {
      const failure = toSallyportError(thrown);
      if (failure.code === 'Internal') log.error({ err: thrown }, 'a question for a lease failed');
      else
        log.debug(
          { code: failure.code, detail: failure.message },
          'a question for a lease was not understood',
        );
      answeredMs = clock.monotonicMs();
      if (!response.headersSent) response.writeHead(400, { 'content-length': '0' });
      response.end();
    } finally {
      line.asking -= 1;
      line.answeredBeforeMs = line.answeredMs;
      line.answeredMs = answeredMs;
    }
  };
  const server = createServer(
    {
      maxHeaderSize: limits.requestHeaderBytesMax + limits.pathBytesMax,
      headersTimeout: limits.requestHeadersTimeoutMs,
      requestTimeout: limits.requestHeadersTimeoutMs,
      // Envoy ends idle connections. If this side did too, a question could meet the closing and be lost.
      keepAliveTimeout: 0,
    },
    (request, response) => {
      void answer(request, response);
    },
  );
  server.maxConnections = limits.connectionsMax;
  await bindSocket(
    listen,
    (path) =>
      new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(path, () => {
          server.removeListener('error', reject);
          resolve();
        });
      }),
  );
  let stopping: Promise<void> | undefined;
  return {
    address: `unix:${listen.socketPath}`,
    stop: () => {
      stopping ??= removeSocket(listen).then(() =>
        stopWithin(limits.stopTimeoutMs, {
          close: () =>
            new Promise((resolve) => {
              server.close(() => resolve());
              server.closeIdleConnections();
            }),
          abort: () => server.closeIdleConnections(),
          cut: () => server.closeAllConnections(),
        }),
      );
      return stopping;
    },
  };
}
