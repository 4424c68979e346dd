import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ErrorCode, SallyportError } from '../../../config/errors.ts';
import { limits } from '../../../config/limits.ts';
import { createClock } from '../../../filters/common/time.ts';
import { createResolver, type ResolverOptions } from '../../../filters/egress/dns.ts';
import type { Resolver } from '../../../filters/egress/resolver.ts';
import type { Pin } from '../../../filters/facts.ts';
import { type DnsServer, startDnsServer } from '../../support/dns-server.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { refusalOf } from '../../support/refusal.ts';

let server: DnsServer;
let nowMs: number;
const open: Resolver[] = [];

beforeEach(async () => {
  server = await startDnsServer();
  nowMs = 0;
});
afterEach(async () => {
  for (const resolver of open.splice(0)) resolver.close();
  await server.close();
});

function resolverOf(changes: Partial<ResolverOptions> = {}): Resolver {
  const clock = createClock(
    () => nowMs,
    () => nowMs,
  );
  const resolver = createResolver({
    hosts: {},
    servers: [server.address],
    timeoutMs: 5_000,
    clock,
    ...changes,
  });
  open.push(resolver);
  return resolver;
}

async function refusal(pinned: Promise<Pin>): Promise<ErrorCode | 'none'> {
  try {
    await pinned;
    return 'none';
  } catch (error) {
    if (error instanceof SallyportError) return error.code;
    throw error;
  }
}

describe('an address literal', () => {
  test('is its own pin where it is public', async () => {
    expect(await resolverOf().pin('93.184.215.14', 443, false)).toEqual({
      address: '93.184.215.14',
      port: 443,
      class: 'public',
    });
    expect(server.questions).toEqual([]);
  });

  test.each(['127.0.0.1', '10.0.0.1', '::1', '64:ff9b::7f00:1', 'fd00::1', '0.0.0.0'])(
    '%s is denied, and reached where a rule names it as internal',
    async (address) => {
      const resolver = resolverOf();
      expect(await refusal(resolver.pin(address, 80, false))).toBe('AddressDenied');
      expect(await resolver.pin(address, 80, true)).toEqual({ address, port: 80, class: 'internal' });
    },
  );

  test('of a metadata service is reached only where a rule names the literal as internal', async () => {
    const resolver = resolverOf();
    expect(await refusal(resolver.pin('169.254.169.254', 80, false))).toBe('AddressDenied');
    expect((await resolver.pin('169.254.169.254', 80, true)).class).toBe('internal');
  });
});

describe('a fixed host', () => {
  test('is not asked for, and is vetted like every other answer', async () => {
    const resolver = resolverOf({
      hosts: { 'Upstream.Example.': ['::1', '127.1'], 'public.example': '1.1.1.1' },
    });
    expect(await refusal(resolver.pin('upstream.example', 80, false))).toBe('AddressDenied');
    expect(await resolver.pin('upstream.example', 80, true)).toEqual({
      address: '127.0.0.1',
      port: 80,
      class: 'internal',
    });
    expect((await resolver.pin('public.example', 80, false)).class).toBe('public');
    expect(server.questions).toEqual([]);
  });

  test('that is a metadata address stays denied although internal', async () => {
    const resolver = resolverOf({ hosts: { 'm.example': '169.254.169.254' } });
    expect(await refusal(resolver.pin('m.example', 80, true))).toBe('AddressDenied');
  });

  test.each([
    { hosts: { 'a b': '1.1.1.1' } },
    { hosts: { a: 'b.example' } },
    { hosts: { a: '' } },
    { hosts: { a: Array.from({ length: limits.dnsAddressesMax + 1 }, (_, at) => `1.1.1.${at}`) } },
    { servers: ['dns.example'] },
    { servers: ['127.0.0.1:99999'] },
  ])('or server that cannot be read is a wrong setting: %j', (changes) => {
    expect(refusalOf(() => resolverOf(changes))).toBe('SettingsInvalid');
  });
});

