/** The wire types of Envoy's external authorization, from the protos that @grpc/grpc-js-xds ships. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { ServiceDefinition } from '@grpc/grpc-js';
import { type AnyDefinition, loadSync, type PackageDefinition } from '@grpc/proto-loader';

/** Where `deps/` of @grpc/grpc-js-xds is; the package's code itself is never loaded. */
export function protoRoots(): string[] {
  let dir = dirname(createRequire(import.meta.url).resolve('@grpc/grpc-js-xds'));
  while (!existsSync(join(dir, 'deps', 'envoy-api'))) {
    const parent = dirname(dir);
    if (parent === dir) throw new Error('@grpc/grpc-js-xds is installed without its deps/ folder of protos');
    dir = parent;
  }
  return ['envoy-api', 'xds', 'googleapis', 'protoc-gen-validate'].map((part) => join(dir, 'deps', part));
}

const isService = (definition: AnyDefinition): definition is Extract<AnyDefinition, ServiceDefinition> =>
  !('format' in definition);

/** The named service of a loaded package. */
export function serviceOf(definition: PackageDefinition, name: string): ServiceDefinition {
  const found = definition[name];
  if (found === undefined || !isService(found)) throw new Error(`the protos hold no service ${name}`);
  return found;
}

let authorization: ServiceDefinition | undefined;

/**
 * `envoy.service.auth.v3.Authorization`, loaded on first use. Field names stay as in the proto, except
 * inside `google.protobuf.*`: protobufjs has its own copies of those, in camel case (`stringValue`).
 * Absent fields are left out, which spares a third of the time of decoding.
 */
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
