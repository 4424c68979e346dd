/** The discovery service's messages, from the protos that @grpc/grpc-js-xds ships. Loaded once, no generated code. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { ServiceDefinition } from '@grpc/grpc-js';
import { type AnyDefinition, loadSync, type MessageTypeDefinition } from '@grpc/proto-loader';
import { SallyportError } from '../config/errors.ts';

/** What Envoy sends on a delta stream; fields of the proto that are read here. */
export type DeltaRequest = Readonly<{
  type_url: string;
  resource_names_subscribe: readonly string[];
  resource_names_unsubscribe: readonly string[];
  response_nonce: string;
  error_detail: Readonly<{ code: number; message: string }> | null;
}>;

export type DeltaResponse = Readonly<{
  system_version_info: string;
  type_url: string;
  nonce: string;
  resources: readonly Readonly<{
    name: string;
    version: string;
    resource: Readonly<{ type_url: string; value: Uint8Array }>;
  }>[];
  removed_resources: readonly string[];
}>;

export const secretType = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';

export type SecretProtos = Readonly<{
  service: ServiceDefinition;
  /** A TLS certificate as the bytes of a Secret. */
  tlsSecret(name: string, certificatePem: string, privateKeyPem: string): Uint8Array;
}>;

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

let loaded: SecretProtos | undefined;

export function secretProtos(): SecretProtos {
  loaded ??= load();
  return loaded;
}

function load(): SecretProtos {
  const definition = loadSync(
    ['envoy/service/secret/v3/sds.proto', 'envoy/extensions/transport_sockets/tls/v3/secret.proto'],
    {
      includeDirs: protoRoots(),
      keepCase: true,
      longs: Number,
      enums: String,
      defaults: true,
      oneofs: true,
    },
  );
  const service = definition['envoy.service.secret.v3.SecretDiscoveryService'];
  const secret = definition['envoy.extensions.transport_sockets.tls.v3.Secret'];
  if (service === undefined || 'format' in service || secret === undefined || !isMessage(secret))
    throw new SallyportError(
      'Internal',
      'The secret discovery protos of @grpc/grpc-js-xds could not be loaded',
    );
  const { serialize } = secret;
  return {
    service: service as ServiceDefinition,
    tlsSecret: (name, certificatePem, privateKeyPem) =>
      serialize({
        name,
        tls_certificate: {
          certificate_chain: { inline_string: certificatePem },
          private_key: { inline_string: privateKeyPem },
        },
      }),
  };
}

const isMessage = (definition: AnyDefinition): definition is MessageTypeDefinition<object, object> =>
  'format' in definition && 'serialize' in definition;
