/** Denials on the wire, for every kind of connection. */
import type { Duplex, Readable } from 'node:stream';
import type { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { type Denial, renderDenial } from '../../ext-authz/denial.ts';
import { denial } from '../../ext-authz/draft.ts';
import type { Refused } from '../../ext-authz/problem.ts';
import { STATUS_CODES } from '../../filters/common/node-http.ts';
import type { Allow, Deny } from '../../filters/decision.ts';
import type { Call } from '../../filters/facts.ts';
import type { Request, Response } from './headers.ts';

/** An allowed call that could not be carried: the decision's own head, so that the caller can name it. */
export const failedAllow = (decision: Allow, failure: SallyportError): Deny => ({
  ...denial(failure),
  id: decision.id,
  at: decision.at,
  policyVersion: decision.policyVersion,
  rule: decision.rule,
  agent: decision.agent,
  chain: decision.chain,
  destination: decision.destination,
  shadow: decision.shadow,
  quotas: decision.quotas,
  hold: decision.hold,
});

/** @param request its unread body is thrown away up to a limit, so that the client reads the answer first. */
export function refuseRequest(
  request: Request,
  response: Response,
  call: Call | undefined,
  refused: Refused,
): void {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  const rendered = renderDenial(call, refused);
  for (const [name, value] of Object.entries(headersOf(rendered))) response.setHeader(name, value);
  response.statusCode = rendered.status;
  // RFC 9110, section 10.1.1: whether the body follows is the client's choice now, so the framing is open.
  if (request.httpVersionMajor === 1 && request.headers.expect !== undefined)
    response.setHeader('connection', 'close');
  if (request.method === 'HEAD') response.end();
  else response.end(rendered.body);
  discardBody(request);
}

/** Bodies of refused requests are read and dropped, up to a limit, so that the answer is not lost to a reset. */
export function discardBody(request: Request): void {
  let left = limits.discardedBodyBytesMax;
  const onData = (chunk: Uint8Array): void => {
    left -= chunk.length;
    if (left < 0) request.destroy();
  };
  // The two kinds of request declare their events apart; both are readable streams.
  const stream: Readable = request;
  stream.on('data', onData);
  request.resume();
}

/** The answer to a CONNECT, or to bytes that are no request at all; the connection ends with it. */
export function refuseSocket(socket: Duplex, call: Call | undefined, refused: Refused): void {
  if (socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const rendered = renderDenial(call, refused);
  const head = Object.entries({ ...headersOf(rendered), connection: 'close' })
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('');
  socket.end(
    `HTTP/1.1 ${rendered.status} ${STATUS_CODES[rendered.status] ?? 'Refused'}\r\n${head}\r\n${rendered.body}`,
  );
  socket.resume();
  // A client that neither reads nor closes does not keep the connection.
  const timer = setTimeout(() => socket.destroy(), limits.refusedSocketLingerMs).unref();
  socket.once('close', () => clearTimeout(timer));
}

const headersOf = (denial: Denial): Record<string, string> => ({
  ...denial.headers,
  'content-length': String(Buffer.byteLength(denial.body)),
});

/** RFC 8446, section 6: a fatal alert, sent before any handshake so in the clear. */
export function refuseTls(socket: Duplex, alert: 'handshake_failure' | 'access_denied'): void {
  const code = alert === 'access_denied' ? 49 : 40;
  if (socket.writable) socket.end(Buffer.from([21, 3, 3, 0, 2, 2, code]));
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), limits.refusedSocketLingerMs).unref();
  socket.once('close', () => clearTimeout(timer));
}
