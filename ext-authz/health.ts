/** grpc.health.v1 (github.com/grpc/grpc, doc/health-checking.md). It tells up or down and nothing else, so it asks no token. */
import {
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js';
import { fromJSON } from '@grpc/proto-loader';
import { limits } from '../config/limits.ts';
import { serviceOf } from './protos.ts';

type Serving = 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';
type HealthRequest = Readonly<{ service: string }>;
type HealthResponse = Readonly<{ status: Serving }>;

/** The proto, in protobufjs's own notation, so that no file has to be shipped and found. */
const proto = {
  nested: {
    grpc: {
      nested: {
        health: {
          nested: {
            v1: {
              nested: {
                HealthCheckRequest: { fields: { service: { type: 'string', id: 1 } } },
                HealthCheckResponse: {
                  fields: { status: { type: 'ServingStatus', id: 1 } },
                  nested: {
                    ServingStatus: { values: { UNKNOWN: 0, SERVING: 1, NOT_SERVING: 2, SERVICE_UNKNOWN: 3 } },
                  },
                },
                Health: {
                  methods: {
                    Check: {
                      requestType: 'HealthCheckRequest',
                      responseType: 'HealthCheckResponse',
                      comment: '',
                    },
                    Watch: {
                      requestType: 'HealthCheckRequest',
                      responseType: 'HealthCheckResponse',
                      responseStream: true,
                      comment: '',
                    },
                  },
                },
              },
            },
          },
        },
      },
    },
  },
};

let service: ServiceDefinition | undefined;
export function healthService(): ServiceDefinition {
  service ??= serviceOf(fromJSON(proto, { enums: String, defaults: true }), 'grpc.health.v1.Health');
  return service;
}

const known: ReadonlySet<string> = new Set(['', 'envoy.service.auth.v3.Authorization']);

type Watcher = ServerWritableStream<HealthRequest, HealthResponse>;

export type Health = Readonly<{
  handlers: {
    Check(call: ServerUnaryCall<HealthRequest, HealthResponse>, answer: sendUnaryData<HealthResponse>): void;
    Watch(call: Watcher): void;
  };
  /** Says NOT_SERVING from now on, to watchers at once, and ends their streams. */
  stop(): void;
}>;

export function createHealth(): Health {
  let current: Serving = 'SERVING';
  const watchers = new Set<Watcher>();
  return {
    handlers: {
      Check: (call, answer) => {
        if (!known.has(call.request.service)) answer({ code: status.NOT_FOUND, details: 'unknown service' });
        else answer(null, { status: current });
      },
      Watch: (call) => {
        if (watchers.size >= limits.healthWatchersMax) {
          call.emit('error', {
            code: status.RESOURCE_EXHAUSTED,
            details: `the limit is ${limits.healthWatchersMax} watchers`,
          });
          return;
        }
        // An unknown service is watched too: it might be known later (health-checking.md, "Watch").
        call.write({ status: known.has(call.request.service) ? current : 'SERVICE_UNKNOWN' });
        watchers.add(call);
        call.on('cancelled', () => watchers.delete(call));
      },
    },
    stop: () => {
      current = 'NOT_SERVING';
      for (const watcher of watchers) {
        if (known.has(watcher.request.service)) watcher.write({ status: current });
        watcher.end();
      }
      watchers.clear();
    },
  };
}
