import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SallyportError } from '../../config/errors.ts';
import { decodeCheckRequest } from '../../ext-authz/decode.ts';
import { encodeCheckResponse } from '../../ext-authz/encode.ts';
import { readCheckRequest } from '../../ext-authz/h2-check-request.ts';
import { checkResponseBytes } from '../../ext-authz/h2-check-response.ts';
import { binaryField, numberField, Reader, stringField } from '../../ext-authz/h2-protobuf.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { authorizationService } from './protos.ts';
import { httpCheck, someAllow, someDeny, someHold, someQuotaExceeded } from './support.ts';

const service = authorizationService()['Check'];
if (service === undefined) throw new Error('no Check');
const written = (message: unknown): Buffer => service.requestSerialize(message);

/** What a decoding gives, as something to compare: the call, or the code of the refusal. */
function outcome(message: () => unknown, metadata = new Map<string, string>()): unknown {
  try {
    const { call, remove } = decodeCheckRequest(message(), metadata);
    const body = call.body.kind === 'whole' ? Buffer.from(call.body.bytes).toString('hex') : call.body.kind;
    return { call: { ...call, headers: { ...call.headers }, body }, remove };
  } catch (thrown) {
    if (!(thrown instanceof SallyportError)) throw thrown;
    return thrown.code;
  }
}
/** Read by ours, and by protobufjs. */
const both = (bytes: Buffer, metadata?: Map<string, string>): [unknown, unknown] => [
  outcome(() => readCheckRequest(bytes), metadata),
  outcome(() => service.requestDeserialize(bytes), metadata),
];

describe('a check off the wire', () => {
  it('is what protobufjs reads of it, whatever Envoy says', () => {
    const text = fc.oneof(
      fc.string({ maxLength: 20 }),
      fc.string({ unit: 'binary', maxLength: 8 }),
      fc.constantFrom('GET', 'http', 'a.test', '/a', 'absolute', 'mitm', 'read', 'a.test:443', '127.0.0.1:1'),
    );
    const mostly = (...values: string[]) =>
      fc.oneof({ weight: 20, arbitrary: fc.constantFrom(...values) }, { weight: 1, arbitrary: text });
    const name = fc.constantFrom(
      'accept',
      'host',
      ':path',
      'x-sallyport-source',
      'cookie',
      'x-größe',
      '__proto__',
    );
    const http = fc.record(
      {
        id: text,
        method: mostly('GET', 'POST'),
        path: mostly('/', '/a?b=c'),
        host: mostly('a.test', 'a.test:8080'),
        scheme: mostly('http', 'https'),
        query: fc.constantFrom('', '', '', 'a=1'),
        size: fc.integer(),
        body: text,
        raw_body: fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.from(bytes)),
        header_map: fc.record({
          headers: fc.array(
            fc.record(
              {
                key: name,
                value: text,
                raw_value: fc.uint8Array({ maxLength: 9 }).map((bytes) => Buffer.from(bytes)),
              },
              { requiredKeys: [] },
            ),
            { maxLength: 6 },
          ),
        }),
      },
      { requiredKeys: [] },
    );
    const attributes = fc.record(
      {
        source: fc.record(
          {
            address: fc.record({ socket_address: fc.record({ address: text, port_value: fc.nat() }) }),
            principal: text,
            certificate: text,
            labels: fc.dictionary(text, text),
          },
          { requiredKeys: [] },
        ),
        destination: fc.record({ principal: text }),
        request: fc.record({ time: fc.record({ seconds: fc.nat() }), http }),
        context_extensions: fc.dictionary(
          fc.constantFrom('stage', 'body', 'mcp', 'prefix', 'upstream', 'other'),
          fc.constantFrom('absolute', 'base', 'mitm', 'read', 'required', '/p', 'http://up.test'),
        ),
        tls_session: fc.record({ sni: text }),
      },
      { requiredKeys: [] },
    );
    const metadata = fc.constantFrom(
      new Map<string, string>(),
      new Map([
        ['x-sallyport-stage', 'opaque'],
        ['x-sallyport-connect', 'a.test:443'],
      ]),
    );
    let calls = 0;
    fc.assert(
      fc.property(attributes, metadata, (given, said) => {
        const [ours, theirs] = both(written({ attributes: given }), said);
        expect(ours).toEqual(theirs);
        if (typeof ours === 'object') calls += 1;
      }),
      { ...fuzzRuns, numRuns: 1_000 },
    );
    // Not only refusals were compared.
    expect(calls).toBeGreaterThan(50);
  });

  it('is what protobufjs reads of a real one', () => {
    const bytes = written(
      httpCheck(
        { method: 'POST', headers: { accept: 'a' }, raw_body: Buffer.from([0xff, 0, 1]) },
        { context_extensions: { stage: 'absolute', body: 'read' }, tls_session: { sni: 'A.test' } },
      ),
    );
    const [ours, theirs] = both(bytes);
    expect(ours).toEqual(theirs);
    expect(ours).toMatchObject({ call: { method: 'POST', body: 'ff0001', headers: expect.anything() } });
  });

  it('may come in pieces: what is said twice is one message, of which the last word counts', () => {
    const first = { attributes: { request: { http: { method: 'GET', path: '/a', host: 'a.test' } } } };
    const second = { attributes: { request: { http: { path: '/b', scheme: 'http' } } } };
    const bytes = Buffer.concat([written(first), written(second)]);
    expect(outcome(() => readCheckRequest(bytes))).toMatchObject({
      call: { method: 'GET', path: '/b', scheme: 'http' },
    });
  });

  it('shows a header that stands twice twice, where a map would keep the last', () => {
    const entry = (key: string, value: string): string =>
      binaryField(3, stringField(1, key) + stringField(2, value));
    const http =
      stringField(2, 'GET') + stringField(4, '/') + stringField(5, 'a.test') + stringField(6, 'http');
    const check = (headers: string): Buffer =>
      Buffer.from(binaryField(1, binaryField(4, binaryField(2, http + headers))), 'latin1');
    expect(outcome(() => readCheckRequest(check(entry('a', '1') + entry('a', '2'))))).toMatchObject({
      call: { headers: { a: '1,2' } },
    });
    expect(outcome(() => readCheckRequest(check(entry(':path', '/') + entry(':path', '/'))))).toBe(
      'RequestMalformed',
    );
  });

  it.each<[string, string]>([
    ['a length past the end', '\x0a\x05ab'],
    ['a length past the end of its message', binaryField(1, '\x22\x7fab')],
    ['a cut number', '\x0a\xff'],
    ['a number of eleven bytes', `\x08${'\xff'.repeat(10)}\x01`],
    ['a field of number 0', '\x02\x00'],
    ['a group', '\x0b\x0c'],
    ['text where a message stands', '\x08\x01'],
    ['a number where text stands', binaryField(1, binaryField(4, binaryField(2, '\x10\x01')))],
  ])('with %s is malformed', (_name, text) => {
    expect(() => readCheckRequest(Buffer.from(text, 'latin1'))).toThrow(
      expect.objectContaining({ code: 'RequestMalformed' }),
    );
  });

  it('is read or malformed, whatever the bytes', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array)),
      fc.tuple(fc.nat({ max: 400 }), fc.nat({ max: 255 })).map(([at, byte]) => {
        const whole = written(httpCheck());
        whole[at % whole.length] = byte;
        return whole;
      }),
    );
    fc.assert(
      fc.property(bytes, (given) => {
        outcome(() => readCheckRequest(given));
      }),
      { ...fuzzRuns, numRuns: 2_000 },
    );
  });
});

