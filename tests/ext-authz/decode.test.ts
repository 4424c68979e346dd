import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { type CheckMetadata, decodeCheckRequest } from '../../ext-authz/decode.ts';
import { encodeCheckResponse } from '../../ext-authz/encode.ts';
import { readCheckRequest } from '../../ext-authz/h2-check-request.ts';
import { refusal } from '../../ext-authz/refusal.ts';
import { createIds } from '../../filters/common/ids.ts';
import { createClock } from '../../filters/common/time.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { refusalOf } from '../support/refusal.ts';
import { checkBytes } from './protos.ts';
import { httpCheck } from './support.ts';

const none: CheckMetadata = new Map();
const decode = (message: unknown, metadata: CheckMetadata = none) =>
  decodeCheckRequest(readCheckRequest(checkBytes(message)), metadata);
const refused = (message: unknown, metadata: CheckMetadata = none) =>
  refusalOf(() => decode(message, metadata));
const stage = (name: string, more: Record<string, string> = {}) => ({
  context_extensions: { stage: name, ...more },
});
const inner = {
  'x-sallyport-source': '[::1]:4000',
  'x-sallyport-connection': '9',
  'x-sallyport-connect': 'api.example.com:443',
  'x-sallyport-agent': 'demo',
  'x-sallyport-proof': 'user-1001',
};

describe('a request on the explicit listener', () => {
  it('becomes a call with our headers taken into the connection', () => {
    const { call, remove } = decode(httpCheck());
    expect(call).toMatchObject({
      stage: 'request',
      method: 'GET',
      scheme: 'http',
      authority: 'api.example.com',
      path: '/v1/things?a=1',
      body: { kind: 'unread' },
      mcp: { kind: 'none' },
      requestId: 'req-1',
      via: 'envoy',
      connection: { sourceAddress: '127.0.0.1', sourcePort: 50_001, connectionId: '7', tunnelAgent: '' },
    });
    expect({ ...call.headers }).toEqual({ 'user-agent': 'curl/8' });
    expect(remove).toEqual(
      expect.arrayContaining(['proxy-authorization', 'proxy-connection', 'x-sallyport-agent']),
    );
  });

  it('removes every header of our prefix, known or not', () => {
    expect(decode(httpCheck({ headers: { 'X-Sallyport-Other': '1' } })).remove).toContain(
      'x-sallyport-other',
    );
  });

  it('does not take agent or CONNECT from headers outside of a tunnel', () => {
    const { connection } = decode(httpCheck({ headers: inner })).call;
    expect(connection).toMatchObject({
      tunnelAgent: '',
      tunnelProof: '',
      tunnelAuthority: '',
      sourceAddress: '::1',
      sourcePort: 4000,
    });
  });

  it('believes no header of ours from an Envoy that is not ours', () => {
    const { call } = decode(httpCheck({ headers: inner, scheme: 'https' }, { context_extensions: {} }));
    expect(call.scheme).toBe('https');
    expect(call.connection).toMatchObject({
      sourceAddress: '127.0.0.1',
      sourcePort: 50_001,
      connectionId: '',
      tunnelAgent: '',
    });
    expect(Object.keys(call.headers)).toEqual([]);
  });

  it('takes a SPIFFE ID from the certificate of the connection, and no other name', () => {
    const of = (principal: string) =>
      decode(httpCheck({}, { source: { principal } })).call.connection.peerSpiffeId;
    expect(of('spiffe://a.test/x')).toBe('spiffe://a.test/x');
    expect(of('CN=somebody')).toBe('');
  });

  it('joins repeated headers and keeps names that objects have', () => {
    const headers = ['A', 'a', 'constructor', '__proto__'].map((key, i) => ({
      key,
      raw_value: Buffer.from(`${i}`),
    }));
    const { call } = decode(httpCheck({ headers: {}, header_map: { headers } }));
    expect(Object.entries(call.headers)).toEqual([
      ['a', '0,1'],
      ['constructor', '2'],
      ['__proto__', '3'],
    ]);
    expect(call.headers['toString']).toBeUndefined();
  });
});

