/** Where spans go and with which headers. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeSettings } from '../../config/settings-load.ts';
import { headersOfFile, headersOfList, tracesUrl } from '../../config/settings-telemetry.ts';
import { fuzzRuns } from '../support/fuzz.ts';

const told = (otlp: object): string[] => {
  const loaded = decodeSettings(JSON.stringify({ telemetry: { otlp } }), 'sallyport.yaml', {
    ...{ env: {}, isRoot: true, home: '/root', cwd: '/' },
  });
  return loaded.ok ? [] : loaded.issues.map(({ field, message }) => `${field}: ${message}`);
};

test('the signal’s path is added to the base URL', () => {
  expect(
    [
      'http://127.0.0.1:4318',
      'http://127.0.0.1:4318/',
      'https://o.example/otlp',
      'https://o.example/v1/traces',
    ].map((url) => tracesUrl(url)?.href),
  ).toEqual([
    'http://127.0.0.1:4318/v1/traces',
    'http://127.0.0.1:4318/v1/traces',
    'https://o.example/otlp/v1/traces',
    'https://o.example/v1/traces',
  ]);
});

describe('what is refused, by its name', () => {
  test.each([
    'collector:4318',
    'grpc://a.example',
    'https://a.example/?key=hunter2',
    'https://u:hunter2@a.example',
  ])('endpoint %s', (endpoint) => {
    const [first = ''] = told({ endpoint });
    expect(first).toContain(
      'telemetry.otlp.endpoint: expected an http or https URL without credentials and query',
    );
    expect(first).not.toContain('hunter2');
  });

  test('headers without TLS, except over loopback', () => {
    const headers = 'authorization=Bearer%20hunter2';
    expect(told({ endpoint: 'http://collector.example:4318', headers })[0]).toContain('expected https');
    expect(told({ endpoint: 'http://collector.example:4318', headers_file: '/x' })[0]).toContain(
      'expected https',
    );
    for (const endpoint of ['http://127.0.0.1:4318', 'http://[::1]:4318', 'https://collector.example'])
      expect(told({ endpoint, headers })).toEqual([]);
  });

  test('a list that is none, without telling it', () => {
    const [first = ''] = told({ endpoint: 'https://a.example', headers: 'hunter2' });
    expect(first).toContain('telemetry.otlp.headers: expected name=value');
    expect(first).not.toContain('hunter2');
  });

  test('what has no meaning without an endpoint', () => {
    expect(told({ ca_file: '/ca.pem' })[0]).toContain(
      'telemetry.otlp.ca_file: needs `telemetry.otlp.endpoint`',
    );
  });
});

describe('headers', () => {
  test('of a list are percent-decoded', () => {
    expect(headersOfList('authorization=Basic%20YTpi, x-tenant=a%2Cb')).toEqual([
      ['authorization', 'Basic YTpi'],
      ['x-tenant', 'a,b'],
    ]);
    expect(headersOfList('')).toEqual([]);
  });
  test('of a file stand on a line each', () => {
    expect(headersOfFile('# comment\n\nauthorization: Bearer a:b\r\nX-A:b\n')).toEqual([
      ['authorization', 'Bearer a:b'],
      ['X-A', 'b'],
    ]);
  });
  test.each(['a=b\nc', 'host=x', 'content-length=1', '=b', 'a b=c', 'a=%zz', 'a=%0d%0ab: c'])(
    '%o is none',
    (text) => {
      expect(headersOfList(text)).toBeUndefined();
    },
  );
  test('no text makes them throw, or gives a header that a request could not have', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string({ unit: fc.constantFrom('a', '=', ',', ':', '\n', '\r', '%', '0', 'é', ' ') }),
        ),
        (text) => {
          for (const headers of [headersOfList(text), headersOfFile(text)])
            for (const [name, value] of headers ?? [])
              expect(() => new Headers([[name, value]])).not.toThrow();
        },
      ),
      fuzzRuns,
    );
  });
});
