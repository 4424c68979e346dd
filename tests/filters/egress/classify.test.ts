import fc from 'fast-check';
import { expect, test } from 'vitest';
import { classifyAddress } from '../../../filters/egress/classify.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { refusalOf } from '../../support/refusal.ts';

/** First and last address of each range, and the neighbours outside. */
test.each([
  ['0.0.0.0', 'unspecified'],
  ['0.255.255.255', 'unspecified'],
  ['1.0.0.0', 'public'],
  ['1.1.1.1', 'public'],
  ['8.8.8.8', 'public'],
  ['9.255.255.255', 'public'],
  ['10.0.0.0', 'private'],
  ['10.255.255.255', 'private'],
  ['11.0.0.0', 'public'],
  ['100.63.255.255', 'public'],
  ['100.64.0.0', 'shared'],
  ['100.127.255.255', 'shared'],
  ['100.128.0.0', 'public'],
  ['100.100.100.200', 'metadata'],
  ['126.255.255.255', 'public'],
  ['127.0.0.1', 'loopback'],
  ['127.255.255.255', 'loopback'],
  ['128.0.0.0', 'public'],
  ['168.63.129.15', 'public'],
  ['168.63.129.16', 'metadata'],
  ['169.253.255.255', 'public'],
  ['169.254.0.0', 'link-local'],
  ['169.254.0.23', 'metadata'],
  ['169.254.42.42', 'metadata'],
  ['169.254.169.254', 'metadata'],
  ['169.254.170.2', 'metadata'],
  ['169.254.170.23', 'metadata'],
  ['169.254.255.255', 'link-local'],
  ['172.15.255.255', 'public'],
  ['172.16.0.0', 'private'],
  ['172.31.255.255', 'private'],
  ['172.32.0.0', 'public'],
  ['192.0.0.1', 'reserved'],
  ['192.0.0.192', 'metadata'],
  ['192.0.2.1', 'documentation'],
  ['192.88.99.1', 'reserved'],
  ['192.168.0.0', 'private'],
  ['192.168.255.255', 'private'],
  ['198.17.255.255', 'public'],
  ['198.18.0.0', 'benchmarking'],
  ['198.19.255.255', 'benchmarking'],
  ['198.20.0.0', 'public'],
  ['198.51.100.9', 'documentation'],
  ['203.0.113.9', 'documentation'],
  ['223.255.255.255', 'public'],
  ['224.0.0.1', 'multicast'],
  ['239.255.255.255', 'multicast'],
  ['240.0.0.1', 'reserved'],
  ['255.255.255.254', 'reserved'],
  ['255.255.255.255', 'broadcast'],
  ['::', 'unspecified'],
  ['::1', 'loopback'],
  ['100::1', 'discard'],
  ['100:0:0:1::', 'reserved'],
  ['1fff::1', 'reserved'],
  ['2000::1', 'public'],
  ['2001:2::1', 'benchmarking'],
  ['2001:3::1', 'reserved'],
  ['2001:10::1', 'orchid'],
  ['2001:2f::1', 'orchid'],
  ['2001:1ff::1', 'reserved'],
  ['2001:200::1', 'public'],
  ['2001:db8::1', 'documentation'],
  ['2001:4860:4860::8888', 'public'],
  ['2606:4700::1111', 'public'],
  ['3fff::1', 'documentation'],
  ['3fff:fff:ffff::', 'documentation'],
  ['3fff:1000::1', 'public'],
  ['4000::1', 'reserved'],
  ['5f00::1', 'segment-routing'],
  ['fc00::1', 'unique-local'],
  ['fdff::1', 'unique-local'],
  ['fd00:ec2::254', 'metadata'],
  ['fd00:ec2::23', 'metadata'],
  ['fd20:ce::254', 'metadata'],
  ['fd00:42::42', 'metadata'],
  ['fe80::1', 'link-local'],
  ['febf::1', 'link-local'],
  ['fe80::a9fe:a9fe', 'metadata'],
  ['fec0::1', 'site-local'],
  ['feff::1', 'site-local'],
  ['ff02::1', 'multicast'],
  // v4-mapped, v4-compatible, v4-translated.
  ['::ffff:127.0.0.1', 'loopback'],
  ['::ffff:7f00:1', 'loopback'],
  ['::ffff:10.0.0.1', 'private'],
  ['::ffff:169.254.169.254', 'metadata'],
  ['::ffff:8.8.8.8', 'transitional'],
  ['::127.0.0.1', 'loopback'],
  ['::8.8.8.8', 'transitional'],
  ['::ffff:0:169.254.169.254', 'metadata'],
  ['::ffff:0:8.8.8.8', 'transitional'],
  // NAT64.
  ['64:ff9b::127.0.0.1', 'loopback'],
  ['64:ff9b::169.254.169.254', 'metadata'],
  ['64:ff9b::8.8.8.8', 'transitional'],
  ['64:ff9b:1::169.254.169.254', 'metadata'],
  ['64:ff9b:1:a9fe:a9:fe00::', 'metadata'],
  ['64:ff9b:1:a9:fe:a9fe::', 'metadata'],
  ['64:ff9b:2::1', 'reserved'],
  // 6to4.
  ['2002:7f00:1::', 'loopback'],
  ['2002:a9fe:a9fe::1', 'metadata'],
  ['2002:c0a8:101::1', 'private'],
  ['2002:808:808::1', 'transitional'],
  // Teredo: server 65.54.227.120; client 192.0.2.45, 127.0.0.1, 169.254.169.254, 8.8.8.8.
  ['2001:0:4136:e378:8000:63bf:3fff:fdd2', 'documentation'],
  ['2001:0:4136:e378:8000:63bf:80ff:fffe', 'loopback'],
  ['2001:0:4136:e378:8000:63bf:5601:5601', 'metadata'],
  ['2001:0:a9fe:a9fe:8000:63bf:f7f7:f7f7', 'metadata'],
  ['2001:0:4136:e378:8000:63bf:f7f7:f7f7', 'transitional'],
  // ISATAP.
  ['2001:4860::5efe:127.0.0.1', 'loopback'],
  ['2001:4860::200:5efe:10.0.0.1', 'private'],
  ['2001:4860::5efe:8.8.8.8', 'transitional'],
  ['fe80::5efe:8.8.8.8', 'link-local'],
  ['fe80::5efe:169.254.169.254', 'metadata'],
])('%s is %s', (address, expected) => {
  expect(classifyAddress(address)).toBe(expected);
  // The second answer comes from the cache.
  expect(classifyAddress(address)).toBe(expected);
});

