/** grpc.health.v1 (github.com/grpc/grpc, doc/health-checking.md). It tells up or down and nothing else, so it asks no token. */
import { limits } from '../config/limits.ts';
import { type GrpcCall, grpcStatus, type Method } from './h2-grpc.ts';
import { numberField, Reader } from './h2-protobuf.ts';

export const healthPath = '/grpc.health.v1.Health/';

/** grpc.health.v1.HealthCheckResponse.ServingStatus. */
const serving = { SERVING: 1, NOT_SERVING: 2, SERVICE_UNKNOWN: 3 } as const;
type Serving = keyof typeof serving;

const known: ReadonlySet<string> = new Set(['', 'envoy.service.auth.v3.Authorization']);

export type Health = Readonly<{
  methods: ReadonlyMap<string, Method>;
  /** Says NOT_SERVING from now on, to watchers at once, and ends their streams. */
  stop(): void;
}>;

/** HealthCheckRequest.service. */
function serviceIn(message: Buffer): string {
  const reader = new Reader(message.toString('latin1'));
  let service = '';
  while (reader.next()) {
    if (reader.field === 1) service = reader.string();
    else reader.skip();
  }
  return service;
}

const told = (status: Serving): string => numberField(1, serving[status]);

export function createHealth(): Health {
  let current: Serving = 'SERVING';
  const watchers = new Map<GrpcCall, string>();
  const reading =
    (method: (call: GrpcCall, service: string) => void): Method =>
    (call, message) => {
      let service: string;
      try {
        service = serviceIn(message);
      } catch {
        // Nothing was asked, so nothing is told.
        call.fail(grpcStatus.internal, 'the message could not be read');
        return;
      }
      method(call, service);
    };
  const check = reading((call, service) => {
    if (known.has(service)) call.answer(told(current));
    else call.fail(grpcStatus.notFound, 'unknown service');
  });
  const watch = reading((call, service) => {
    if (watchers.size >= limits.healthWatchersMax) {
      call.fail(grpcStatus.resourceExhausted, `the limit is ${limits.healthWatchersMax} watchers`);
      return;
    }
    // An unknown service is watched too: it might be known later (health-checking.md, "Watch").
    call.write(told(known.has(service) ? current : 'SERVICE_UNKNOWN'));
    watchers.set(call, service);
    call.onGone = () => watchers.delete(call);
  });
  return {
    methods: new Map([
      [`${healthPath}Check`, check],
      [`${healthPath}Watch`, watch],
    ]),
    stop: () => {
      current = 'NOT_SERVING';
      for (const [watcher, service] of watchers) {
        if (known.has(service)) watcher.write(told(current));
        watcher.end();
      }
      watchers.clear();
    },
  };
}
