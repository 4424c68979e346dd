/** Connections at Envoy: bounded in all, and of two ports neither takes them all. */
import { rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createClock } from '../../filters/common/time.ts';
import { authorityIn } from '../support/keys.ts';
import { clientCertificate } from './client-certificate.ts';
import { closed, open, sendOn, tlsOn, until, within } from './clients.ts';
import { deny, openDir, portOf, startWorld } from './world.ts';

test('a flood of one port leaves a share of the connections to the other', async () => {
  const dir = openDir();
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const clients = await authorityIn(join(dir, 'clients'), createClock());
  const trust = join(dir, 'trust.pem');
  writeFileSync(trust, clients.caPem);
  const world = await startWorld({
    decide: () => deny('Forbidden'),
    dir,
    settings: { proxy: { tls_port: 0, connections_max: 8 }, identity: { trust_bundle_file: trust } },
  });
  onTestFinished(() => world.stop());
  const kept: Socket[] = [];
  onTestFinished(() => {
    for (const socket of kept) socket.destroy();
  });
  // Six of eight are the most of one port.
  for (let count = 0; count < 6; count += 1) kept.push(await open(world.port));
  await within(closed(await open(world.port)), 'the end of one too many');
  expect(kept.map(({ destroyed }) => destroyed)).toEqual(Array(6).fill(false));

  const agent = await clientCertificate(join(dir, 'clients'), 'spiffe://test/agent');
  const secure = await tlsOn(await open(portOf(world.plane.proxyTlsUrl ?? '')), {
    ca: world.caPem,
    servername: 'localhost',
    checkServerIdentity: () => undefined,
    ...agent,
  });
  expect((await sendOn(secure, 'GET http://api.test/ HTTP/1.1\nHost: api.test')).status).toBe(403);
  kept.pop()?.destroy();
  await until(async () => {
    const socket = await open(world.port);
    const reply = await sendOn(socket, 'GET http://api.test/ HTTP/1.1\nHost: api.test');
    return reply.status === 403;
  }, 'room at the first port');
});
