/**
 * Every IP address to one class. Only `public` may be dialled without a rule that names the host as internal.
 * The ranges are the IANA special-purpose registries (RFC 6890 and successors) and the clouds' own addresses.
 */
import ipaddr from 'ipaddr.js';
import { LRUCache } from 'lru-cache';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';

export type AddressClass =
  | 'public'
  | 'loopback'
  | 'unspecified'
  | 'private'
  | 'shared'
  | 'link-local'
  /** Instance credentials and hypervisor services of the clouds. */
  | 'metadata'
  | 'unique-local'
  | 'site-local'
  | 'multicast'
  | 'broadcast'
  | 'documentation'
  | 'benchmarking'
  | 'discard'
  | 'orchid'
  | 'segment-routing'
  | 'reserved'
  /** An IPv6 address that carries a public IPv4 one: a translator on the way could take it anywhere. */
  | 'transitional';

type Range = readonly [bytes: Uint8Array, bits: number, addressClass: AddressClass];

const range = (cidr: string, addressClass: AddressClass): Range => {
  const [address, bits] = ipaddr.parseCIDR(cidr);
  return [Uint8Array.from(address.toByteArray()), bits, addressClass];
};

/** First match wins: single addresses before the blocks around them. */
const ipv4Ranges: readonly Range[] = [
  // AWS, Azure, GCP, DigitalOcean, OpenStack; ECS task credentials; EKS pod identity.
  range('169.254.169.254/32', 'metadata'),
  range('169.254.170.2/32', 'metadata'),
  range('169.254.170.23/32', 'metadata'),
  // Tencent, Scaleway, Alibaba, Azure's wire server, Oracle.
  range('169.254.0.23/32', 'metadata'),
  range('169.254.42.42/32', 'metadata'),
  range('100.100.100.200/32', 'metadata'),
  range('168.63.129.16/32', 'metadata'),
  range('192.0.0.192/32', 'metadata'),
  range('255.255.255.255/32', 'broadcast'),
  range('0.0.0.0/8', 'unspecified'),
  range('10.0.0.0/8', 'private'),
  range('100.64.0.0/10', 'shared'),
  range('127.0.0.0/8', 'loopback'),
  range('169.254.0.0/16', 'link-local'),
  range('172.16.0.0/12', 'private'),
  range('192.0.0.0/24', 'reserved'),
  range('192.0.2.0/24', 'documentation'),
  // 6to4 relays (RFC 7526 withdrew them).
  range('192.88.99.0/24', 'reserved'),
  range('192.168.0.0/16', 'private'),
  range('198.18.0.0/15', 'benchmarking'),
  range('198.51.100.0/24', 'documentation'),
  range('203.0.113.0/24', 'documentation'),
  range('224.0.0.0/4', 'multicast'),
  range('240.0.0.0/4', 'reserved'),
];

const ipv6Ranges: readonly Range[] = [
  // AWS; GCP; Scaleway; OpenStack.
  range('fd00:ec2::/32', 'metadata'),
  range('fd20:ce::254/128', 'metadata'),
  range('fd00:42::42/128', 'metadata'),
  range('fe80::a9fe:a9fe/128', 'metadata'),
  range('::/128', 'unspecified'),
  range('::1/128', 'loopback'),
  range('100::/64', 'discard'),
  range('2001:2::/48', 'benchmarking'),
  range('2001:10::/28', 'orchid'),
  range('2001:20::/28', 'orchid'),
  // IETF protocol assignments (RFC 2928).
  range('2001::/23', 'reserved'),
  range('2001:db8::/32', 'documentation'),
  range('3fff::/20', 'documentation'),
  range('5f00::/16', 'segment-routing'),
  range('fc00::/7', 'unique-local'),
  range('fe80::/10', 'link-local'),
  range('fec0::/10', 'site-local'),
  range('ff00::/8', 'multicast'),
  // Global unicast (RFC 4291, section 2.4); everything outside is not given out.
  range('2000::/3', 'public'),
];

/**
 * Where IPv6 prefixes carry an IPv4 address: offsets of its four bytes. NAT64 with a longer or shorter prefix
 * leaves out byte 8 (RFC 6052, section 2.2); of the local-use prefix every length is read, since its owner
 * chooses one.
 */
