/**
 * What an approval is bound to: a SHA-256 over everything of the request that may change what it does.
 * Two different requests never have the same encoding: every field is preceded by its length, every list by
 * its count.
 *
 * Headers: all are covered but those that name no part of the request's meaning and differ between two
 * sendings of the same one: framing and hop-by-hop fields (RFC 9110, section 7.6.1), tracing, what our own
 * Envoy adds and takes out again, what client libraries tell about themselves, time stamps. What proxies say
 * (`forwarded`, `x-forwarded-host`) is covered, since an agent can say it too and destinations believe it;
 * `upgrade`, since after it come bytes that nobody was shown. A list of headers to cover would be the weaker
 * choice: an agent could have one thing approved and send another by the header that the list forgot
 * (`x-amz-target`, `x-http-method-override`, `destination`). Credentials (`authorization`, `cookie`, session
 * tokens) are not covered, since they are renewed between sendings; which account is used is the rule's matter.
 */
import { createHash } from 'node:crypto';
import { SallyportError } from '../../config/errors.ts';
import type { Digest } from '../common/brand.ts';
import type { Agent, Call, DelegationChain, Destination } from '../facts.ts';
import { isOfEnvoy } from './envoy-headers.ts';

const domain = 'sallyport hold digest v1';

const uncoveredHeaders = new Set([
  // Framing and hop by hop; the body and the destination are covered themselves.
  'connection',
  'content-length',
  'expect',
  'host',
  'http2-settings',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  // To us, and taken out.
  'proxy-authorization',
  'proxy-connection',
  // Credentials.
  'authorization',
  'cookie',
  'x-amz-security-token',
  // Tracing.
  'amz-sdk-invocation-id',
  'amz-sdk-request',
  'b3',
  'baggage',
  'grpc-timeout',
  'grpc-trace-bin',
  'sentry-trace',
  'traceparent',
  'tracestate',
  'uber-trace-id',
  'x-amzn-trace-id',
  'x-client-trace-id',
  'x-cloud-trace-context',
  'x-correlation-id',
  'x-ms-client-request-id',
  'x-request-id',
  'x-request-start',
  // About the client library, and when it sent.
  'accept-encoding',
  'accept-language',
  'date',
  'user-agent',
  'x-amz-date',
  'x-ms-date',
]);
const uncoveredPrefixes = [':', 'x-b3-', 'x-datadog-', 'x-sallyport-', 'x-stainless-'];

const isCovered = (name: string, via: Call['via']): boolean =>
  !uncoveredHeaders.has(name) &&
  !uncoveredPrefixes.some((prefix) => name.startsWith(prefix)) &&
  !isOfEnvoy(name, via);

const nothing = new Uint8Array(0);

/** The whole body, exactly as it will be sent. */
function wholeBody(call: Call): Uint8Array {
  switch (call.body.kind) {
    case 'whole':
      return call.body.bytes;
    case 'too-large':
      throw new SallyportError(
        'RequestTooLarge',
        `a request that a person approves has a body of at most ${call.body.limitBytes} bytes`,
      );
    case 'unread': {
      const length = call.headers['content-length'];
      const declaresNone =
        length === undefined &&
        call.headers['transfer-encoding'] === undefined &&
        (call.method === 'GET' || call.method === 'HEAD');
      if (length === '0' || declaresNone) return nothing;
      throw new SallyportError('Internal', 'the data plane did not read the body of a request to hold');
    }
  }
}

export function requestDigest(
  agent: Agent,
  chain: DelegationChain,
  call: Call,
  destination: Destination,
): Digest {
  const hash = createHash('sha256');
  const count = (value: number): void => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    hash.update(bytes);
  };
  const field = (value: string | Uint8Array): void => {
    // Lone surrogates have no UTF-8: two different strings would be encoded as the same bytes.
    if (typeof value === 'string' && !value.isWellFormed())
      throw new SallyportError('RequestMalformed', 'a request that a person approves is well-formed text');
    const bytes = typeof value === 'string' ? Buffer.from(value, 'utf8') : value;
    count(bytes.length);
    hash.update(bytes);
  };

  field(domain);
  field(agent.id);
  count(chain.length);
  for (const link of chain) field(link);
  field(call.method);
  field(destination.scheme);
  field(destination.host);
  count(destination.port);
  field(call.path);

  const headers = Object.entries(call.headers)
    .filter(([name]) => isCovered(name, call.via))
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  count(headers.length);
  for (const [name, value] of headers) {
    field(name);
    field(value);
  }

  const { mcp } = destination;
  field(mcp.kind);
  field(mcp.kind === 'call' ? mcp.method : '');
  field(mcp.kind === 'call' ? mcp.tool : '');
  field(createHash('sha256').update(wholeBody(call)).digest());
  return hash.digest('hex') as Digest;
}
