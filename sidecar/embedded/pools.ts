/**
 * undici pools, one for each pin and name: a connection opened for one host is never used for another, even
 * at the same address. The least recently used pool is closed once there are too many.
 */
import type { Socket } from 'node:net';
import tls from 'node:tls';
import { LRUCache } from 'lru-cache';
import type { Dispatcher } from 'undici';
// Not the package's index: it loads fetch, WebSocket, caches and mocks as well, 8 MiB that no pool needs.
import Pool from 'undici/lib/dispatcher/pool.js';
import { limits } from '../../config/limits.ts';
import type { Destination, Pin } from '../../filters/facts.ts';
import { dial, dialTls } from './dial.ts';

export type Pools = Readonly<{
  /** @param h2 gRPC needs HTTP/2; everything else is carried over HTTP/1.1. */
  of(destination: Destination, pin: Pin, h2: boolean): Dispatcher;
  destroy(): Promise<void>;
}>;

export type PoolsOptions = Readonly<{
  upstreamCaPem: string;
  connectTimeoutMs: number;
  connectionsMax: number;
  onError: (error: unknown) => void;
}>;

export function createPools(options: PoolsOptions): Pools {
  // Made for the first TLS connection: every authority is parsed, which costs 15 ms and 3 MiB.
  let secureContext: tls.SecureContext | undefined;
  const trusted = (): tls.SecureContext => {
    secureContext ??= tls.createSecureContext({ ca: options.upstreamCaPem });
    return secureContext;
  };
  const { connectTimeoutMs: timeoutMs } = options;
  const pools = new LRUCache<string, Pool>({
    max: limits.upstreamPoolsMax,
    // Lets what is under way finish.
    dispose: (pool, _, reason) => {
      if (reason === 'evict') pool.close().catch(options.onError);
    },
  });

  const open = (destination: Destination, pin: Pin, h2: boolean): Pool => {
    const secure = destination.scheme === 'https';
    const { host, hostIsAddress } = destination;
    // Without TLS there is no ALPN; undici takes the protocol from this field, as its own connector sets it.
    const connect = (): Promise<Socket> =>
      secure
        ? dialTls(pin, {
            host,
            hostIsAddress,
            secureContext: trusted(),
            alpn: [h2 ? 'h2' : 'http/1.1'],
            timeoutMs,
          })
        : dial(pin, timeoutMs).then((socket) =>
            h2 ? Object.assign(socket, { alpnProtocol: 'h2' }) : socket,
          );
    return new Pool(originOf(destination), {
      connections: options.connectionsMax,
      // One request at a time over HTTP/1.1; streams over HTTP/2.
      pipelining: h2 ? limits.streamsPerConnectionMax : 1,
      allowH2: h2,
      ...(h2 && !secure ? { h2Options: { useH2c: true } } : {}),
      maxHeaderSize: limits.requestHeaderBytesMax,
      headersTimeout: limits.streamIdleTimeoutMs,
      bodyTimeout: limits.streamIdleTimeoutMs,
      connect: (_, callback) => {
        connect().then(
          (socket) => callback(null, socket),
          (error) => callback(error, null),
        );
      },
    });
  };

  return {
    of: (destination, pin, h2) => {
      const key = [destination.scheme, destination.host, pin.address, pin.port, h2 ? 'h2' : 'h1'].join(' ');
      const known = pools.get(key);
      if (known !== undefined) return known;
      const pool = open(destination, pin, h2);
      pools.set(key, pool);
      return pool;
    },
    destroy: async () => {
      const open = [...pools.values()];
      pools.clear();
      await Promise.all(open.map((pool) => pool.destroy()));
    },
  };
}

function originOf({ scheme, host, port }: Destination): string {
  return `${scheme}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}