const embeddings: readonly Readonly<{ prefix: Range; at: readonly (readonly number[])[]; flip?: number }>[] =
  [
    // v4-mapped, v4-translated (RFC 2765), v4-compatible.
    { prefix: range('::ffff:0:0/96', 'transitional'), at: [[12, 13, 14, 15]] },
    { prefix: range('::ffff:0:0:0/96', 'transitional'), at: [[12, 13, 14, 15]] },
    { prefix: range('::/96', 'transitional'), at: [[12, 13, 14, 15]] },
    // NAT64: RFC 6052 and, for local use, RFC 8215.
    { prefix: range('64:ff9b::/96', 'transitional'), at: [[12, 13, 14, 15]] },
    {
      prefix: range('64:ff9b:1::/48', 'transitional'),
      at: [
        [12, 13, 14, 15],
        [6, 7, 9, 10],
        [7, 9, 10, 11],
        [9, 10, 11, 12],
      ],
    },
    // 6to4 (RFC 3056).
    { prefix: range('2002::/16', 'transitional'), at: [[2, 3, 4, 5]] },
    // Teredo (RFC 4380, section 4): the server, and the client with every bit flipped.
    { prefix: range('2001::/32', 'transitional'), at: [[12, 13, 14, 15]], flip: 0xff },
    { prefix: range('2001::/32', 'transitional'), at: [[4, 5, 6, 7]] },
  ];

const inRange = (bytes: Uint8Array, [prefix, bits]: Range): boolean => {
  const whole = bits >> 3;
  for (let index = 0; index < whole; index += 1) if (bytes[index] !== prefix[index]) return false;
  const rest = bits & 7;
  return rest === 0 || ((bytes[whole] ?? 0) ^ (prefix[whole] ?? 0)) >> (8 - rest) === 0;
};

const classOf = (bytes: Uint8Array, ranges: readonly Range[], otherwise: AddressClass): AddressClass =>
  ranges.find((candidate) => inRange(bytes, candidate))?.[2] ?? otherwise;

/** The IPv4 addresses that these 16 bytes carry. */
function embedded(bytes: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  const take = (at: readonly number[], flip: number): void => {
    found.push(Uint8Array.from(at, (offset) => (bytes[offset] ?? 0) ^ flip));
  };
  for (const { prefix, at, flip } of embeddings) {
    if (inRange(bytes, prefix)) for (const offsets of at) take(offsets, flip ?? 0);
  }
  // ISATAP (RFC 5214, section 6.1): any prefix, interface identifier 0000:5efe or 0200:5efe before the address.
  const isatap = (bytes[8] === 0 || bytes[8] === 2) && bytes[9] === 0 && bytes[10] === 0x5e;
  if (isatap && bytes[11] === 0xfe) take([12, 13, 14, 15], 0);
  return found;
}

function classifyIpv6(bytes: Uint8Array): AddressClass {
  const own = classOf(bytes, ipv6Ranges, 'reserved');
  // `::` and `::1` lie in the v4-compatible prefix but carry nothing.
  if (own === 'unspecified' || own === 'loopback' || own === 'metadata') return own;
  const inner = embedded(bytes).map((address) => classOf(address, ipv4Ranges, 'public'));
  if (inner.length === 0) return own;
  // Metadata wins because no `internal: true` opens it; then whatever tells most.
  if (inner.includes('metadata')) return 'metadata';
  if (own !== 'public' && own !== 'reserved') return own;
  return inner.find((each) => each !== 'public') ?? 'transitional';
}

function classify(address: string): AddressClass {
  if (ipaddr.IPv4.isValidFourPartDecimal(address))
    return classOf(Uint8Array.from(ipaddr.IPv4.parse(address).octets), ipv4Ranges, 'public');
  if (address.includes('%') || !ipaddr.IPv6.isValid(address))
    throw new SallyportError('DestinationInvalid', 'the address is not an IPv4 or IPv6 address without zone');
  return classifyIpv6(Uint8Array.from(ipaddr.IPv6.parse(address).toByteArray()));
}

const known = new LRUCache<string, AddressClass>({ max: limits.addressClassesMax });

/** @param address dotted IPv4, or IPv6 without brackets and zone. @throws DestinationInvalid for anything else. */
export function classifyAddress(address: string): AddressClass {
  const cached = known.get(address);
  if (cached !== undefined) return cached;
  const found = classify(address);
  known.set(address, found);
  return found;
}
