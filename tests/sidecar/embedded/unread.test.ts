import { createHash } from 'node:crypto';
import { Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { startEmbeddedPlane } from '../../../sidecar/embedded/plane.ts';
import { createUnreadTunnels } from '../../../sidecar/embedded/unread.ts';
import { type Harness, type Ports, startHarness } from '../../data-plane/harness.ts';
import { closed, sendOn, tlsOn, tunnel, within } from '../../envoy/clients.ts';
import { compiled } from '../../ext-authz/check-world.ts';
import { silent } from '../../ext-authz/support.ts';
import { someCall } from '../../support/call.ts';
import { movingClock } from '../../support/moving-clock.ts';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

type Given = Readonly<{ password?: string; sni?: boolean; bytes?: 'allow' | 'forbid' | 'sni' }>;

const policy =
  ({ password = 'first', sni = true, bytes = 'allow' }: Given = {}) =>
  ({ https, raw }: Ports): string =>
    `version: 1
agents:
  clerk: { identity: spiffe://sallyport.test/clerk, credentials: ["sha256:${sha256(password)}"] }
rules:
  - { name: any, to: { hosts: [api.test], ports: [1], internal: true }, allow: {} }
${sni ? `  - { name: by-name, to: { hosts: [opaque.test], ports: [${https}], inspect: sni, internal: true }, allow: {} }` : ''}
  - { name: bytes, to: { hosts: [tunnel.test], ports: [${raw}], inspect: ${bytes === 'sni' ? 'sni' : 'tunnel'}, internal: true }, allow: {} }
${bytes === 'forbid' ? `  - { name: no-bytes, to: { hosts: [tunnel.test], ports: [${raw}] }, forbid: {} }` : ''}
`;

async function start(): Promise<Harness> {
  const h = await startHarness(startEmbeddedPlane, { policy: policy(), podAgent: '' });
  onTestFinished(() => h.close());
  return h;
}

const credential = `Proxy-Authorization: Basic ${Buffer.from('clerk:first').toString('base64')}`;

async function connect(h: Harness, host: string, port: number): Promise<Socket> {
  const { reply, socket } = await tunnel(h.port, `${host}:${port}`, credential);
  expect(reply.status).toBe(200);
  return socket;
}

/** One of each kind, joined with its destination. */
async function both(h: Harness) {
  const opaque = await connect(h, 'opaque.test', h.ports.https);
  const secure = await tlsOn(opaque, { servername: 'opaque.test', ca: h.upstreamAuthority.caPem });
  const bytes = await connect(h, 'tunnel.test', h.ports.raw);
  const echo = (word: string): Promise<unknown> => {
    const got = within(
      new Promise((resolve) => {
        bytes.on('data', (part: Buffer) => {
          if (part.toString().includes(`echo ${word}`)) resolve(undefined);
        });
      }),
      `an echo of ${word}`,
    );
    bytes.resume().write(`${word}\r\n`);
    return got;
  };
  await echo('first');
  return { secure, bytes, echo };
}

test('a policy that would open an unread tunnel again leaves it open', async () => {
  const h = await start();
  const { secure, bytes, echo } = await both(h);
  await h.apply(policy());
  await echo('second');
  const reply = await sendOn(secure, `GET /hello HTTP/1.1\nHost: opaque.test:${h.ports.https}`);
  expect(reply.status).toBe(200);
  bytes.destroy();
});

test.each<[string, Given]>([
  ['forbids it', { bytes: 'forbid' }],
  ['passes it by name alone', { bytes: 'sni' }],
])('a raw tunnel ends with a policy that %s, and others go on', async (_, given) => {
  const h = await start();
  const { secure, bytes } = await both(h);
  const end = within(closed(bytes), 'the end of the tunnel');
  await h.apply(policy(given));
  await end;
  const reply = await sendOn(secure, `GET /hello HTTP/1.1\nHost: opaque.test:${h.ports.https}`);
  expect(reply.status).toBe(200);
});

test('TLS passed by name ends with a policy that has no rule for it, and others go on', async () => {
  const h = await start();
  const { secure, bytes, echo } = await both(h);
  const end = within(closed(secure), 'the end of the tunnel');
  await h.apply(policy({ sni: false }));
  await end;
  await echo('second');
  bytes.destroy();
});

test('every unread tunnel of a credential ends when the policy withdraws it', async () => {
  const h = await start();
  const { secure, bytes } = await both(h);
  const ends = [secure, bytes].map((socket) => within(closed(socket), 'the end of the tunnel'));
  await h.apply(policy({ password: 'second' }));
  await Promise.all(ends);
});

test('tunnels whose agent cannot be looked up end, each of them', () => {
  const now = compiled(policy()({ https: 1, raw: 2 } as Ports));
  const clerk = now.agent('clerk');
  expect(clerk).toBeDefined();
  let broken = false;
  const tunnels = createUnreadTunnels({
    identify: () => {
      if (broken) throw new TypeError('the table of users broke');
      return clerk === undefined ? undefined : { ...clerk, by: 'credential' };
    },
    clock: movingClock(),
    policy: () => now,
    log: silent,
  });
  const open = [new Socket(), new Socket()];
  const connection = { tunnelAgent: 'clerk', tunnelAuthority: 'tunnel.test:2' };
  const call = someCall({ stage: 'tunnel', scheme: '', method: '', authority: '', path: '', connection });
  for (const socket of open) tunnels.opened(call, 'tunnel', socket);
  expect(open.map((socket) => socket.destroyed)).toEqual([false, false]);
  broken = true;
  tunnels.review();
  expect(open.map((socket) => socket.destroyed)).toEqual([true, true]);
});
