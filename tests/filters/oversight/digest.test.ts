import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { AgentName, SpiffeId } from '../../../filters/common/brand.ts';
import type { Agent, Call, DelegationChain, Destination } from '../../../filters/facts.ts';
import { requestDigest } from '../../../filters/oversight/digest.ts';
import { someCall } from '../../support/call.ts';
import { refusalOf } from '../../support/refusal.ts';

const agent: Agent = {
  name: 'deployer' as AgentName,
  id: 'spiffe://example.org/deployer' as SpiffeId,
  labels: {},
  by: 'pod',
};
const destination: Destination = {
  scheme: 'https',
  host: 'api.github.com',
  hostIsAddress: false,
  port: 443,
  method: 'POST',
  path: '/repos',
  query: 'a=1',
  mcp: { kind: 'none' },
};
const body = (text: string): Call['body'] => ({ kind: 'whole', bytes: Buffer.from(text) });
const call = someCall({
  method: 'POST',
  path: '/repos?a=1',
  headers: { 'content-type': 'application/json' },
  body: body('{"a":1}'),
});
const chain: DelegationChain = [agent.id];

const digest = (
  changes: Readonly<{
    agent?: Partial<Agent>;
    call?: Partial<Call>;
    destination?: Partial<Destination>;
    chain?: DelegationChain;
  }> = {},
) =>
  requestDigest(
    { ...agent, ...changes.agent },
    changes.chain ?? chain,
    { ...call, ...changes.call },
    { ...destination, ...changes.destination },
  );

const withHeaders = (headers: Record<string, string>) =>
  digest({ call: { headers: { ...call.headers, ...headers } } });

