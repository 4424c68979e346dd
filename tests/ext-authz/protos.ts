/** The services as another implementation reads their protos: @grpc/grpc-js and protobufjs. */
import type { ServiceDefinition } from '@grpc/grpc-js';
import { type AnyDefinition, fromJSON, loadSync, type PackageDefinition } from '@grpc/proto-loader';
import { protoRoots } from '../../envoy/protos.ts';

const isService = (definition: AnyDefinition): definition is Extract<AnyDefinition, ServiceDefinition> =>
  !('format' in definition);

function serviceOf(definition: PackageDefinition, name: string): ServiceDefinition {
  const found = definition[name];
  if (found === undefined || !isService(found)) throw new Error(`the protos hold no service ${name}`);
  return found;
}

let authorization: ServiceDefinition | undefined;

export function authorizationService(): ServiceDefinition {
  authorization ??= serviceOf(
    loadSync('envoy/service/auth/v3/external_auth.proto', {
      includeDirs: protoRoots(),
      keepCase: true,
      longs: Number,
      enums: String,
    }),
    'envoy.service.auth.v3.Authorization',
  );
  return authorization;
}

/** A CheckRequest as bytes. */
export function checkBytes(message: unknown): Buffer {
  const method = authorizationService()['Check'];
  if (method === undefined) throw new Error('no Check');
  return method.requestSerialize(message);
}

const request = { requestType: 'HealthCheckRequest', responseType: 'HealthCheckResponse', comment: '' };
const statuses = { UNKNOWN: 0, SERVING: 1, NOT_SERVING: 2, SERVICE_UNKNOWN: 3 };
const v1 = {
  HealthCheckRequest: { fields: { service: { type: 'string', id: 1 } } },
  HealthCheckResponse: {
    fields: { status: { type: 'ServingStatus', id: 1 } },
    nested: { ServingStatus: { values: statuses } },
  },
  Health: { methods: { Check: request, Watch: { ...request, responseStream: true } } },
};

export const healthService = (): ServiceDefinition =>
  serviceOf(
    fromJSON(
      { nested: { grpc: { nested: { health: { nested: { v1: { nested: v1 } } } } } } },
      { enums: String, defaults: true },
    ),
    'grpc.health.v1.Health',
  );
