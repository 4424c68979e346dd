/**
 * Resolves a host, vets every address of the answer and pins the one to dial. The data plane dials the pin
 * and never resolves by itself, so a second answer that differs (DNS rebinding) changes nothing.
 */
import type { RecordWithTtl } from 'node:dns';
import { Resolver as DnsResolver, lookup } from 'node:dns/promises';
import { LRUCache } from 'lru-cache';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { createShares } from '../common/shares.ts';
import type { Clock } from '../common/time.ts';
import type { Pin } from '../facts.ts';
import { canonicalHost } from './canonical.ts';
import { classifyAddress } from './classify.ts';
import type { Resolver } from './resolver.ts';

export type ResolverOptions = Readonly<{
  /** Fixed addresses by host; vetted like every other answer. */
  hosts: Readonly<Record<string, string | readonly string[]>>;
  /** `address` or `address:port`; empty: the system's resolver, which reads /etc/hosts too. */
  servers: readonly string[];
  timeoutMs: number;
  clock: Clock;
}>;

/** Canonical addresses, IPv4 first, in the order of the answer. */
type Answer = Readonly<{ addresses: readonly string[]; ttlMs: number }>;
/** `done` settles when the resolver below holds nothing of this query any more, maybe long after the answer. */
type Query = (host: string) => Readonly<{ answer: Promise<Answer>; done: Promise<unknown> }>;
type Cached = Readonly<{ expiresAtMs: number; outcome: Answer | SallyportError }>;

export function createResolver(options: ResolverOptions): Resolver {
  const fixed = readHosts(options.hosts);
  const { query, cancel } =
    options.servers.length === 0 ? systemQuery() : serverQuery(options.servers, options.timeoutMs);
  const cache = new LRUCache<string, Cached>({ max: limits.dnsCacheEntriesMax });
  const inFlight = new Map<string, Promise<Answer>>();
  /** Queries that the resolver below has not given back yet, also those that nobody waits for any more. */
  let outstanding = 0;
  const shares = createShares(limits.dnsConcurrentPerAgentMax);
  let closed = false;

  const remember = (host: string, outcome: Cached['outcome']): void => {
    const ttlMs = outcome instanceof SallyportError ? limits.dnsNegativeTtlMs : outcome.ttlMs;
    cache.set(host, { expiresAtMs: options.clock.monotonicMs() + ttlMs, outcome });
  };

  const ask = async (host: string, giveBack: () => void): Promise<Answer> => {
    outstanding += 1;
    const asked = query(host);
    const release = (): void => {
      outstanding -= 1;
      giveBack();
    };
    asked.done.then(release, release);
    try {
      const answer = await within(asked.answer, options.timeoutMs);
      remember(host, answer);
      return answer;
    } catch (error) {
      const failure = resolutionFailure(error, options.timeoutMs);
      remember(host, failure);
      throw failure;
    } finally {
      inFlight.delete(host);
    }
  };

  const resolve = async (host: string, owner: string | undefined): Promise<Answer> => {
    const cached = cache.get(host);
    if (cached !== undefined && cached.expiresAtMs > options.clock.monotonicMs()) {
      if (cached.outcome instanceof SallyportError) throw cached.outcome;
      return cached.outcome;
    }
    const running = inFlight.get(host);
    if (running !== undefined) return running;
    if (outstanding >= limits.dnsConcurrentMax)
      throw new SallyportError(
        'Overloaded',
        `cannot resolve the host: ${limits.dnsConcurrentMax} look-ups are already running`,
      );
    const giveBack = owner === undefined ? () => undefined : shares.take(owner);
    if (giveBack === undefined)
      throw new SallyportError(
        'Overloaded',
        `cannot resolve the host: ${limits.dnsConcurrentPerAgentMax} look-ups of this agent are already running`,
      );
    const asked = ask(host, giveBack);
    inFlight.set(host, asked);
    return asked;
  };

  return {
    pin: async (host, port, internal, owner) => {
      if (closed) throw new SallyportError('ServiceUnavailable', 'the resolver is closed');
      const canonical = canonicalHost(host);
      const named = fixed.get(canonical.host);
      if (named !== undefined) return vet(canonical.host, named, port, internal);
      if (canonical.isAddress) return vet(canonical.host, [canonical.host], port, internal);
      return vet(canonical.host, (await resolve(canonical.host, owner)).addresses, port, internal);
    },
    close: () => {
      closed = true;
      cache.clear();
      cancel();
    },
  };
}

/**
 * One address that may not be reached condemns the whole answer: a public name has no private address, so a
 * mixed answer is somebody trying. A metadata address is never the meaning of a name, even of an internal one;
 * a rule has to name the address itself.
 */
function vet(host: string, addresses: readonly string[], port: number, internal: boolean): Pin {
  for (const address of addresses) {
    const found = classifyAddress(address);
    const allowed = found === 'public' || (internal && (found !== 'metadata' || address === host));
    if (!allowed)
      throw new SallyportError('AddressDenied', `${host} has a ${found} address`, {
        cause: new Error(`${host} → ${address}`),
      });
  }
  const [address] = addresses;
  if (address === undefined) throw new SallyportError('ResolutionFailed', `${host} has no address`);
  return { address, port, class: classifyAddress(address) === 'public' ? 'public' : 'internal' };
}

