/** Lockdown: everything is refused in words, and what is under way ends, whatever it is. */
import type { Duplex } from 'node:stream';
import { expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { closed, open, secureTunnel, tlsOn, tunnel, until, within } from '../../envoy/clients.ts';
import { askPlain, codeOf, trust } from '../ask.ts';
import { type Harness, type StartPlane, startHarness } from '../harness.ts';
import { sharedPolicy } from '../policies.ts';

const stream = (h: Harness): string =>
  `GET http://api.test:${h.ports.http}/stream?ticks=1000&ms=50 HTTP/1.1\r\nHost: api.test:${h.ports.http}\r\n\r\n`;
const insideStream = (h: Harness, host: string): string =>
  `GET /stream?ticks=1000&ms=50 HTTP/1.1\r\nHost: ${host}:${h.ports.https}\r\n\r\n`;
const handshake = (h: Harness): string =>
  [
    `GET http://api.test:${h.ports.http}/ws HTTP/1.1`,
    `Host: api.test:${h.ports.http}`,
    ...['Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13'],
    ...['Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', '', ''],
  ].join('\r\n');

/** One of each kind, each with bytes on the way. */
async function everyKind(h: Harness): Promise<ReadonlyMap<string, Duplex>> {
  const plain = await open(h.port);
  plain.write(stream(h));
  const webSocket = await open(h.port);
  webSocket.write(handshake(h));
  const inspected = await secureTunnel(h.port, `api.test:${h.ports.https}`, trust(h, 'api.test'));
  inspected.write(insideStream(h, 'api.test'));
  const { socket: unread } = await tunnel(h.port, `opaque.test:${h.ports.https}`);
  const secure = await tlsOn(unread, { servername: 'opaque.test', ca: h.upstreamAuthority.caPem });
  secure.write(insideStream(h, 'opaque.test'));
  const { socket: raw } = await tunnel(h.port, `tunnel.test:${h.ports.raw}`);
  const idle = await open(h.port);
  return new Map<string, Duplex>([
    ['a stream in the clear', plain],
    ['a WebSocket', webSocket],
    ['a stream inside inspected TLS', inspected],
    ['TLS passed by name', secure],
    ['a raw tunnel', raw],
    ['an idle connection', idle],
  ]);
}

export function lockdownCases(start: StartPlane): void {
  test('every open connection ends, whatever it carries; then everything is refused, and said so', async () => {
    const h = await startHarness(start, { policy: sharedPolicy });
    try {
      const kinds = await everyKind(h);
      const started = new Set<string>();
      for (const [kind, socket] of kinds) socket.once('data', () => started.add(kind)).resume();
      await until(() => started.size === kinds.size - 1, 'bytes of each');

      h.lock('the test says so');
      const ends = [...kinds].map(([kind, socket]) => within(closed(socket), kind, limits.lockdownEndsMsMax));
      await h.plane.endConnections();
      await Promise.all(ends);

      // Envoy is started again for it: refused connections until then.
      let code = '';
      await until(
        () =>
          askPlain(h, 'api.test', '/hello').then(
            (reply) => {
              code = codeOf(reply);
              return reply.status === 503;
            },
            () => false,
          ),
        'a refusal in words',
      );
      expect(code).toBe('Lockdown');
      h.lock(undefined);
      expect((await askPlain(h, 'api.test', '/hello')).status).toBe(200);
    } finally {
      await h.close();
    }
  });
}
