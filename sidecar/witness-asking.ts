/** How a witness is asked: HTTP with a bound on time and answer, connections kept between rounds. */
import { Agent as SecureAgent, request as secureRequest } from 'node:https';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { AskedWitness } from '../filters/audit/witness-client.ts';
import {
  type IncomingMessage,
  Agent as PlainAgent,
  request as plainRequest,
} from '../filters/common/node-http.ts';

export type WitnessEndpoint = Readonly<{
  /** The prefix before `/add-checkpoint`. */
  url: string;
  token: string | undefined;
  ca: string | undefined;
  cert: string | undefined;
  key: string | undefined;
}>;

type Answer = Awaited<ReturnType<AskedWitness['post']>>;

async function read(response: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response) {
    if (!Buffer.isBuffer(chunk)) continue;
    bytes += chunk.length;
    if (bytes > limits.witnessAnswerBytesMax)
      throw new Error(`its answer has more than ${limits.witnessAnswerBytesMax} bytes`);
    chunks.push(chunk);
  }
  return {
    status: response.statusCode ?? 0,
    type: response.headers['content-type'] ?? '',
    body: Buffer.concat(chunks).toString('utf8'),
  };
}

export function witnessPost(
  endpoint: WitnessEndpoint,
  timeoutMs: number = limits.witnessAnswerMs,
): AskedWitness['post'] & Readonly<{ close(): void }> {
  const url = new URL(`${endpoint.url.replace(/\/$/, '')}/add-checkpoint`);
  const { token, ca, cert, key } = endpoint;
  const isSecure = url.protocol === 'https:';
  const keeping = { keepAlive: true, maxSockets: 1 };
  const agent = isSecure
    ? new SecureAgent({
        ...keeping,
        ...(ca === undefined ? {} : { ca }),
        ...(cert === undefined || key === undefined ? {} : { cert, key }),
      })
    : new PlainAgent(keeping);
  const post = async (body: string): Promise<Answer> => {
    const answered = Promise.withResolvers<IncomingMessage>();
    const signal = AbortSignal.timeout(timeoutMs);
    const asking = (isSecure ? secureRequest : plainRequest)(
      url,
      {
        ...{ method: 'POST', agent, signal },
        headers: {
          'content-type': 'text/plain; charset=utf-8',
          'content-length': Buffer.byteLength(body),
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        },
      },
      answered.resolve,
    );
    asking.once('error', answered.reject);
    asking.end(body);
    try {
      return await read(await answered.promise);
    } catch (cause) {
      asking.destroy();
      const why = signal.aborted
        ? `it did not answer within ${timeoutMs} ms`
        : cause instanceof Error
          ? cause.message
          : String(cause);
      throw new SallyportError('ServiceUnavailable', why, { cause });
    }
  };
  return Object.assign(post, { close: () => agent.destroy() });
}
