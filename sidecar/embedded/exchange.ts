/** One request, in call order: read → what the policy needs of it → check → carry or refuse. */
import type { Socket } from 'node:net';
import { SallyportError, toSallyportError } from '../../config/errors.ts';
import { readMcp } from '../../filters/content/mcp.ts';
import type { Allow } from '../../filters/decision.ts';
import type { Call, Destination, McpCall, Pin } from '../../filters/facts.ts';
import { hasBody } from './body.ts';
import { destinationOf, readCall, type Target, withBody } from './call.ts';
import type { Core } from './core.ts';
import { forward } from './forward.ts';
import type { Request, Response } from './headers.ts';
import type { Peer } from './peer.ts';
import { failedAllow, refuseRequest } from './refuse.ts';

export type Exchange = Readonly<{
  peer: Peer;
  request: Request;
  response: Response;
  /** The client waits for 100 before it sends the body. */
  expectsContinue: boolean;
  /** Aborted once the client is gone. */
  gone: AbortController;
  /** A WebSocket handshake: what comes after 101 goes over this socket. */
  upgrade: Readonly<{ socket: Socket; head: Buffer }> | undefined;
}>;

let requests = 0;

/** Never rejects: what fails is told to the client, and to the log where it is ours. */
export async function serve(core: Core, exchange: Exchange, target: Target): Promise<void> {
  const { request, response } = exchange;
  const gone = watchClient(exchange);
  let call: Call | undefined;
  try {
    requests += 1;
    call = readCall(request, exchange.peer, target, `${exchange.peer.id}-${requests}`);
    const destination = destinationOf(call);
    call = await readNeeded(core, exchange, call, destination);
    const decision = await core.deps.checker.check(call, gone);
    if (decision.kind !== 'Allow') refuseRequest(request, response, call, decision);
    else await carry(core, exchange, call, decision);
  } catch (thrown) {
    const failure = toSallyportError(thrown);
    if (!(thrown instanceof SallyportError)) core.deps.log.error({ err: thrown }, 'a request failed');
    refuseRequest(request, response, call, core.refusal(failure));
  } finally {
    if (call !== undefined) core.bodies.release(call.body);
  }
}

function watchClient({ request, response, gone }: Exchange): AbortSignal {
  let finished = false;
  response.once('finish', () => {
    finished = true;
  });
  response.once('close', () => {
    if (!finished) gone.abort();
  });
  // The cause is seen at the response; without a listener it would end the process.
  request.on('error', () => undefined);
  response.on('error', () => undefined);
  return gone.signal;
}

/** Body and MCP message, where a rule of this destination reads them. */
async function readNeeded(
  core: Core,
  { request, response, expectsContinue, upgrade }: Exchange,
  call: Call,
  destination: Destination | undefined,
): Promise<Call> {
  if (destination === undefined || upgrade !== undefined) return call;
  const needs = core.policy().needsOf(destination.host, destination.path);
  if (!needs.body && !needs.mcp) return call;
  if (expectsContinue && hasBody(request)) response.writeContinue();
  const body = await core.bodies.read(request);
  let mcp: McpCall = { kind: 'none' };
  if (needs.mcp)
    mcp =
      body.kind === 'whole'
        ? readMcp(body.bytes, call.headers['content-type'] ?? '')
        : { kind: 'invalid', reason: `the body is larger than ${body.limitBytes} bytes` };
  return withBody(call, body, mcp);
}

async function carry(core: Core, exchange: Exchange, call: Call, decision: Allow): Promise<void> {
  const { request, response, gone } = exchange;
  const { checker } = core.deps;
  if (gone.signal.aborted) {
    checker.settle(decision, 'NotSent');
    return;
  }
  try {
    const { destination, pin } = dialable(decision);
    if (exchange.expectsContinue && call.body.kind === 'unread' && hasBody(request)) response.writeContinue();
    await forward(core, { ...exchange, call, decision, destination, pin });
  } catch (thrown) {
    // Whatever is thrown before the first byte leaves; later failures are answered by `forward` itself.
    checker.settle(decision, 'NotSent');
    const failure = toSallyportError(thrown, 'UpstreamUnreachable');
    core.deps.log.info({ decision: decision.id, code: failure.code, cause: failure.cause }, failure.message);
    refuseRequest(request, response, call, failedAllow(decision, failure));
  }
}

function dialable(decision: Allow): { destination: Destination; pin: Pin } {
  const { destination, pin } = decision;
  if (destination === undefined || pin === undefined)
    throw new SallyportError('Internal', 'the decision names no address to dial');
  return { destination, pin };
}