/** IPv4 first, each address once, in its canonical spelling. */
function orderAddresses(host: string, raw: readonly string[]): readonly string[] {
  if (raw.length > limits.dnsAddressesMax)
    throw new SallyportError(
      'ResolutionFailed',
      `${host} has ${raw.length} addresses; at most ${limits.dnsAddressesMax} are taken`,
    );
  const addresses = [...new Set(raw.map((address) => literal(host, address)))];
  const isV6 = (address: string): boolean => address.includes(':');
  return [...addresses.filter((address) => !isV6(address)), ...addresses.filter(isV6)];
}

function literal(host: string, raw: string): string {
  const { host: address, isAddress } = canonicalHost(raw);
  if (!isAddress) throw new SallyportError('ResolutionFailed', `${host} has an answer that is no address`);
  return address;
}

function readHosts(hosts: ResolverOptions['hosts']): ReadonlyMap<string, readonly string[]> {
  const fixed = new Map<string, readonly string[]>();
  for (const [host, addresses] of Object.entries(hosts)) {
    try {
      const list = typeof addresses === 'string' ? [addresses] : addresses;
      fixed.set(canonicalHost(host).host, orderAddresses(host, list));
    } catch (cause) {
      throw new SallyportError(
        'SettingsInvalid',
        `resolver.hosts: ${host} needs a host name and at most ${limits.dnsAddressesMax} addresses`,
        { cause },
      );
    }
  }
  return fixed;
}

type Source = Readonly<{ query: Query; cancel: () => void }>;

/** getaddrinfo: /etc/hosts, search domains and whatever else the system is told to ask. It tells no TTL. */
function systemQuery(): Source {
  return {
    query: (host) => {
      const found = lookup(host, { all: true, order: 'verbatim' });
      const answer = found.then((all) => ({
        addresses: orderAddresses(
          host,
          all.map((each) => each.address),
        ),
        ttlMs: limits.dnsSystemTtlMs,
      }));
      return { answer, done: found };
    },
    // getaddrinfo cannot be called off; `within` stops waiting for it.
    cancel: () => undefined,
  };
}

function serverQuery(servers: readonly string[], timeoutMs: number): Source {
  // Two tries fit into the time that one name may take.
  const resolver = new DnsResolver({ timeout: Math.max(1, Math.floor(timeoutMs / 2)), tries: 2 });
  try {
    resolver.setServers(servers);
  } catch (cause) {
    throw new SallyportError('SettingsInvalid', 'resolver.servers: each is an address or address:port', {
      cause,
    });
  }
  return {
    query: (host) => {
      const families = [resolver.resolve4(host, { ttl: true }), resolver.resolve6(host, { ttl: true })];
      return {
        answer: recordsOf(families).then((records) => answerOf(host, records)),
        done: Promise.allSettled(families),
      };
    },
    cancel: () => resolver.cancel(),
  };
}

/**
 * Records of both families. Some servers never answer for one of them: when the other has answered, it gets
 * a little longer (RFC 8305, section 3 calls that the resolution delay). What comes later is neither vetted
 * nor pinned. Rejects with the first failure where no family has a record.
 */
function recordsOf(
  families: readonly Promise<readonly RecordWithTtl[]>[],
): Promise<readonly RecordWithTtl[]> {
  return new Promise((resolve, reject) => {
    const records: RecordWithTtl[] = [];
    let waiting = families.length;
    let failure: unknown;
    let timer: NodeJS.Timeout | undefined;
    const settle = (): void => {
      waiting -= 1;
      if (waiting === 0) {
        clearTimeout(timer);
        if (records.length === 0) reject(failure);
        else resolve(records);
      } else if (records.length > 0) {
        timer = setTimeout(() => resolve([...records]), limits.dnsSecondFamilyMs);
      }
    };
    for (const family of families) {
      family.then(
        (found) => {
          records.push(...found);
          settle();
        },
        (reason: unknown) => {
          failure ??= reason;
          settle();
        },
      );
    }
  });
}

function answerOf(host: string, records: readonly RecordWithTtl[]): Answer {
  const addresses = orderAddresses(
    host,
    records.map((record) => record.address),
  );
  const ttlMs = Math.min(...records.map((record) => record.ttl * 1_000), limits.dnsCacheTtlMsMax);
  return { addresses, ttlMs: Math.max(ttlMs, limits.dnsCacheTtlMsMin) };
}

class TimedOut extends Error {}

function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new TimedOut(`no answer within ${timeoutMs} ms`)), timeoutMs);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** The host is in the message already; what the resolver said goes to the log. */
function resolutionFailure(cause: unknown, timeoutMs: number): SallyportError {
  if (cause instanceof SallyportError) return cause;
  const message =
    cause instanceof TimedOut
      ? `the host name was not resolved within ${timeoutMs} ms`
      : 'the host name could not be resolved';
  return new SallyportError('ResolutionFailed', message, { cause });
}