describe('stages', () => {
  it.each([
    ['/openai/v1/chat?x=1', 'https://api.openai.com', 'https', 'api.openai.com', '/v1/chat?x=1'],
    ['/openai/v1', 'http://10.0.0.1:8080/base/', 'http', '10.0.0.1:8080', '/base/v1'],
    ['/openai', 'https://api.openai.com', 'https', 'api.openai.com', '/'],
    ['/openai?x', 'https://api.openai.com', 'https', 'api.openai.com', '/?x'],
    ['/openai?x', 'https://api.openai.com/b', 'https', 'api.openai.com', '/b?x'],
    ['/openai//v1', 'https://api.openai.com', 'https', 'api.openai.com', '//v1'],
  ])('base: %s to %s is %s %s %s', (path, upstream, scheme, authority, expected) => {
    const { call } = decode(
      httpCheck(
        { path, host: '127.0.0.1:10080', headers: {} },
        stage('base', { prefix: '/openai', upstream }),
      ),
    );
    expect([call.scheme, call.authority, call.path]).toEqual([scheme, authority, expected]);
  });

  it('base: refuses a path that only begins like the prefix', () => {
    const more = stage('base', { prefix: '/openai', upstream: 'https://api.openai.com' });
    expect(refused(httpCheck({ path: '/openai-eu/v1', headers: {} }, more))).toBe('RequestMalformed');
  });

  it('connect: has neither scheme nor path', () => {
    const { call } = decode(
      httpCheck({ method: 'CONNECT', host: 'a.test:443', path: '', headers: {} }, stage('connect')),
    );
    expect(call).toMatchObject({
      stage: 'connect',
      method: 'CONNECT',
      scheme: '',
      path: '',
      authority: 'a.test:443',
    });
  });

  it('mitm: is https, with SNI, agent and CONNECT of the tunnel', () => {
    const { call } = decode(
      httpCheck(
        { headers: inner },
        { ...stage('mitm'), tls_session: { sni: 'API.example.com' }, source: { principal: 'spiffe://x/y' } },
      ),
    );
    expect(call.scheme).toBe('https');
    expect(call.connection).toMatchObject({
      sni: 'api.example.com',
      tunnelAgent: 'demo',
      tunnelProof: 'user-1001',
      tunnelAuthority: 'api.example.com:443',
      peerSpiffeId: '',
    });
  });

  it('opaque: everything comes from the metadata of the check', () => {
    const metadata = new Map([...Object.entries(inner), ['x-sallyport-stage', 'opaque']] as [
      string,
      string,
    ][]);
    const { call } = decode({ attributes: { tls_session: { sni: 'api.example.com' } } }, metadata);
    expect(call).toMatchObject({
      stage: 'tunnel',
      method: '',
      authority: 'api.example.com:443',
      connection: {
        sni: 'api.example.com',
        tunnelAgent: 'demo',
        tunnelProof: 'user-1001',
        sourceAddress: '::1',
      },
    });
    expect(refused(httpCheck(), metadata)).toBe('RequestMalformed');
    expect(refused({ attributes: {} }, new Map([['x-sallyport-stage', 'opaque']]))).toBe('RequestMalformed');
  });
});

describe('what is refused', () => {
  const h = (headers: object) => httpCheck({ headers });
  const raw = (...headers: [string, string | Buffer][]) =>
    httpCheck({
      headers: {},
      header_map: {
        headers: headers.map(([key, v]) =>
          typeof v === 'string' ? { key, value: v } : { key, raw_value: v },
        ),
      },
    });
  const many = Object.fromEntries(
    Array.from({ length: limits.requestHeadersMax + 1 }, (_, i) => [`h${i}`, '']),
  );
  it.each<[string, unknown, string]>([
    ['an empty message', {}, 'RequestMalformed'],
    ['a method that is no token', httpCheck({ method: 'GE T' }), 'RequestMalformed'],
    ['CONNECT outside of its stage', httpCheck({ method: 'CONNECT', headers: {} }), 'RequestMalformed'],
    ['another method at CONNECT', httpCheck({ headers: {} }, stage('connect')), 'RequestMalformed'],
    ['a stage that nobody knows', httpCheck({}, stage('other')), 'RequestMalformed'],
    ['no host', httpCheck({ host: '', headers: {} }), 'RequestMalformed'],
    ['two hosts in one', httpCheck({ host: 'a.test,b.test', headers: {} }), 'RequestMalformed'],
    [
      'a long host',
      httpCheck({ host: 'a'.repeat(limits.authorityBytesMax + 1), headers: {} }),
      'RequestTooLarge',
    ],
    ['Host beside :authority', h({ ':authority': 'api.example.com', host: 'evil.test' }), 'RequestMalformed'],
    ['Host twice', raw(['host', 'api.example.com'], ['Host', 'api.example.com']), 'RequestMalformed'],
    [':authority that differs', h({ ':authority': 'evil.test' }), 'RequestMalformed'],
    [':path that differs', h({ ':path': '/other' }), 'RequestMalformed'],
    ['a path of 1 MiB', httpCheck({ path: `/${'a'.repeat(1 << 20)}`, headers: {} }), 'RequestTooLarge'],
    ['a path with a space', httpCheck({ path: '/a b', headers: {} }), 'RequestMalformed'],
    ['a path with NUL', httpCheck({ path: '/a\0', headers: {} }), 'RequestMalformed'],
    ['a path outside of ASCII', httpCheck({ path: '/é', headers: {} }), 'RequestMalformed'],
    ['a path of *', httpCheck({ method: 'OPTIONS', path: '*', headers: {} }), 'RequestMalformed'],
    ['a query set apart', httpCheck({ query: 'a=1' }), 'RequestMalformed'],
    ['too many headers', h(many), 'HeadersTooLarge'],
    ['headers too heavy', h({ a: 'x'.repeat(limits.requestHeaderBytesMax) }), 'HeadersTooLarge'],
    ['a line break in a header', h({ a: 'x\r\ny: z' }), 'RequestMalformed'],
    ['a header name with a space', h({ 'a b': 'x' }), 'RequestMalformed'],
    ['a header that was not UTF-8', h({ a: 'x\ufffd' }), 'RequestMalformed'],
    ['raw bytes that are not UTF-8', raw(['a', Buffer.from([0xc3, 0x28])]), 'RequestMalformed'],
    ['two lengths', h({ 'content-length': '1,2' }), 'RequestMalformed'],
    [
      'a length beside chunks',
      h({ 'content-length': '1', 'transfer-encoding': 'chunked' }),
      'RequestMalformed',
    ],
    ['our header twice', raw(['x-sallyport-agent', 'a'], ['X-Sallyport-Agent', 'b']), 'RequestMalformed'],
    ['a source that is none', h({ 'x-sallyport-source': 'here' }), 'RequestMalformed'],
    ['a source past the last port', h({ 'x-sallyport-source': '127.0.0.1:65536' }), 'RequestMalformed'],
    ['mitm without a CONNECT', httpCheck({ headers: {} }, stage('mitm')), 'RequestMalformed'],
    [
      'a scheme that is not HTTP',
      httpCheck({ scheme: 'ftp', headers: {} }, { context_extensions: {} }),
      'RequestMalformed',
    ],
  ])('%s', (_name, message, code) => {
    expect(refused(message)).toBe(code);
  });

  it('never shows a value in the message', () => {
    try {
      decode(h({ authorization: 'Bearer s3cret\r\n' }));
      expect.unreachable();
    } catch (thrown) {
      expect(String(thrown)).toContain('authorization');
      expect(String(thrown)).not.toContain('s3cret');
    }
  });
});

