import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { SallyportError } from '../../config/errors.ts';
import { decodeCheckRequest } from '../../ext-authz/decode.ts';
import { encodeCheckResponse } from '../../ext-authz/encode.ts';
import { readCheckRequest } from '../../ext-authz/h2-check-request.ts';
import { checkResponseBytes } from '../../ext-authz/h2-check-response.ts';
import { binaryField, numberField, Reader, stringField } from '../../ext-authz/h2-protobuf.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { authorizationService, checkBytes } from './protos.ts';
import { httpCheck, someAllow, someDeny, someHold, someQuotaExceeded } from './support.ts';

const service = authorizationService()['Check'];
if (service === undefined) throw new Error('no Check');

/** What protobufjs reads, as far as a check is made of it. */
const theirsSchema = z.object({
  attributes: z
    .object({
      source: z
        .object({
          address: z
            .object({
              socket_address: z
                .object({ address: z.string().default(''), port_value: z.number().default(0) })
                .optional(),
            })
            .optional(),
          principal: z.string().default(''),
        })
        .prefault({}),
      request: z
        .object({
          http: z
            .object({
              ...Object.fromEntries(
                ['id', 'method', 'scheme', 'host', 'path', 'query', 'fragment', 'body'].map((name) => [
                  name,
                  z.string().default(''),
                ]),
              ),
              headers: z.record(z.string(), z.string()).default({}),
              header_map: z
                .object({
                  headers: z
                    .array(
                      z.object({
                        key: z.string().default(''),
                        value: z.string().default(''),
                        raw_value: z.instanceof(Uint8Array).default(new Uint8Array(0)),
                      }),
                    )
                    .default([]),
                })
                .prefault({}),
              raw_body: z.instanceof(Uint8Array).optional(),
            })
            .prefault({}),
        })
        .prefault({}),
      context_extensions: z.record(z.string(), z.string()).default({}),
      tls_session: z.object({ sni: z.string().default('') }).prefault({}),
    })
    .prefault({}),
});

function theirs(bytes: Buffer): unknown {
  const { attributes } = theirsSchema.parse(service?.requestDeserialize(bytes));
  const { headers, header_map: map, raw_body: rawBody, ...text } = attributes.request.http;
  const {
    stage = '',
    prefix = '',
    upstream = '',
    body: bodyRead = '',
    mcp = '',
  } = attributes.context_extensions;
  const address = attributes.source.address?.socket_address;
  return {
    ...text,
    sourceAddress: address?.address ?? '',
    sourcePort: address?.port_value ?? 0,
    principal: attributes.source.principal,
    headers: [
      ...Object.entries(headers),
      ...map.headers.map(({ key, value, raw_value: raw }) => [
        key,
        raw.length === 0 ? value : Buffer.from(raw).toString('utf8'),
      ]),
    ],
    rawBody: rawBody === undefined || rawBody.length === 0 ? undefined : Buffer.from(rawBody),
    sni: attributes.tls_session.sni,
    ...{ stage, prefix, upstream, bodyRead, mcp },
  };
}
function ours(bytes: Buffer): unknown {
  const { rawBody, ...rest } = readCheckRequest(bytes);
  return {
    ...rest,
    rawBody: rawBody === undefined || rawBody.length === 0 ? undefined : Buffer.from(rawBody),
  };
}

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
    fc.assert(
      fc.property(attributes, (given) => {
        const bytes = checkBytes({ attributes: given });
        expect(ours(bytes)).toEqual(theirs(bytes));
      }),
      { ...fuzzRuns, numRuns: 1_000 },
    );
  });

  it('is what protobufjs reads of a real one', () => {
    const bytes = checkBytes(
      httpCheck(
        { method: 'POST', raw_body: Buffer.from([0xff, 0, 1]) },
        { context_extensions: { stage: 'absolute', body: 'read' }, tls_session: { sni: 'A.test' } },
      ),
    );
    expect(ours(bytes)).toEqual(theirs(bytes));
    expect(ours(bytes)).toMatchObject({
      method: 'POST',
      sourcePort: 50_001,
      sni: 'A.test',
      bodyRead: 'read',
    });
  });

  it('may come in pieces: what is said twice is one message, of which the last word counts', () => {
    const first = { attributes: { request: { http: { method: 'GET', path: '/a', host: 'a.test' } } } };
    const second = { attributes: { request: { http: { path: '/b', scheme: 'http' } } } };
    const bytes = Buffer.concat([checkBytes(first), checkBytes(second)]);
    expect(ours(bytes)).toMatchObject({ method: 'GET', path: '/b', scheme: 'http', host: 'a.test' });
  });

  it('shows a header that stands twice twice, where a map would keep the last', () => {
    const entry = (key: string, value: string): string =>
      binaryField(3, stringField(1, key) + stringField(2, value));
    const http = entry('a', '1') + entry('a', '2');
    const bytes = Buffer.from(binaryField(1, binaryField(4, binaryField(2, http))), 'latin1');
    expect(readCheckRequest(bytes).headers).toEqual([
      ['a', '1'],
      ['a', '2'],
    ]);
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
        const whole = checkBytes(httpCheck());
        whole[at % whole.length] = byte;
        return whole;
      }),
    );
    fc.assert(
      fc.property(bytes, (given) => {
        try {
          decodeCheckRequest(readCheckRequest(given), new Map());
        } catch (thrown) {
          if (!(thrown instanceof SallyportError)) throw thrown;
        }
      }),
      { ...fuzzRuns, numRuns: 2_000 },
    );
  });
});

describe('an answer on the wire', () => {
  const decoded = decodeCheckRequest(readCheckRequest(checkBytes(httpCheck())), new Map());

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
