/** Tunnels that are passed unread, and which addresses may be reached at all. */
import { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { expect, test } from 'vitest';
import { closed, sendOn, tlsOn, tunnel, within } from '../../envoy/clients.ts';
import { askPlain, codeOf, seen } from '../ask.ts';
import type { Harness } from '../harness.ts';

/** What arrives until the text is whole. */
const readUntil = (socket: Socket, text: string): Promise<string> =>
  within(
    new Promise((resolve, reject) => {
      let got = '';
      const take = (chunk: Buffer): void => {
        got += chunk.toString();
        if (!got.includes(text)) return;
        socket.off('data', take);
        resolve(got);
      };
      socket.on('data', take);
      socket.once('close', () => reject(new Error(`closed after ${JSON.stringify(got)}`)));
      socket.resume();
    }),
    text,
  );

export function tunnelCases(harness: () => Harness): void {
  test('TLS passed by name reaches the destination itself: the client sees its certificate', async () => {
    const h = harness();
    const authority = `opaque.test:${h.ports.https}`;
    const { reply, socket } = await tunnel(h.port, authority);
    expect(reply.status).toBe(200);
    const secure = await tlsOn(socket, { servername: 'opaque.test', ca: h.upstreamAuthority.caPem });
    expect(new X509Certificate(secure.getPeerCertificate().raw).issuer).toContain('example upstream');
    expect((await sendOn(secure, `GET /hello?opaque HTTP/1.1\nHost: ${authority}`)).status).toBe(200);
    expect(seen(h, '/hello?opaque')).toBe(1);
    const stages = h.decisions.slice(-2).map(({ call }) => call.stage);
    expect(stages).toEqual(['connect', 'tunnel']);
  });

  test('TLS passed by name with another SNI is closed before the destination is reached', async () => {
    const h = harness();
    const { socket } = await tunnel(h.port, `opaque.test:${h.ports.https}`);
    await expect(tlsOn(socket, { servername: 'api.test', ca: h.upstreamAuthority.caPem })).rejects.toThrow();
    expect(h.decisions.at(-1)?.decision).toMatchObject({ kind: 'Deny', code: 'DestinationMismatch' });
  });

  test('bytes that are no TLS do not pass by name', async () => {
    const h = harness();
    const before = h.upstream.requests().length;
    const { socket } = await tunnel(h.port, `opaque.test:${h.ports.https}`);
    const end = closed(socket);
    socket.write('GET / HTTP/1.1\r\nHost: opaque.test\r\n\r\n');
    await within(end, 'the end of the tunnel');
    expect(h.upstream.requests().length).toBe(before);
  });

  test('a raw tunnel lets the server speak first', async () => {
    const h = harness();
    const { reply, socket } = await tunnel(h.port, `tunnel.test:${h.ports.raw}`);
    expect(reply.status).toBe(200);
    await readUntil(socket, '220 ready\r\n');
    socket.write('hello\r\n');
    await readUntil(socket, 'echo hello\r\n');
    socket.destroy();
  });

  test('a CONNECT that no rule allows is refused before anything is dialled', async () => {
    const h = harness();
    const connections = h.raw.connections();
    const { reply, socket } = await tunnel(h.port, `api.test:${h.ports.raw}`);
    socket.destroy();
    expect([reply.status, codeOf(reply)]).toEqual([403, 'EgressDenied']);
    expect(h.raw.connections()).toBe(connections);
  });

  test('an address is reached only where a rule names it', async () => {
    const h = harness();
    expect((await askPlain(h, '127.0.0.1', '/hello')).status).toBe(200);
    const path = await askPlain(h, '127.0.0.1', '/orders');
    expect([path.status, codeOf(path)]).toEqual([403, 'EgressDenied']);
    const other = await askPlain(h, '127.0.0.2', '/hello');
    expect([other.status, codeOf(other)]).toEqual([403, 'EgressDenied']);
  });

  test('a name that leads inside is refused unless its rule says internal', async () => {
    const h = harness();
    const plain = await askPlain(h, 'private.test', '/hello?private');
    expect([plain.status, codeOf(plain)]).toEqual([403, 'AddressDenied']);
    expect(seen(h, '/hello?private')).toBe(0);
  });

  test.each(['2130706433', '0x7f000001', '0177.0.0.1', '127.1', '127.0.1'])(
    'the spelling %s of an address is the address, whatever it looks like',
    async (host) => {
      const h = harness();
      const refused = await askPlain(h, host, '/orders');
      expect([refused.status, codeOf(refused)]).toEqual([403, 'EgressDenied']);
      expect(h.decisions.at(-1)?.decision.destination?.host).toBe('127.0.0.1');
      expect((await askPlain(h, host, '/hello')).status).toBe(200);
    },
  );

  test.each(['[::1]', '[::ffff:127.0.0.1]', '169.254.169.254', '0.0.0.0', 'localhost'])(
    'the inside address %s is not reached without a rule',
    async (host) => {
      const reply = await askPlain(harness(), host, '/hello');
      expect(reply.status).toBeGreaterThanOrEqual(400);
      expect(reply.status).toBeLessThan(500);
    },
  );
}