describe('a name', () => {
  test('is pinned to its first IPv4 address, whatever came first', async () => {
    server.zones.set('a.example', { addresses: ['2606:4700::1', '1.1.1.2', '1.1.1.1'] });
    expect(await resolverOf().pin('a.example', 443, false)).toEqual({
      address: '1.1.1.2',
      port: 443,
      class: 'public',
    });
    expect(server.questions.toSorted()).toEqual(['A a.example', 'AAAA a.example']);
  });

  test('that has IPv6 only is pinned to it', async () => {
    server.zones.set('six.example', { addresses: ['2606:4700:0:0::1'] });
    expect((await resolverOf().pin('six.example', 443, false)).address).toBe('2606:4700::1');
  });

  test.each([
    [['1.1.1.1', '10.0.0.1']],
    [['1.1.1.1', '::1']],
    [['1.1.1.1', '::ffff:169.254.169.254']],
    [['2606:4700::1', '127.0.0.1']],
    [['192.168.0.1']],
  ])('with an address that is not public among %j is denied', async (addresses) => {
    server.zones.set('mixed.example', { addresses });
    expect(await refusal(resolverOf().pin('mixed.example', 443, false))).toBe('AddressDenied');
  });

  test('that a rule names as internal may be private, never a metadata service', async () => {
    const resolver = resolverOf();
    server.zones.set('db.internal', { addresses: ['10.0.0.1'] });
    server.zones.set('evil.internal', { addresses: ['10.0.0.1', '169.254.169.254'] });
    server.zones.set('mapped.internal', { addresses: ['64:ff9b::a9fe:a9fe'] });
    expect(await resolver.pin('db.internal', 5432, true)).toEqual({
      address: '10.0.0.1',
      port: 5432,
      class: 'internal',
    });
    expect(await refusal(resolver.pin('evil.internal', 80, true))).toBe('AddressDenied');
    expect(await refusal(resolver.pin('mapped.internal', 80, true))).toBe('AddressDenied');
  });

  test('that turns private after its time to live is denied from then on', async () => {
    const resolver = resolverOf();
    server.zones.set('rebind.example', { addresses: ['1.1.1.1'], ttl: 30 });
    expect((await resolver.pin('rebind.example', 80, false)).address).toBe('1.1.1.1');
    server.zones.set('rebind.example', { addresses: ['127.0.0.1'], ttl: 30 });
    nowMs = 29_999;
    expect((await resolver.pin('rebind.example', 80, false)).address).toBe('1.1.1.1');
    nowMs = 30_000;
    expect(await refusal(resolver.pin('rebind.example', 80, false))).toBe('AddressDenied');
  });

  test.each([
    [0, limits.dnsCacheTtlMsMin],
    [86_400, limits.dnsCacheTtlMsMax],
  ])('with a time to live of %i s is kept %i ms', async (ttl, keptMs) => {
    const resolver = resolverOf();
    server.zones.set('a.example', { addresses: ['1.1.1.1'], ttl });
    await resolver.pin('a.example', 80, false);
    nowMs = keptMs - 1;
    await resolver.pin('a.example', 80, false);
    expect(server.questions).toHaveLength(2);
    nowMs = keptMs;
    await resolver.pin('a.example', 80, false);
    expect(server.questions).toHaveLength(4);
  });

  test('asked for many times at once is asked once', async () => {
    server.zones.set('a.example', { addresses: ['1.1.1.1'] });
    const resolver = resolverOf();
    const pins = await Promise.all(Array.from({ length: 500 }, () => resolver.pin('a.example', 80, false)));
    expect(new Set(pins.map((pin) => pin.address))).toEqual(new Set(['1.1.1.1']));
    expect(server.questions).toHaveLength(2);
  });

  test('with too many addresses is refused', async () => {
    const many = (count: number): string[] =>
      Array.from({ length: count }, (_, at) => `1.1.${at >> 8}.${at & 255}`);
    server.zones.set('most.example', { addresses: many(limits.dnsAddressesMax) });
    server.zones.set('more.example', { addresses: many(limits.dnsAddressesMax + 1) });
    server.zones.set('huge.example', { addresses: many(3_000) });
    const resolver = resolverOf({ timeoutMs: 500 });
    expect(await refusal(resolver.pin('most.example', 80, false))).toBe('none');
    await expect(resolver.pin('more.example', 80, false)).rejects.toThrow(
      `33 addresses; at most ${limits.dnsAddressesMax}`,
    );
    expect(await refusal(resolver.pin('huge.example', 80, false))).toBe('ResolutionFailed');
  });

  test.each([{ rcode: 3 }, { rcode: 2 }, { rcode: 5 }, { addresses: [] }])(
    'that does not resolve (%j) is refused, and not asked again at once',
    async (zone) => {
      const resolver = resolverOf({ timeoutMs: 500 });
      server.zones.set('gone.example', zone);
      expect(await refusal(resolver.pin('gone.example', 80, false))).toBe('ResolutionFailed');
      const asked = server.questions.length;
      expect(await refusal(resolver.pin('gone.example', 80, false))).toBe('ResolutionFailed');
      expect(server.questions).toHaveLength(asked);
      nowMs = limits.dnsNegativeTtlMs;
      server.zones.set('gone.example', { addresses: ['1.1.1.1'] });
      expect(await refusal(resolver.pin('gone.example', 80, false))).toBe('none');
    },
  );

  test('without any answer is refused after the time-out', async () => {
    server.zones.set('slow.example', { silent: ['A', 'AAAA'] });
    const pinned = resolverOf({ timeoutMs: 60 }).pin('slow.example', 80, false);
    await expect(pinned).rejects.toThrow(/not (be )?resolved/);
    expect(await refusal(pinned)).toBe('ResolutionFailed');
  });

  test('whose IPv6 answer never comes is pinned to the IPv4 address', async () => {
    server.zones.set('half.example', { addresses: ['1.1.1.1'], silent: ['AAAA'] });
    expect((await resolverOf().pin('half.example', 80, false)).address).toBe('1.1.1.1');
  });

  test('whose IPv4 answer never comes is pinned to the IPv6 address', async () => {
    server.zones.set('half.example', { addresses: ['2606:4700::1'], silent: ['A'] });
    expect((await resolverOf().pin('half.example', 80, false)).address).toBe('2606:4700::1');
  });

  test('past the limit of look-ups at once is refused as overload', async () => {
    const resolver = resolverOf({ timeoutMs: 5_000 });
    const waiting = Array.from({ length: limits.dnsConcurrentMax }, (_, at) => {
      server.zones.set(`w${at}.example`, { silent: ['A', 'AAAA'] });
      return refusal(resolver.pin(`w${at}.example`, 80, false));
    });
    expect(await refusal(resolver.pin('one-more.example', 80, false))).toBe('Overloaded');
    resolver.close();
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(['ResolutionFailed']));
  });

  test('past the share of one agent is refused to this agent only', async () => {
    const resolver = resolverOf({ timeoutMs: 5_000 });
    const waiting = Array.from({ length: limits.dnsConcurrentPerAgentMax }, (_, at) => {
      server.zones.set(`s${at}.example`, { silent: ['A', 'AAAA'] });
      return refusal(resolver.pin(`s${at}.example`, 80, false, 'greedy'));
    });
    server.zones.set('other.example', { addresses: ['1.1.1.1'] });
    expect(await refusal(resolver.pin('other.example', 80, false, 'greedy'))).toBe('Overloaded');
    expect(await refusal(resolver.pin('other.example', 80, false, 'modest'))).toBe('none');
    // What is known already costs no look-up.
    expect(await refusal(resolver.pin('other.example', 80, false, 'greedy'))).toBe('none');
    resolver.close();
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(['ResolutionFailed']));
  });

  test('is refused after close', async () => {
    const resolver = resolverOf();
    resolver.close();
    expect(await refusal(resolver.pin('a.example', 80, false))).toBe('ServiceUnavailable');
  });

  test('answered with garbage is refused', async () => {
    const resolver = resolverOf({ timeoutMs: 40 });
    let count = 0;
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (raw) => {
        count += 1;
        const host = `g${count}.example`;
        server.zones.set(host, { raw });
        expect(await refusal(resolver.pin(host, 80, false))).toBe('ResolutionFailed');
      }),
      fuzzRuns,
    );
  });
});

describe('the system’s resolver', () => {
  test('reads /etc/hosts, and what it says is vetted', async () => {
    const resolver = resolverOf({ servers: [] });
    expect(await refusal(resolver.pin('localhost', 80, false))).toBe('AddressDenied');
    expect(await resolver.pin('localhost', 80, true)).toMatchObject({ class: 'internal' });
  });
});