/** Each field is there or not. */
const some = (known: Record<string, fc.Arbitrary<unknown>>) => fc.record(known, { requiredKeys: [] });
const bytes = fc.uint8Array({ maxLength: 40 }).map((value) => Buffer.from(value));
const headerNames = fc.oneof(
  fc.constantFrom(
    'host',
    ':authority',
    ':path',
    'content-length',
    'x-sallyport-source',
    'x-sallyport-agent',
    'X-Sallyport-Connect',
    '__proto__',
  ),
  fc.string({ unit: 'binary', maxLength: 12 }),
);
const checks = some({
  attributes: some({
    source: some({
      address: some({ socket_address: some({ address: fc.string(), port_value: fc.nat() }) }),
      principal: fc.string(),
    }),
    request: some({
      http: some({
        method: fc.constantFrom('GET', 'CONNECT', 'POST', ''),
        scheme: fc.constantFrom('http', 'https', ''),
        host: fc.oneof(fc.constant('api.example.com'), fc.string({ unit: 'binary' })),
        path: fc.oneof(fc.constant('/openai/x'), fc.string({ unit: 'binary' })),
        headers: fc.dictionary(headerNames, fc.string({ unit: 'binary' })),
        header_map: some({
          headers: fc.array(
            some({ key: headerNames, value: fc.string({ unit: 'binary' }), raw_value: bytes }),
          ),
        }),
        raw_body: bytes,
        body: fc.string(),
      }),
    }),
    tls_session: some({ sni: fc.string() }),
    context_extensions: some({
      stage: fc.constantFrom('connect', 'absolute', 'base', 'mitm', 'plain', 'other'),
      prefix: fc.constantFrom('/openai', ''),
      upstream: fc.constantFrom('https://api.openai.com', 'nonsense'),
      mcp: fc.constantFrom('required', ''),
      body: fc.constantFrom('read', ''),
    }),
  }),
});
const metadata = fc
  .dictionary(
    fc.constantFrom('x-sallyport-stage', 'x-sallyport-source', 'x-sallyport-connect'),
    fc.oneof(fc.constant('opaque'), fc.string()),
  )
  .map((values): CheckMetadata => new Map(Object.entries(values)));

describe('fuzz: decodeCheckRequest', () => {
  const clock = createClock();
  const ids = createIds(clock);

  it('throws nothing but an error of the catalogue, whose answer is a denial', () => {
    fc.assert(
      fc.property(checks, metadata, (message, given) => {
        try {
          const { call } = decode(message, given);
          expect(['request', 'connect', 'tunnel']).toContain(call.stage);
          expect(Object.keys(call.headers).some((name) => name.startsWith('x-sallyport-'))).toBe(false);
        } catch (thrown) {
          if (!(thrown instanceof SallyportError)) throw thrown;
          const answer = encodeCheckResponse(undefined, refusal(thrown, clock, ids.decision()));
          expect(answer.status.code).not.toBe(0);
          expect(answer.ok_response).toBeUndefined();
        }
      }),
      fuzzRuns,
    );
  });
});
