import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { canonicalDestination, canonicalHost, parseAuthority } from '../../../filters/egress/canonical.ts';
import { someCall } from '../../support/call.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { refusalOf } from '../../support/refusal.ts';

const targetOf = (path: string, method = 'GET'): { path: string; query: string } => {
  const { path: found, query } = canonicalDestination(someCall({ path, method }));
  return { path: found, query };
};

describe('canonicalHost', () => {
  test.each([
    ['API.Example.COM', 'api.example.com'],
    ['example.com.', 'example.com'],
    ['bücher.example', 'xn--bcher-kva.example'],
    ['BÜCHER.example', 'xn--bcher-kva.example'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['faß.de', 'xn--fa-hia.de'],
    ['ａｐｉ。example．com｡', 'api.example.com'],
    ['exam\u00adple.com', 'example.com'],
    ['_dmarc.example.com', '_dmarc.example.com'],
    ['localhost', 'localhost'],
    ['a'.repeat(63), 'a'.repeat(63)],
  ])('writes the name %s as %s', (raw, host) => {
    expect(canonicalHost(raw)).toEqual({ host, isAddress: false });
  });

  test.each([
    '127.0.0.1',
    '127.0.0.1.',
    '127.1',
    '127.0.1',
    '2130706433',
    '0x7f000001',
    '0X7F.1',
    '0x7f.0x0.0x0.0x1',
    '017700000001',
    '0177.0.0.01',
    '00000177.1',
    '１２７.０.０.１',
    '①②⑦.0.0.1',
    '127。0。0。1',
  ])('writes %s as 127.0.0.1', (raw) => {
    expect(canonicalHost(raw)).toEqual({ host: '127.0.0.1', isAddress: true });
  });

  test.each([
    ['[::1]', '::1'],
    ['::1', '::1'],
    ['[0:0:0:0:0:0:0:1]', '::1'],
    ['[2001:DB8:0:0:1:0:0:1]', '2001:db8::1:0:0:1'],
    ['[2001:db8:0:1:1:1:1:1]', '2001:db8:0:1:1:1:1:1'],
    ['[::ffff:127.0.0.1]', '::ffff:7f00:1'],
  ])('writes the IPv6 literal %s as %s', (raw, host) => {
    expect(canonicalHost(raw)).toEqual({ host, isAddress: true });
  });

  test.each([
    [''],
    ['.'],
    ['..'],
    ['a..b'],
    ['.a'],
    ['a..'],
    ['127.0.0.1..'],
    ['a.。'],
    ['a b'],
    ['a\tb'],
    ['a\nb'],
    ['\u00a0a'],
    ['a\0b'],
    ['%31.com'],
    ['a%2eb'],
    ['user@a'],
    ['a/b'],
    ['a\\b'],
    ['a?b'],
    ['a#b'],
    ['a,b'],
    ["a'b"],
    ['a*b'],
    ['*'],
    ['a\u2024b.com'],
    ['a／b'],
    ['a＠b'],
    ['％61.com'],
    ['\u200b'],
    ['\ud800'],
    ['256.0.0.1'],
    ['1.2.3.4.5'],
    ['1.2.3.08'],
    ['0x100000000'],
    ['example.0x4'],
    ['[::1'],
    ['::1]'],
    ['[::1%25lo]'],
    ['[fe80::1%eth0]'],
    ['fe80::1%1'],
    ['[v1.x]'],
    ['[::127.0.0.01]'],
    ['[1::2::3]'],
    ['[]'],
    ['[[::1]]'],
    ['a:80'],
    ['a'.repeat(64)],
    [`${'a.'.repeat(127)}a`],
    ['a'.repeat(limits.authorityBytesMax + 1)],
  ])('refuses %j', (raw) => {
    expect(refusalOf(() => canonicalHost(raw))).toBe('DestinationInvalid');
  });

  test('takes a name of 253 characters', () => {
    const name = `${'a.'.repeat(126)}a`;
    expect(canonicalHost(`${name}.`)).toEqual({ host: name, isAddress: false });
  });

  test('of its own result is the same, for whatever it takes', () => {
    const hosts = fc.oneof(
      fc.domain(),
      fc.ipV4(),
      fc.ipV4Extended(),
      fc.ipV6(),
      fc.ipV6().map((address) => `[${address}]`),
      fc.string({ unit: 'binary', maxLength: 20 }),
      fc.string({ unit: fc.constantFrom(...'a1.0x-_[]:。ａßA\u00ad'), maxLength: 20 }),
    );
    fc.assert(
      fc.property(hosts, (raw) => {
        if (refusalOf(() => canonicalHost(raw)) !== 'none') return;
        const once = canonicalHost(raw);
        expect(canonicalHost(once.host)).toEqual(once);
        expect(once.host).toMatch(/^[a-z0-9._:-]+$/);
      }),
      fuzzRuns,
    );
  });

  test('every inet_aton spelling of 127.0.0.1 is 127.0.0.1', () => {
    const number = (value: number): fc.Arbitrary<string> =>
      fc.tuple(fc.constantFrom(10, 8, 16), fc.nat(3), fc.boolean()).map(([base, zeros, upper]) => {
        const digits = value.toString(base);
        const padded = '0'.repeat(zeros) + (upper ? digits.toUpperCase() : digits);
        return base === 10 ? digits : base === 8 ? `0${padded}` : `0${upper ? 'X' : 'x'}${padded}`;
      });
    const spelling = fc.oneof(
      fc.tuple(number(0x7f000001)),
      fc.tuple(number(127), number(1)),
      fc.tuple(number(127), number(0), number(1)),
      fc.tuple(number(127), number(0), number(0), number(1)),
    );
    fc.assert(
      fc.property(spelling, fc.constantFrom('', '.'), (parts, dot) => {
        expect(canonicalHost(parts.join('.') + dot).host).toBe('127.0.0.1');
      }),
      fuzzRuns,
    );
  });
});

describe('parseAuthority', () => {
  test.each([
    ['example.com', 'example.com', undefined],
    ['example.com:1', 'example.com', 1],
    ['Example.com.:65535', 'example.com', 65_535],
    ['[::1]', '::1', undefined],
    ['[::1]:443', '::1', 443],
    ['0x7f.1:80', '127.0.0.1', 80],
  ])('reads %s', (raw, host, port) => {
    expect(parseAuthority(raw)).toMatchObject({ host, port });
  });

  test.each([
    [''],
    [':80'],
    ['a:'],
    ['a:0'],
    ['a:080'],
    ['a:+80'],
    ['a:-1'],
    ['a: 80'],
    ['a:80 '],
    ['a:65536'],
    ['a:99999999999'],
    ['a:８０'],
    ['a:http'],
    ['a:80:80'],
    ['::1'],
    ['::1:80'],
    ['[::1'],
    ['[::1]80'],
    ['[::1]:'],
    ['[example.com]:80'],
    ['user:password@a:80'],
    ['@a'],
    ['a@b'],
    ['a,b'],
    ['a:80,b:80'],
    ['http://a/'],
  ])('refuses %j', (raw) => {
    expect(refusalOf(() => parseAuthority(raw))).toBe('DestinationInvalid');
  });

  test('reads or refuses any text, and the canonical authority reads back the same', () => {
    const authority = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 40 }),
      fc.webAuthority({ withIPv4: true, withIPv6: true, withPort: true, withUserInfo: true }),
    );
    fc.assert(
      fc.property(authority, (raw) => {
        if (refusalOf(() => parseAuthority(raw)) !== 'none') return;
        const { host, isAddress, port } = parseAuthority(raw);
        const bracketed = host.includes(':') ? `[${host}]` : host;
        expect(parseAuthority(port === undefined ? bracketed : `${bracketed}:${port}`)).toEqual({
          host,
          isAddress,
          port,
        });
      }),
      fuzzRuns,
    );
  });

  test('never repeats what was sent', () => {
    expect(() => parseAuthority('me:hunter2@example.com')).toThrow(/^(?!.*hunter2)/);
  });
});

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