test.each([
  '',
  'localhost',
  '127.1',
  '0x7f.0.0.1',
  '010.0.0.1',
  '1.2.3.4.5',
  '256.1.1.1',
  '[::1]',
  'fe80::1%lo',
  '::g',
  '1.2.3.4/8',
  ' 1.2.3.4',
])('refuses %j, which is no canonical address', (address) => {
  expect(refusalOf(() => classifyAddress(address))).toBe('DestinationInvalid');
});

const octet = fc.nat(255);
const notPublic = fc.oneof(
  fc.tuple(fc.constant(10), octet, octet, octet),
  fc.tuple(fc.constant(127), octet, octet, octet),
  fc.tuple(fc.constant(172), fc.integer({ min: 16, max: 31 }), octet, octet),
  fc.tuple(fc.constant(192), fc.constant(168), octet, octet),
  fc.tuple(fc.constant(100), fc.integer({ min: 64, max: 127 }), octet, octet),
  fc.tuple(fc.constant(169), fc.constant(254), octet, octet),
);
const pair = (high = 0, low = 0): string => ((high << 8) | low).toString(16);

test('no address that carries a private IPv4 address is public', () => {
  fc.assert(
    fc.property(notPublic, fc.integer({ min: 0, max: 0xffff }), ([a, b, c, d], noise) => {
      const word = noise.toString(16);
      for (const address of [
        `${a}.${b}.${c}.${d}`,
        `::ffff:${pair(a, b)}:${pair(c, d)}`,
        `::ffff:0:${pair(a, b)}:${pair(c, d)}`,
        `::${pair(a, b)}:${pair(c, d)}`,
        `64:ff9b::${pair(a, b)}:${pair(c, d)}`,
        `64:ff9b:1:${word}:${word}:${word}:${pair(a, b)}:${pair(c, d)}`,
        `64:ff9b:1:${pair(a, b)}:${pair(0, c)}:${pair(d, 0)}:${word}:0`,
        `2002:${pair(a, b)}:${pair(c, d)}:${word}::${word}`,
        `2001:0:${word}:1:2:3:${pair(a ^ 0xff, b ^ 0xff)}:${pair(c ^ 0xff, d ^ 0xff)}`,
        `2a00:${word}::5efe:${pair(a, b)}:${pair(c, d)}`,
        `2a00:${word}::200:5efe:${pair(a, b)}:${pair(c, d)}`,
      ])
        expect(classifyAddress(address), address).not.toBe('public');
    }),
    fuzzRuns,
  );
});

test('public IPv6 lies in 2000::/3, and any text is classified or refused', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV6(), fc.ipV4(), fc.string({ unit: 'binary' })), (address) => {
      if (refusalOf(() => classifyAddress(address)) !== 'none') return;
      if (address.includes(':') && classifyAddress(address) === 'public')
        expect(address).toMatch(/^[23][0-9a-f]{3}:/i);
    }),
    fuzzRuns,
  );
});
