/** A tunnel outlives neither the credential nor the Unix user that it was opened with. */
import { createHash } from 'node:crypto';
import type { ClientHttp2Session } from 'node:http2';
import { expect, test } from 'vitest';
import { http2On, http2Request, tlsOn, tunnel } from '../../envoy/clients.ts';
import { codeOf, seen, trust } from '../ask.ts';
import { type Harness, type Ports, type StartPlane, startHarness } from '../harness.ts';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const basic = (password: string): string =>
  `Proxy-Authorization: Basic ${Buffer.from(`clerk:${password}`).toString('base64')}`;

const rules = ({ https }: Ports): string => `rules:
  - { name: read, agents: [clerk], to: { hosts: [api.test], ports: [${https}], internal: true }, allow: {} }
  - { name: unread, agents: [clerk], to: { hosts: [opaque.test], ports: [${https}], inspect: sni, internal: true }, allow: {} }
`;

const passwords =
  (...known: readonly string[]) =>
  (ports: Ports): string =>
    `version: 1
agents:
  clerk:
    identity: spiffe://sallyport.test/clerk
    credentials: [${known.map((password) => `"sha256:${sha256(password)}"`).join(', ')}]
${rules(ports)}`;

const uid = process.getuid?.() ?? 0;
const users =
  (owner: 'clerk' | 'robot') =>
  (ports: Ports): string =>
    `version: 1
agents:
  clerk: { identity: spiffe://sallyport.test/clerk, users: [${owner === 'clerk' ? uid : 54_321}] }
  robot: { identity: spiffe://sallyport.test/robot, users: [${owner === 'robot' ? uid : 54_321}] }
${rules(ports)}`;

const authorityOf = (h: Harness, host: string): string => `${host}:${h.ports.https}`;

/** A session to api.test whose requests are read, in a tunnel that these headers opened. */
async function sessionWith(h: Harness, headers: string): Promise<ClientHttp2Session> {
  const { reply, socket } = await tunnel(h.port, authorityOf(h, 'api.test'), headers);
  expect(reply.status).toBe(200);
  const secure = await tlsOn(socket, { ...trust(h, 'api.test'), ALPNProtocols: ['h2'] });
  return http2On(secure, authorityOf(h, 'api.test'));
}

/** 200, or the status and the catalogue's code. */
async function ask(session: ClientHttp2Session, path: string): Promise<unknown> {
  const reply = await http2Request(session, { ':path': path });
  return reply.status === 200 ? 200 : [reply.status, codeOf(reply)];
}

export function revokedCases(start: StartPlane): void {
  test('a tunnel that a withdrawn credential opened carries nothing more, and others of its agent go on', async () => {
    const h = await startHarness(start, { policy: passwords('stolen', 'kept'), podAgent: '' });
    try {
      const stolen = await sessionWith(h, basic('stolen'));
      const kept = await sessionWith(h, basic('kept'));
      expect(await ask(stolen, '/hello?before')).toBe(200);
      expect(await ask(kept, '/hello?before')).toBe(200);

      await h.apply(passwords('kept', 'new'));
      const again = await tunnel(h.port, authorityOf(h, 'api.test'), basic('stolen'));
      again.socket.destroy();
      expect([again.reply.status, codeOf(again.reply)]).toEqual([401, 'InvalidAgent']);
      expect(await ask(stolen, '/hello?after')).toEqual([401, 'InvalidAgent']);
      expect(await ask(kept, '/hello?kept')).toBe(200);
      expect([seen(h, '/hello?after'), seen(h, '/hello?kept')]).toEqual([0, 1]);
      for (const session of [stolen, kept]) session.destroy();
    } finally {
      await h.close();
    }
  });

  test('TLS passed by name is refused where the credential of its CONNECT was withdrawn before', async () => {
    const h = await startHarness(start, { policy: passwords('stolen'), podAgent: '' });
    try {
      const { reply, socket } = await tunnel(h.port, authorityOf(h, 'opaque.test'), basic('stolen'));
      expect(reply.status).toBe(200);
      await h.apply(passwords('new'));
      const shake = tlsOn(socket, { servername: 'opaque.test', ca: h.upstreamAuthority.caPem });
      await expect(shake).rejects.toThrow();
      expect(h.decisions.at(-1)?.decision).toMatchObject({ kind: 'Deny', code: 'InvalidAgent' });
    } finally {
      await h.close();
    }
  });

  test('a tunnel of a Unix user who is another agent now carries nothing more', async () => {
    const h = await startHarness(start, { policy: users('clerk'), podAgent: '' });
    try {
      const session = await sessionWith(h, '');
      expect(await ask(session, '/hello?before')).toBe(200);
      await h.apply(users('robot'));
      expect(await ask(session, '/hello?after')).toEqual([401, 'InvalidAgent']);
      expect(seen(h, '/hello?after')).toBe(0);
      session.destroy();
    } finally {
      await h.close();
    }
  });
}
