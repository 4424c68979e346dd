/** The witness as its neighbours and strangers meet it on its port. */
import { rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { createExampleAuthority, type ExampleAuthority } from '../../examples/upstream/certificates.ts';
import { originHash } from '../../filters/audit/witness.ts';
import { movingClock } from '../support/moving-clock.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { ask, endAll, grow, instance, serve } from '../support/witness-world.ts';

afterEach(endAll);

type Answer = Readonly<{ status: number; body: string; headers: Record<string, unknown> }>;
const raw = (url: string, options: RequestOptions, body: string | Buffer = ''): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const send = url.startsWith('https') ? httpsRequest : httpRequest;
    const call = send(url, { agent: false, ...options }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: text, headers: response.headers }),
      );
    });
    call.on('error', reject);
    call.end(body);
  });

test('requests that are none of its protocol are refused, and too large ones before they are read', async () => {
  const home = temporaryDirectory();
  const a = await instance('a', join(home, 'a'));
  const b = await instance('b', join(home, 'b'));
  const { url } = await serve(b, [a]);
  const status = async (path: string, options: RequestOptions, body?: string): Promise<number> =>
    (await raw(`${url}${path}`, options, body)).status;
  expect(await status('/', {})).toBe(404);
  expect(await status('/add-checkpoint', {})).toBe(405);
  expect(await status(`/${'0'.repeat(64)}/checkpoint`, { method: 'POST' })).toBe(405);
  expect(await status(`/${'0'.repeat(64)}/checkpoint`, {})).toBe(404);
  expect(await status('/add-checkpoint', { method: 'POST' }, 'old\n\n')).toBe(400);
  const large = 'x'.repeat(limits.witnessRequestBytesMax + 1);
  expect(await status('/add-checkpoint', { method: 'POST' }, large)).toBe(413);
  const chunked = { method: 'POST', headers: { 'transfer-encoding': 'chunked' } };
  expect(await status('/add-checkpoint', chunked, large)).toBe(413);
  expect(await status(`/${'x'.repeat(20_000)}`, {})).toBe(431);
});

test('more requests of one source in a second are refused with 429, and its neighbours go on', async () => {
  const home = temporaryDirectory();
  const a = await instance('a', join(home, 'a'));
  const b = await instance('b', join(home, 'b'));
  const clock = movingClock();
  const { url } = await serve(b, [a], {}, clock);
  const post = (localAddress = '127.0.0.1'): Promise<Answer> =>
    raw(`${url}/add-checkpoint`, { method: 'POST', localAddress }, 'old\n\n');
  for (let i = 0; i < limits.witnessSourceRequestsPerSecondMax; i += 1)
    expect((await post()).status).toBe(400);
  for (let i = 0; i < limits.witnessRequestsPerSecondMax; i += 1)
    expect(await post()).toMatchObject({ status: 429, headers: { 'retry-after': '1' } });
  expect((await post('127.0.0.2')).status).toBe(400);
  clock.pass(1_000);
  expect((await post()).status).toBe(400);
});

test('more requests of all sources in a second than the limit are refused with 429', async () => {
  const home = temporaryDirectory();
  const a = await instance('a', join(home, 'a'));
  const b = await instance('b', join(home, 'b'));
  const { url } = await serve(b, [a], {}, movingClock());
  const each = limits.witnessSourceRequestsPerSecondMax;
  const statuses: number[] = [];
  for (let i = 0; i <= limits.witnessRequestsPerSecondMax; i += 1) {
    const localAddress = `127.0.0.${1 + Math.floor(i / each)}`;
    statuses.push((await raw(`${url}/add-checkpoint`, { method: 'POST', localAddress }, 'old\n\n')).status);
  }
  expect(statuses.indexOf(429)).toBe(limits.witnessRequestsPerSecondMax);
});

test('a token, where one is wanted, is wanted of everything', async () => {
  const home = temporaryDirectory();
  const a = await instance('a', join(home, 'a'));
  const b = await instance('b', join(home, 'b'));
  const token = join(home, 'token');
  writeFileSync(token, 'a-token-of-more-than-sixteen-letters\n', { mode: 0o600 });
  const { url } = await serve(b, [a], { token_file: token });
  await grow(a, 2);
  const without = ask(a, b, url);
  await without.client.round();
  expect(without.client.states()).toMatchObject([
    { result: 'refused', detail: 'status 401: this witness wants a token' },
  ]);
  const withIt = ask(a, b, url, { token_file: token });
  await withIt.client.round();
  expect(withIt.said).toEqual(['cosigned']);
  expect((await fetch(`${url}/${originHash(a.origin)}/checkpoint`)).status).toBe(401);
  writeFileSync(token, 'short');
  expect(() => ask(a, b, url, { token_file: token })).toThrow('16 to 512 letters');
});

test('with client authorities only a certificate of theirs gets in', async () => {
  const home = temporaryDirectory();
  const a = await instance('a', join(home, 'a'));
  const b = await instance('b', join(home, 'b'));
  const file = (name: string, text: string): string => {
    const path = join(home, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const [authority, neighbours] = [await createExampleAuthority(), await createExampleAuthority()];
  const ca = file('ca.pem', authority.caPem);
  const pair = async (from: ExampleAuthority, name: string) => {
    const { certificatePem, privateKeyPem } = await from.issue([name]);
    return { cert_file: file(`${name}.pem`, certificatePem), key_file: file(`${name}.key`, privateKeyPem) };
  };
  const client = await pair(neighbours, 'neighbour');
  const { url } = await serve(b, [a], {
    ...(await pair(authority, 'localhost')),
    client_ca_file: file('neighbours.pem', neighbours.caPem),
  });
  const at = url.replace('127.0.0.1', 'localhost');
  await grow(a, 2);
  const results: unknown[] = [];
  for (const files of [
    { ca_file: ca, ...client },
    { ca_file: ca },
    { ca_file: ca, ...(await pair(authority, 'stranger')) },
    client,
  ]) {
    const asking = ask(a, b, at, files);
    await asking.client.round();
    results.push(asking.client.states()[0]?.result);
  }
  expect(results).toEqual(['cosigned', 'unreachable', 'unreachable', 'unreachable']);
});

test('a witness that cannot write what it cosigned does not cosign', async () => {
  const home = temporaryDirectory();
  const a = await instance('a', join(home, 'a'));
  const b = await instance('b', join(home, 'b'));
  const { url } = await serve(b, [a]);
  await grow(a, 2);
  rmSync(join(b.stateDir, 'witness'), { recursive: true });
  writeFileSync(join(b.stateDir, 'witness'), 'in the way');
  const asking = ask(a, b, url);
  await asking.client.round();
  expect(asking.client.states()).toMatchObject([
    { result: 'refused', detail: 'status 503: this witness cannot cosign now' },
  ]);
});

test('settings that name a wrong key or another name are refused at the start', async () => {
  const home = temporaryDirectory();
  const a = await instance('a', join(home, 'a'));
  const b = await instance('b', join(home, 'b'));
  await serve(b, [a]);
  await expect(serve(b, [a], { name: 'other.test' })).rejects.toThrow('a witness keeps its name');
  const [vkey = ''] = a.vkeys;
  const broken = vkey.replace(/\+[0-9a-f]{8}\+/, '+00000000+');
  await expect(serve(b, [{ ...a, vkeys: [broken] }])).rejects.toThrow('witness.logs[0].vkeys[0]');
  await expect(serve(b, [a], { cert_file: '/nowhere', key_file: '/nowhere' })).rejects.toThrow(
    'witness.cert_file: /nowhere cannot be read',
  );
});
