import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { canonicalHost, parseAuthority } from '../../../filters/egress/canonical.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { refusalOf } from '../../support/refusal.ts';

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
