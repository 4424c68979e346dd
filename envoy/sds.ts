/**
 * Secret discovery (delta) for Envoy: a certificate for each name that a client asks for, but only where the
 * policy lets its requests be read. Each name costs Envoy about 49 KiB and is never dropped by Envoy itself, so
 * the oldest is withdrawn past `limits.certificateCacheMax`, and every name that a new policy no longer inspects.
 */
import { rm } from 'node:fs/promises';
import { isIP } from 'node:net';
import grpc, { type ServerDuplexStream } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { toSallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import { bindSocket } from '../ext-authz/listen.ts';
import type { Clock } from '../filters/common/time.ts';
import type { Authority } from './data-plane.ts';
import { type DeltaRequest, type DeltaResponse, secretProtos, secretType } from './protos.ts';

export type SecretServer = Readonly<{
  /** Withdraws every certificate whose name may no longer be inspected. */
  recheck(): void;
  /** Sends certificates anew that end soon, or that an authority before this one signed. A timer calls it. */
  renew(): Promise<void>;
  /** Names that Envoy holds a certificate for. */
  size(): number;
  stop(): Promise<void>;
}>;

type Stream = ServerDuplexStream<DeltaRequest, DeltaResponse>;
/** A name as Envoy asked for it, with the stream that it asked on. */
type Held = { stream: Stream; notAfterMs: number; epoch: number };

const nameMax = 253;

/** The canonical host for a server name as a client sent it; undefined where it is none. */
export function hostOfServerName(name: string): string | undefined {
  const host = name.toLowerCase().replace(/\.$/, '');
  if (host.length === 0 || host.length > nameMax) return undefined;
  if (isIP(host) !== 0) return host;
  return /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$/.test(host)
    ? host
    : undefined;
}

export async function serveSecrets(options: {
  socketPath: string;
  /** Whose the socket is; nobody else opens it. */
  owner?: Readonly<{ uid: number; gid: number }> | undefined;
  authority: Authority;
  clock: Clock;
  log: Logger;
  inspectable: (host: string) => boolean;
}): Promise<SecretServer> {
  const { authority, clock, log, inspectable } = options;
  const protos = secretProtos();
  /** By name as asked, oldest first. */
  const held = new Map<string, Held>();
  const streams = new Set<Stream>();
  let nonce = 0;

  const send = (stream: Stream, resources: DeltaResponse['resources'], removed: readonly string[]): void => {
    if (!streams.has(stream)) return;
    nonce += 1;
    stream.write({
      system_version_info: String(nonce),
      type_url: secretType,
      nonce: String(nonce),
      resources,
      removed_resources: removed,
    });
  };

  const withdraw = (name: string): void => {
    const holder = held.get(name);
    held.delete(name);
    if (holder !== undefined) send(holder.stream, [], [name]);
  };

  const give = async (stream: Stream, name: string): Promise<void> => {
    const host = hostOfServerName(name);
    if (host === undefined || !inspectable(host)) {
      held.delete(name);
      send(stream, [], [name]);
      return;
    }
    const epoch = authority.epoch();
    const minted = await authority.mint(host);
    // The stream may have ended, or the policy changed, while the certificate was made.
    if (!streams.has(stream)) return;
    if (!inspectable(host)) {
      send(stream, [], [name]);
      return;
    }
    held.delete(name);
    held.set(name, { stream, notAfterMs: minted.notAfterMs, epoch });
    const value = protos.tlsSecret(name, minted.certificatePem, minted.privateKeyPem);
    send(
      stream,
      [{ name, version: `${epoch}.${minted.notAfterMs}`, resource: { type_url: secretType, value } }],
      [],
    );
    const [oldest] = held.keys();
    if (held.size > limits.certificateCacheMax && oldest !== undefined) withdraw(oldest);
  };

  const giveOrRefuse = (stream: Stream, name: string): Promise<void> =>
    give(stream, name).catch((thrown: unknown) => {
      const failure = toSallyportError(thrown);
      log.error({ err: failure, cause: failure.cause }, 'a certificate could not be made');
      held.delete(name);
      send(stream, [], [name]);
    });

  const take = (stream: Stream, request: DeltaRequest): void => {
    if (request.error_detail !== null && request.error_detail !== undefined)
      log.warn({ detail: request.error_detail.message }, 'Envoy refused a certificate');
    for (const name of request.resource_names_unsubscribe) held.delete(name);
    for (const name of request.resource_names_subscribe) void giveOrRefuse(stream, name);
  };

  const deltaSecrets = (stream: Stream): void => {
    streams.add(stream);
    const end = (): void => {
      streams.delete(stream);
      for (const [name, holder] of held) if (holder.stream === stream) held.delete(name);
    };
    stream.on('cancelled', end);
    stream.on('error', end);
    stream.on('end', () => {
      end();
      stream.end();
    });
    stream.on('data', (request: DeltaRequest) => take(stream, request));
  };

  const renew = async (): Promise<void> => {
    const before = clock.wallMs() + limits.certificateRenewBeforeMs;
    for (const [name, holder] of [...held])
      if (holder.notAfterMs <= before || holder.epoch !== authority.epoch())
        await giveOrRefuse(holder.stream, name);
  };

  const refuse = (stream: ServerDuplexStream<unknown, unknown> | undefined): void => {
    stream?.emit('error', { code: grpc.status.UNIMPLEMENTED, details: 'only delta discovery is served' });
  };
  const server = new grpc.Server({
    'grpc.max_receive_message_length': 1024 * 1024,
    'grpc.max_concurrent_streams': 2 * limits.certificateCacheMax + limits.certificateMintsWaitingMax,
  });
  server.addService(protos.service, {
    DeltaSecrets: deltaSecrets,
    StreamSecrets: refuse,
    FetchSecrets: (_call: unknown, done: (error: object) => void) =>
      done({ code: grpc.status.UNIMPLEMENTED, details: 'only delta discovery is served' }),
  });
  await bindSocket(
    {
      socketPath: options.socketPath,
      ...(options.owner === undefined ? {} : { socketOwner: options.owner }),
    },
    (path) =>
      new Promise((resolve, reject) => {
        server.bindAsync(`unix:${path}`, grpc.ServerCredentials.createInsecure(), (error) =>
          error === null ? resolve() : reject(error),
        );
      }),
  );
  const timer = setInterval(() => void renew(), 60_000);
  timer.unref();

  return {
    recheck: () => {
      for (const name of [...held.keys()]) {
        const host = hostOfServerName(name);
        if (host === undefined || !inspectable(host)) withdraw(name);
      }
    },
    renew,
    size: () => held.size,
    stop: async () => {
      clearInterval(timer);
      server.forceShutdown();
      await rm(options.socketPath, { force: true });
    },
  };
}