describe('requestDigest', () => {
  it('is the same for the same request, and fixed by its version', () => {
    expect(digest()).toBe(digest());
    // From a second implementation of the encoding, in Python with struct and hashlib.
    expect(digest()).toBe('2e2ed3e28f8fad0fc37dfbcff7086aa84b166e31a99999a742809883e4759732');
  });

  it.each([
    ['agent', { agent: { id: 'spiffe://example.org/other' as SpiffeId } }],
    ['chain', { chain: ['spiffe://example.org/person' as SpiffeId, agent.id] }],
    ['method', { call: { method: 'PUT' } }],
    ['scheme', { destination: { scheme: 'http' as const } }],
    ['host', { destination: { host: 'api.github.example' } }],
    ['port', { destination: { port: 8443 } }],
    ['path', { call: { path: '/repos/?a=1' } }],
    ['spelling of the path', { call: { path: '/%72epos?a=1' } }],
    ['query', { call: { path: '/repos?a=2' } }],
    ['body', { call: { body: body('{"a":2}') } }],
    ['MCP method', { destination: { mcp: { kind: 'call' as const, method: 'tools/list', tool: '' } } }],
    ['MCP tool', { destination: { mcp: { kind: 'call' as const, method: 'tools/call', tool: 'x' } } }],
    ['MCP validity', { destination: { mcp: { kind: 'invalid' as const, reason: 'batch' } } }],
  ])('is another for another %s', (_what, changes) => {
    expect(digest(changes)).not.toBe(digest());
  });

  it.each([
    { 'content-type': 'text/plain' },
    { 'content-encoding': 'gzip' },
    { 'idempotency-key': '1' },
    { 'x-http-method-override': 'DELETE' },
    { 'x-amz-target': 'DynamoDB.DeleteTable' },
    { 'x-amz-copy-source': '/other/bucket' },
    { destination: '/elsewhere' },
    { 'stripe-account': 'acct_2' },
    { 'a-header-nobody-thought-of': '' },
    { upgrade: 'websocket' },
    { 'sec-websocket-key': 'eA==' },
    { 'sec-websocket-protocol': 'chat' },
    { forwarded: 'host=elsewhere.test' },
    { 'x-forwarded-host': 'elsewhere.test' },
    { 'x-forwarded-for': '10.0.0.1' },
    { 'x-real-ip': '10.0.0.1' },
    { via: '1.1 elsewhere' },
    { 'proxy-anything': '1' },
  ])('is another for another header %o', (headers) => {
    expect(withHeaders(headers)).not.toBe(digest());
  });

  it.each([
    { traceparent: '00-4bf92f-00f0-01' },
    { 'x-request-id': '7' },
    { 'x-stainless-retry-count': '1' },
    { 'user-agent': 'curl/8' },
    { 'content-length': '7' },
    { authorization: 'Bearer renewed' },
    { 'proxy-authorization': 'Basic eA==' },
    { 'x-sallyport-source': '127.0.0.1:9' },
    { 'x-envoy-expected-rq-timeout-ms': '15000' },
    { ':path': '/repos?a=1' },
  ])('is the same for another sending with %o', (headers) => {
    expect(withHeaders(headers)).toBe(digest());
  });

  it.each([{ 'x-forwarded-proto': 'http' }, { 'x-envoy-internal': 'true' }])(
    'covers %o of the client, and not of our Envoy',
    (headers) => {
      for (const [via, same] of [
        ['envoy', true],
        ['embedded', false],
      ] as const)
        expect(digest({ call: { via, headers } }) === digest({ call: { via, headers: {} } })).toBe(same);
    },
  );

  it('does not depend on the order of headers', () => {
    const headers = { b: '1', a: '2', 'content-type': 'x' };
    const reversed = Object.fromEntries(Object.entries(headers).reverse());
    expect(digest({ call: { headers } })).toBe(digest({ call: { headers: reversed } }));
  });

  type Request = { path: string; headers: Record<string, string>; links: string[]; text: string };
  it('tells apart whatever differs in any covered field', () => {
    const word = fc.string({ unit: 'binary', maxLength: 4 });
    const request = fc.record({
      path: word,
      headers: fc.dictionary(fc.constantFrom('a', 'ab', 'b'), word, { maxKeys: 3 }),
      links: fc.array(word, { maxLength: 3 }),
      text: word,
    });
    const of = ({ path, headers, links, text }: Request) =>
      digest({ call: { path, headers, body: body(text) }, chain: links.map((link) => link as SpiffeId) });
    fc.assert(
      fc.property(request, request, (one, other) => {
        const same =
          one.path === other.path &&
          one.text === other.text &&
          JSON.stringify(one.links) === JSON.stringify(other.links) &&
          JSON.stringify(Object.entries(one.headers).sort()) ===
            JSON.stringify(Object.entries(other.headers).sort());
        expect(of(one) === of(other)).toBe(same);
      }),
      { numRuns: 500 },
    );
  });

  it('takes a request without a body as an empty one', () => {
    const empty = digest({ call: { body: body('') } });
    const unread = { kind: 'unread' } as const;
    expect(digest({ call: { body: unread, headers: { ...call.headers, 'content-length': '0' } } })).toBe(
      empty,
    );
    for (const method of ['GET', 'HEAD'])
      expect(digest({ call: { method, body: unread } })).toBe(digest({ call: { method, body: body('') } }));
  });

  it.each([
    ['too large', { kind: 'too-large' as const, limitBytes: 1_048_576 }, {}, 'RequestTooLarge'],
    ['unread', { kind: 'unread' as const }, {}, 'Internal'],
    ['of unknown length', { kind: 'unread' as const }, { 'content-length': '00' }, 'Internal'],
  ])('refuses a body that is %s', (_what, unusable, headers, code) => {
    expect(refusalOf(() => digest({ call: { body: unusable, headers } }))).toBe(code);
  });

  it('refuses a GET with a body that nobody read', () => {
    const headers = { 'transfer-encoding': 'chunked' };
    const unread = { kind: 'unread' } as const;
    expect(refusalOf(() => digest({ call: { method: 'GET', body: unread, headers } }))).toBe('Internal');
  });

  it('refuses text that has no UTF-8', () => {
    expect(refusalOf(() => digest({ call: { path: '/\ud800' } }))).toBe('RequestMalformed');
  });
});
