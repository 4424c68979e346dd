/** ext_authz over gRPC: envoy.service.auth.v3.Authorization and grpc.health.v1. */
import { createServer } from 'node:net';
import { limits } from '../config/limits.ts';
import { type CheckMetadata, decodeCheckRequest } from './decode.ts';
import { encodeCheckResponse } from './encode.ts';
import { type Answer, createGate, type Gate, type GateOptions } from './gate.ts';
import { readCheckRequest } from './h2-check-request.ts';
import { checkResponseBytes } from './h2-check-response.ts';
import { H2Connection } from './h2-connection.ts';
import { acceptGrpc, type GrpcCall, type Metadata, type Method } from './h2-grpc.ts';
import { ourPrefix } from './headers.ts';
import { createHealth, healthPath } from './health.ts';
import {
  assertTcp,
  bearerOf,
  bindSocket,
  type Listen,
  type RunningServer,
  removeSocket,
  stopWithin,
  tokenVerifier,
} from './listen.ts';

export type GrpcOptions = GateOptions & Readonly<{ listen: Listen; stopTimeoutMs?: number }>;

export const checkPath = '/envoy.service.auth.v3.Authorization/Check';

/** Rejects with SettingsInvalid where it may not listen there, else with the system's error. */
export async function serveGrpc(options: GrpcOptions): Promise<RunningServer> {
  const { listen, log } = options;
  if ('token' in listen) assertTcp(listen);
  const gate = createGate(options);
  const health = createHealth();
  const accept = acceptGrpc({
    methods: new Map([[checkPath, checkMethod(gate)], ...health.methods]),
    refusal: 'token' in listen ? tokenRefusal(listen.token) : undefined,
    // Read without a token, and kept as long as somebody watches.
    messageBytesMax: (path) => (path.startsWith(healthPath) ? limits.healthMessageBytesMax : undefined),
  });
  const connections = new Set<H2Connection>();
  const nowMs = (): number => performance.now();
  const server = createServer((socket) => {
    const connection = new H2Connection(socket, {
      ...{ accept, log, nowMs },
      // A few more than are decided, so that the one too many is told so and does not wait in Envoy.
      streamsMax: limits.checksConcurrentMax + limits.healthWatchersMax,
      streamWindowBytes: limits.checkRequestBytesMax + 1_024,
      windowBytes: limits.checkSessionMiBMax * 1024 * 1024,
    });
    connections.add(connection);
    socket.once('close', () => connections.delete(connection));
  });
  server.maxConnections = limits.connectionsMax;
  const sweep = setInterval(() => {
    for (const connection of connections) connection.sweep(nowMs());
  }, limits.requestHeadersTimeoutMs / 3).unref();

  const bind = (target: string | Readonly<{ host: string; port: number }>): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(target, () => {
        server.removeListener('error', reject);
        resolve();
      });
    });
  let address: string;
  try {
    if ('socketPath' in listen) {
      await bindSocket(listen, bind);
      address = `unix:${listen.socketPath}`;
    } else {
      await bind({ host: listen.host, port: listen.port });
      const bound = server.address();
      const port = typeof bound === 'object' && bound !== null ? bound.port : listen.port;
      address = `${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${port}`;
    }
  } catch (thrown) {
    clearInterval(sweep);
    server.close();
    throw thrown;
  }

  let stopping: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    clearInterval(sweep);
    health.stop();
    await removeSocket(listen);
    await stopWithin(options.stopTimeoutMs ?? limits.stopTimeoutMs, {
      close: () =>
        new Promise((resolve) => {
          server.close(() => resolve());
          for (const connection of connections) connection.drain();
        }),
      abort: gate.close,
      cut: () => {
        for (const connection of connections) connection.cut();
      },
    });
  };
  return {
    address,
    stop: () => {
      stopping ??= stop();
      return stopping;
    },
  };
}

function tokenRefusal(token: string): (path: string, metadata: Metadata) => string | undefined {
  const verify = tokenVerifier(token);
  return (path, metadata) =>
    path.startsWith(healthPath) || verify(bearerOf(metadata.get('authorization') ?? ''))
      ? undefined
      : 'authorization: Bearer is missing or wrong';
}

const noMetadata: CheckMetadata = new Map();

/** Only a network filter says where it stands by metadata; what else a client sends there is not looked at. */
const metadataOf = (metadata: Metadata): CheckMetadata =>
  metadata.has(`${ourPrefix}stage`) ? metadata : noMetadata;

const checkMethod =
  (gate: Gate): Method =>
  (call, message) => {
    void handle(gate, call, message);
  };

async function handle(gate: Gate, call: GrpcCall, message: Buffer): Promise<void> {
  const caller = new AbortController();
  call.onGone = () => caller.abort();
  const read = () => decodeCheckRequest(readCheckRequest(message), metadataOf(call.metadata));
  const result = await gate.answer(read, caller);
  if (call.isGone) gate.undelivered(result.decision);
  else call.answer(encoded(gate, result));
}

/** The answer on the wire; what cannot be encoded is a denial. */
function encoded(gate: Gate, { decoded, decision }: Answer): string {
  try {
    return checkResponseBytes(encodeCheckResponse(decoded, decision));
  } catch (thrown) {
    gate.undelivered(decision);
    return checkResponseBytes(encodeCheckResponse(undefined, gate.refuse(thrown)));
  }
}
