/** ext_authz over gRPC: envoy.service.auth.v3.Authorization and grpc.health.v1. */
import {
  logVerbosity,
  type Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
  setLogVerbosity,
  status,
} from '@grpc/grpc-js';
import { limits } from '../config/limits.ts';
import { type CheckMetadata, decodeCheckRequest } from './decode.ts';
import { type CheckResponse, encodeCheckResponse } from './encode.ts';
import { type Answer, createGate, type Gate, type GateOptions } from './gate.ts';
import { ourPrefix } from './headers.ts';
import { createHealth, healthService } from './health.ts';
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
import { authorizationService } from './protos.ts';

export type GrpcOptions = GateOptions & Readonly<{ listen: Listen; stopTimeoutMs?: number }>;

/** Rejects with SettingsInvalid where it may not listen there, else with the system's error. */
export async function serveGrpc(options: GrpcOptions): Promise<RunningServer> {
  const { listen } = options;
  if ('token' in listen) assertTcp(listen);
  const verify = 'token' in listen ? tokenVerifier(listen.token) : undefined;
  const gate = createGate(options);
  const health = createHealth();
  // What goes wrong comes back as an error; grpc-js would also print it, past our log.
  if (process.env['GRPC_VERBOSITY'] === undefined) setLogVerbosity(logVerbosity.NONE);
  const server = new Server({
    'grpc.max_receive_message_length': limits.checkRequestBytesMax,
    // A few more than are decided, so that the one too many is told so and does not wait in Envoy.
    'grpc.max_concurrent_streams': limits.checksConcurrentMax + limits.healthWatchersMax,
    'grpc-node.max_session_memory': limits.checkSessionMiBMax,
  });
  server.addService(authorizationService(), {
    Check: (call: ServerUnaryCall<unknown, CheckResponse>, answer: sendUnaryData<CheckResponse>): void => {
      if (verify !== undefined && !verify(bearerOf(textOf(call.metadata, 'authorization')))) {
        answer({ code: status.UNAUTHENTICATED, details: 'authorization: Bearer is missing or wrong' });
        return;
      }
      void handle(gate, call, answer);
    },
  });
  server.addService(healthService(), health.handlers);

  const bind = (target: string): Promise<number> =>
    new Promise((resolve, reject) => {
      server.bindAsync(target, ServerCredentials.createInsecure(), (error, port) => {
        if (error === null) resolve(port);
        else reject(error);
      });
    });

  let address: string;
  try {
    if ('socketPath' in listen) {
      await bindSocket(listen, async (path) => void (await bind(`unix:${path}`)));
      address = `unix:${listen.socketPath}`;
    } else {
      const host = listen.host.includes(':') ? `[${listen.host}]` : listen.host;
      address = `${host}:${await bind(`${host}:${listen.port}`)}`;
    }
  } catch (thrown) {
    server.forceShutdown();
    throw thrown;
  }

  let stopping: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    health.stop();
    await removeSocket(listen);
    await stopWithin(options.stopTimeoutMs ?? limits.stopTimeoutMs, {
      close: () => new Promise((resolve) => server.tryShutdown(() => resolve())),
      abort: gate.close,
      cut: () => server.forceShutdown(),
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

const textOf = (metadata: Metadata, name: string): string => {
  const value = metadata.get(name)[0];
  return typeof value === 'string' ? value : '';
};

const noMetadata: CheckMetadata = new Map();

function metadataOf(metadata: Metadata): CheckMetadata {
  if (metadata.get(`${ourPrefix}stage`).length === 0) return noMetadata;
  return new Map(Object.keys(metadata.getMap()).map((name) => [name, textOf(metadata, name)]));
}

async function handle(
  gate: Gate,
  call: ServerUnaryCall<unknown, CheckResponse>,
  answer: sendUnaryData<CheckResponse>,
): Promise<void> {
  const caller = new AbortController();
  let gone = call.cancelled;
  let answered = false;
  call.on('cancelled', () => {
    // grpc-js says so after every call; only before the answer does it mean that the caller left.
    if (answered) return;
    gone = true;
    caller.abort();
  });
  const result = await gate.answer(() => decodeCheckRequest(call.request, metadataOf(call.metadata)), caller);
  answered = true;
  if (gone || call.cancelled) {
    gate.undelivered(result.decision);
    return;
  }
  answer(null, encoded(gate, result));
}

/** The answer on the wire; what cannot be encoded is a denial. */
function encoded(gate: Gate, { decoded, decision }: Answer): CheckResponse {
  try {
    return encodeCheckResponse(decoded, decision);
  } catch (thrown) {
    gate.undelivered(decision);
    return encodeCheckResponse(undefined, gate.refuse(thrown));
  }
}