describe('an answer on the wire', () => {
  const decoded = decodeCheckRequest(httpCheck(), new Map());

  it.each([
    ['an Allow', encodeCheckResponse(decoded, someAllow())],
    ['an Allow by a hold', encodeCheckResponse(decoded, { ...someAllow(), quotas: [] })],
    ['a denial', encodeCheckResponse(decoded, someDeny('Forbidden', { reason: 'größer als „erlaubt“' }))],
    ['a hold', encodeCheckResponse(decoded, someHold())],
    ['a spent quota', encodeCheckResponse(decoded, someQuotaExceeded())],
    ['a denial of what could not be read', encodeCheckResponse(undefined, someDeny('RequestMalformed'))],
    [
      'a denial longer than one byte of length says',
      encodeCheckResponse(decoded, someDeny('EgressDenied', { reason: 'x'.repeat(1_900) })),
    ],
  ])('is read by protobufjs as it was meant: %s', (_name, response) => {
    const bytes = Buffer.from(checkResponseBytes(response), 'latin1');
    const read = service.responseDeserialize(bytes);
    const status = response.status.code === 0 ? {} : { code: response.status.code };
    expect(JSON.parse(JSON.stringify(read))).toEqual({
      ...JSON.parse(JSON.stringify(response)),
      status,
      ...(response.ok_response === undefined
        ? {}
        : {
            ok_response: {
              ...response.ok_response,
              response_headers_to_add: response.ok_response.response_headers_to_add.map(
                ({ append_action: action, header }) =>
                  // The first of an enum is what an absent one means.
                  action === 'APPEND_IF_EXISTS_OR_ADD' ? { header } : { header, append_action: action },
              ),
            },
          }),
      ...(response.denied_response === undefined
        ? {}
        : { denied_response: { ...response.denied_response, status: { code: expect.anything() } } }),
    });
  });

  it('has the status of the denial', () => {
    const bytes = Buffer.from(
      checkResponseBytes(encodeCheckResponse(decoded, someDeny('Forbidden'))),
      'latin1',
    );
    // protobufjs has names for HTTP statuses.
    expect(service.responseDeserialize(bytes)).toMatchObject({
      denied_response: { status: { code: 'Forbidden' } },
    });
  });

  it('writes numbers and lengths of every size', () => {
    fc.assert(
      fc.property(fc.nat(), fc.string({ unit: 'binary', maxLength: 400 }), (number, text) => {
        const reader = new Reader(numberField(3, number) + stringField(5, text));
        if (number > 0) {
          expect([reader.next(), reader.field, reader.number()]).toEqual([true, 3, number]);
        }
        expect([reader.next(), reader.field, reader.string()]).toEqual([true, 5, text.toWellFormed()]);
        expect(reader.next()).toBe(false);
      }),
      fuzzRuns,
    );
  });
});
