import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { canonicalDestination } from '../../../filters/egress/canonical.ts';
import { someCall } from '../../support/call.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { refusalOf } from '../../support/refusal.ts';

const targetOf = (path: string, method = 'GET'): { path: string; query: string } => {
  const { path: found, query } = canonicalDestination(someCall({ path, method }));
  return { path: found, query };
};

describe('canonicalDestination of a request', () => {
  test('takes the port of the scheme where none is named', () => {
    expect(canonicalDestination(someCall({ scheme: 'http' })).port).toBe(80);
    expect(canonicalDestination(someCall({ scheme: 'https' })).port).toBe(443);
    expect(canonicalDestination(someCall({ authority: 'a:8443' })).port).toBe(8443);
  });

  test('carries host, method, path, query and MCP apart', () => {
    const mcp = { kind: 'call', method: 'tools/call', tool: 'search' } as const;
    const call = someCall({
      authority: 'A.example.:80',
      scheme: 'http',
      method: 'POST',
      path: '/x?y=%2F?z',
      mcp,
    });
    expect(canonicalDestination(call)).toEqual({
      scheme: 'http',
      host: 'a.example',
      hostIsAddress: false,
      port: 80,
      method: 'POST',
      path: '/x',
      query: 'y=%2F?z',
      mcp,
    });
  });

  test.each([
    ['/', '/', ''],
    ['/a/b', '/a/b', ''],
    ['/%61%7E%2d%5F%2E', '/a~-_.', ''],
    ['/%3a%c3%a9', '/%3A%C3%A9', ''],
    ['/%2561', '/%2561', ''],
    ['/a|b/%7c/[x]{y}^`"<>', '/a%7Cb/%7C/%5Bx%5D%7By%7D%5E%60%22%3C%3E', ''],
    ["/!$&'()+,;=:@", "/!$&'()+,;=:@", ''],
    ['/%252e%252e/x', '/%252e%252e/x', ''],
    ['/a//b', '/a//b', ''],
    ['//a', '//a', ''],
    ['/...', '/...', ''],
    ['/.a/a.', '/.a/a.', ''],
    ['/a?..%2f\\%', '/a', '..%2f\\%'],
    ['/a?', '/a', ''],
  ])('reads the target %s', (target, path, query) => {
    expect(targetOf(target)).toEqual({ path, query });
  });

  test('reads the asterisk of OPTIONS as /*, of no other method', () => {
    expect(targetOf('*', 'OPTIONS')).toEqual({ path: '/*', query: '' });
    expect(refusalOf(() => targetOf('*'))).toBe('DestinationInvalid');
  });

  test.each([
    [''],
    ['a'],
    ['?a'],
    ['http://example.com/'],
    ['/a b'],
    ['/a\tb'],
    ['/a\r\nb'],
    ['/a\0'],
    ['/\u007f'],
    ['/é'],
    ['/a?é'],
    ['/a?b c'],
    ['/a#b'],
    ['/a?b#c'],
    ['/a\\b'],
    ['/a%2fb'],
    ['/a%2Fb'],
    ['/a%5cb'],
    ['/a%00'],
    ['/a%0d%0a'],
    ['/a%1F'],
    ['/a%7f'],
    ['/a%'],
    ['/a%4'],
    ['/a%zz'],
    ['/a%c0%af'],
    ['/a%C1%9C'],
    ['/a%e0%80%af'],
    ['/a%f0%80%80%af'],
    ['/.'],
    ['/..'],
    ['/./a'],
    ['/a/../b'],
    ['/a/%2e%2E/b'],
    ['/a/.%2e'],
    ['/a/..;x=1/b'],
    ['/a/..%3bx/b'],
    ['/a/.;/b'],
  ])('refuses the target %j', (target) => {
    expect(refusalOf(() => targetOf(target))).toBe('DestinationInvalid');
  });

  test('refuses a path past the limit and takes one at it', () => {
    expect(targetOf('/'.padEnd(limits.pathBytesMax, 'a')).path).toHaveLength(limits.pathBytesMax);
    expect(refusalOf(() => targetOf('/'.padEnd(limits.pathBytesMax + 1, 'a')))).toBe('RequestTooLarge');
    expect(refusalOf(() => targetOf('/'.padEnd(1024 * 1024, '%2e')))).toBe('RequestTooLarge');
  });

  test.each(['', 'get', 'CONNECT', 'GET ', 'GE T', 'G\n', 'A'.repeat(33)])(
    'refuses the method %j',
    (method) => {
      expect(refusalOf(() => canonicalDestination(someCall({ method })))).toBe('DestinationInvalid');
    },
  );

  test.each(['', 'HTTP', 'ftp', 'tcp', 'ws'])('refuses the scheme %j', (scheme) => {
    expect(refusalOf(() => canonicalDestination(someCall({ scheme })))).toBe('DestinationInvalid');
  });

  test('reads or refuses any target; what it reads has no dot segment and reads back the same', () => {
    const target = fc.oneof(
      fc.string({
        unit: fc.constantFrom('/', '.', '%', '2', 'e', 'f', '5', 'c', ';', '?', 'a', '%2e', '%41'),
      }),
      fc.webPath().map((path) => `/${path}`),
      fc.string({ unit: 'binary' }),
    );
    fc.assert(
      fc.property(target, (path) => {
        if (refusalOf(() => targetOf(path)) !== 'none') return;
        const once = targetOf(path);
        expect(once.path.split('/')).not.toContain('..');
        expect(once.path.split('/')).not.toContain('.');
        expect(targetOf(once.path).path).toBe(once.path);
      }),
      fuzzRuns,
    );
  });
});

describe('canonicalDestination of a tunnel', () => {
  const connect = { stage: 'connect', method: 'CONNECT', scheme: '', path: '' } as const;

  test('is tcp to the host and port of the CONNECT', () => {
    const expected = {
      scheme: 'tcp',
      host: '::1',
      hostIsAddress: true,
      port: 5432,
      method: 'CONNECT',
      path: '',
    };
    expect(canonicalDestination(someCall({ ...connect, authority: '[0::1]:5432' }))).toMatchObject(expected);
    const inside = someCall({
      stage: 'tunnel',
      method: '',
      scheme: '',
      path: '',
      authority: '',
      connection: { tunnelAuthority: '[::1]:5432' },
    });
    expect(canonicalDestination(inside)).toMatchObject(expected);
  });

  test.each([
    { authority: 'a' },
    { authority: '' },
    { authority: 'a:443', path: '/' },
    { authority: 'a:443', method: 'GET' },
    { authority: 'http://a:443' },
  ])('refuses %j', (changes) => {
    expect(refusalOf(() => canonicalDestination(someCall({ ...connect, ...changes })))).toBe(
      'DestinationInvalid',
    );
  });

  test('refuses bytes inside a tunnel whose CONNECT is not known', () => {
    const call = someCall({ stage: 'tunnel', method: '', scheme: '', path: '', authority: 'a:443' });
    expect(refusalOf(() => canonicalDestination(call))).toBe('DestinationInvalid');
  });
});
