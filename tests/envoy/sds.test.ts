import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ClientDuplexStream, credentials, makeGenericClientConstructor } from '@grpc/grpc-js';
import fc from 'fast-check';
import pino from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import type { Minted } from '../../envoy/data-plane.ts';
import { type DeltaResponse, secretProtos, secretType } from '../../envoy/protos.ts';
import { hostOfServerName, type SecretServer, serveSecrets } from '../../envoy/sds.ts';
import { createClock } from '../../filters/common/time.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { until } from './clients.ts';

let dir: string;
let server: SecretServer;
let now: number;
let inspectable: (host: string) => boolean;
let minted: string[];
let fails = false;
let epoch = 1;
const ends: (() => void)[] = [];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'sds-'));
  now = Date.parse('2030-01-01');
  inspectable = (host) => host.endsWith('.test');
  minted = [];
  fails = false;
  server = await serveSecrets({
    socketPath: join(dir, 's.sock'),
    authority: {
      caPem: '',
      epoch: () => epoch,
      size: () => 0,
      mint: (host): Promise<Minted> => {
        minted.push(host);
        if (fails) return Promise.reject(new Error('no entropy'));
        return Promise.resolve({
          certificatePem: `cert of ${host}`,
          privateKeyPem: 'key',
          notAfterMs: now + limits.certificateLifetimeMs,
        });
      },
    },
    clock: createClock(() => now),
    log: pino({ level: 'silent' }),
    inspectable: (host) => inspectable(host),
  });
});
afterEach(async () => {
  for (const end of ends.splice(0)) end();
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

type Stream = Readonly<{
  stream: ClientDuplexStream<object, DeltaResponse>;
  got: DeltaResponse[];
  ask(...names: string[]): void;
  given(): string[];
  removed(): string[];
}>;

function connect(): Stream {
  const Client = makeGenericClientConstructor(secretProtos().service, 'sds');
  const client = new Client(`unix:${join(dir, 's.sock')}`, credentials.createInsecure());
  const method = secretProtos().service['DeltaSecrets'];
  if (method === undefined) throw new Error('no DeltaSecrets');
  const stream = client.makeBidiStreamRequest<object, DeltaResponse>(
    method.path,
    (request) => method.requestSerialize(request),
    (bytes) => method.responseDeserialize(bytes),
  );
  const got: DeltaResponse[] = [];
  stream.on('data', (response: DeltaResponse) => got.push(response));
  stream.on('error', () => undefined);
  ends.push(() => {
    stream.cancel();
    client.close();
  });
  return {
    stream,
    got,
    ask: (...names) => stream.write({ type_url: secretType, resource_names_subscribe: names }),
    given: () => got.flatMap((response) => response.resources.map((resource) => resource.name)),
    removed: () => got.flatMap((response) => [...response.removed_resources]),
  };
}

test('a name that policy inspects gets a certificate under the name as it was asked', async () => {
  const envoy = connect();
  envoy.ask('API.test');
  await until(() => envoy.given().length === 1, 'a certificate');
  expect(envoy.given()).toEqual(['API.test']);
  expect(minted).toEqual(['api.test']);
  expect(Buffer.from(envoy.got[0]?.resources[0]?.resource.value ?? []).toString('latin1')).toContain(
    'cert of api.test',
  );
});

test('any other name is refused, and leaves nothing behind', async () => {
  const envoy = connect();
  const names = [
    'example.com',
    '',
    'a b.test',
    '../x.test',
    'a..test',
    `${'a'.repeat(300)}.test`,
    'no-sni.invalid',
  ];
  envoy.ask(...names);
  await until(() => envoy.removed().length === names.length, 'the refusals');
  expect(envoy.given()).toEqual([]);
  expect(minted).toEqual([]);
  expect(server.size()).toBe(0);
});

test('past the limit the oldest certificate is withdrawn', async () => {
  const envoy = connect();
  const names = Array.from({ length: limits.certificateCacheMax + 2 }, (_, i) => `h${i}.test`);
  envoy.ask(...names);
  await until(() => envoy.given().length === names.length && envoy.removed().length === 2, 'all answers');
  expect(envoy.removed()).toEqual(['h0.test', 'h1.test']);
  expect(server.size()).toBe(limits.certificateCacheMax);
});

test('a change of policy withdraws what it no longer inspects, and nothing else', async () => {
  const envoy = connect();
  envoy.ask('a.test', 'b.test');
  await until(() => envoy.given().length === 2, 'the certificates');
  inspectable = (host) => host === 'a.test';
  server.recheck();
  await until(() => envoy.removed().length === 1, 'the withdrawal');
  expect(envoy.removed()).toEqual(['b.test']);
  expect(server.size()).toBe(1);
});

test('a certificate that ends soon is sent anew', async () => {
  const envoy = connect();
  envoy.ask('a.test');
  await until(() => envoy.given().length === 1, 'the certificate');
  await server.renew();
  expect(minted).toEqual(['a.test']);
  now += limits.certificateLifetimeMs - limits.certificateRenewBeforeMs;
  await server.renew();
  await until(() => envoy.given().length === 2, 'the new certificate');
  expect(envoy.got[1]?.resources[0]?.version).not.toBe(envoy.got[0]?.resources[0]?.version);
});

test('a certificate that another authority signed is sent anew', async () => {
  const envoy = connect();
  envoy.ask('a.test');
  await until(() => envoy.given().length === 1, 'the certificate');
  epoch += 1;
  await server.renew();
  await until(() => envoy.given().length === 2, 'the new certificate');
  expect(envoy.got[1]?.resources[0]?.version).not.toBe(envoy.got[0]?.resources[0]?.version);
  await server.renew();
  expect(minted).toEqual(['a.test', 'a.test']);
});

test('where no certificate can be made the name is refused', async () => {
  fails = true;
  const envoy = connect();
  envoy.ask('a.test');
  await until(() => envoy.removed().length === 1, 'the refusal');
});

test('a stream that ends forgets its names', async () => {
  const envoy = connect();
  envoy.ask('a.test');
  await until(() => server.size() === 1, 'the certificate');
  envoy.stream.cancel();
  await until(() => server.size() === 0, 'the end of the stream');
});

test('a server name is a canonical host or nothing, whatever it holds', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.domain(), fc.ipV6(), fc.ipV4()), (name) => {
      const host = hostOfServerName(name);
      if (host === undefined) return;
      expect(host).toMatch(/^[a-z0-9_.:-]{1,253}$/);
      expect(hostOfServerName(host)).toBe(host);
    }),
    fuzzRuns,
  );
});
