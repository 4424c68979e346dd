/** One request, in call order: read → who calls → what the policy needs of it → check → carry or refuse. */
import type { Socket } from 'node:net';
import { type ErrorCode, SallyportError, toSallyportError } from '../../config/errors.ts';
import { mcpIn } from '../../ext-authz/mcp-body.ts';
import type { Allow } from '../../filters/decision.ts';
import type { Agent, Call, Destination, Pin } from '../../filters/facts.ts';
import { hasBody } from './body.ts';
import { destinationOf, readCall, type Target, withBody } from './call.ts';
import type { Core } from './core.ts';
import { forward } from './forward.ts';
import type { Request, Response } from './headers.ts';
import type { Peer } from './peer.ts';
import { failedAllow, refuseRequest } from './refuse.ts';
import { toldOf } from './target.ts';

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

const endsConnection: ReadonlySet<ErrorCode> = new Set(['Overloaded', 'RequestMalformed']);

/** Never rejects: what fails is told to the client, and to the log where it is ours. */
export async function serve(core: Core, exchange: Exchange, target: Target): Promise<void> {
  const { request, response } = exchange;
  const gone = watchClient(exchange);
  let call: Call | undefined;
  let agent: Agent | undefined;
  let destination: Destination | undefined;
  try {
    requests += 1;
    call = readCall(request, exchange.peer, target, `${exchange.peer.id}-${requests}`);
    agent = core.deps.identify(call);
    // Of a caller that is nobody no body is read: the check refuses it for that alone.
    if (agent !== undefined) {
      core.connections.claim(exchange.peer.id, agent.name);
      destination = destinationOf(call);
      call = await readNeeded(core, exchange, call, destination);
    }
    const decision = await core.deps.checker.check(call, gone);
    if (decision.kind !== 'Allow') refuseRequest(request, response, call, decision);
    else await carry(core, exchange, call, decision);
  } catch (thrown) {
    const failure = toSallyportError(thrown);
    if (!(thrown instanceof SallyportError)) core.deps.log.error({ err: thrown }, 'a request failed');
    // Where the framing may be what is wrong, nothing after it is read.
    if (endsConnection.has(failure.code) && !('stream' in response)) response.shouldKeepAlive = false;
    refuseRequest(
      request,
      response,
      call,
      core.refusal(failure, call ?? toldOf(request), { agent, destination }),
    );
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

/** Body and MCP message, where a rule of this destination reads them. Throws RequestTooLarge. */
async function readNeeded(
  core: Core,
  { request, response, expectsContinue, upgrade }: Exchange,
  call: Call,
  destination: Destination | undefined,
): Promise<Call> {
  if (destination === undefined || upgrade !== undefined) return call;
  const needs = core.policy().needsOf(destination.host, destination.path, destination.method);
  if (!needs.body && !needs.mcp) return call;
  if (expectsContinue && hasBody(request)) response.writeContinue();
  const body = await core.bodies.read(request);
  // Part of it is gone, so that no rule may let it pass.
  if (body.kind === 'too-large')
    throw new SallyportError('RequestTooLarge', `the body is larger than ${body.limitBytes} bytes`);
  const type = call.headers['content-type'] ?? '';
  return withBody(call, body, needs.mcp ? mcpIn(call.method, body, type) : { kind: 'none' });
}

async function carry(core: Core, exchange: Exchange, call: Call, decision: Allow): Promise<void> {
  const { request, response, gone } = exchange;
  const { checker } = core.deps;
  if (gone.signal.aborted) {
    checker.settle(decision, 'NotSent');
    return;
  }
  core.ledger.carries(decision, response, exchange.upgrade?.socket);
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
