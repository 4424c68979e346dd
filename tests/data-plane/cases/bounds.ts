/** How long and how far connections reach: time of tunnels and WebSockets, halves, trailers. */
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { closed, open, readAll, secureTunnel, tunnel, until, within } from '../../envoy/clients.ts';
import { trust } from '../ask.ts';
import { type Harness, type HarnessOptions, type StartPlane, startHarness } from '../harness.ts';
import { sharedPolicy } from '../policies.ts';

export function boundCases(start: StartPlane): void {
  const own = async (options: Partial<HarnessOptions>): Promise<Harness> => {
    const h = await startHarness(start, { policy: sharedPolicy, ...options });
    onTestFinished(() => h.close());
    return h;
  };

  /** Writes without pause until the other side ends it. */
  const busyUntilClosed = async (stream: Duplex, bytes: Buffer, what: string): Promise<void> => {
    stream.on('error', () => undefined);
    const busy = setInterval(() => stream.write(bytes), 50);
    await within(closed(stream), `the end of ${what}`).finally(() => clearInterval(busy));
  };

  test('a tunnel ends after its time, however busy', async () => {
    const h = await own({ proxy: { tunnel_duration_ms_max: 1_000 } });
    const { socket } = await tunnel(h.port, `tunnel.test:${h.ports.raw}`);
    await busyUntilClosed(socket, Buffer.from('x'), 'the tunnel');
  });

  test('a WebSocket ends after the time of a tunnel, however busy: in the clear, in a tunnel, inside TLS', async () => {
    const h = await own({ proxy: { tunnel_duration_ms_max: 1_000 } });
    const [clear, secure] = [`api.test:${h.ports.http}`, `api.test:${h.ports.https}`];
    const ways: readonly (readonly [what: string, url: string, host: string, way: Promise<Duplex>])[] = [
      ['in the clear', `http://${clear}/ws`, clear, open(h.port)],
      ['in a tunnel', '/ws', clear, tunnel(h.port, clear).then(({ socket }) => socket)],
      [
        'inside TLS',
        '/ws',
        secure,
        secureTunnel(h.port, secure, { ...trust(h, 'api.test'), ALPNProtocols: ['http/1.1'] }),
      ],
    ];
    await Promise.all(
      ways.map(async ([what, url, host, way]) => {
        const stream = await way;
        const head = within(new Promise((resolve) => stream.once('data', resolve)), `the handshake ${what}`);
        stream.resume();
        stream.write(
          `GET ${url} HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`,
        );
        expect(String(await head)).toMatch(/^HTTP\/1\.1 101 /);
        // Masked, empty pings (RFC 6455, section 5.5.2).
        await busyUntilClosed(stream, Buffer.from([0x89, 0x80, 0, 0, 0, 0]), `the WebSocket ${what}`);
      }),
    );
  });

  test('what was sent before one half of a tunnel ends arrives; the embedded plane passes the other half too', async () => {
    const h = await own({});
    const { socket } = await tunnel(h.port, `tunnel.test:${h.ports.raw}`);
    let got = '';
    socket.on('data', (part: Buffer) => {
      got += part.toString();
    });
    const end = closed(socket);
    socket.write('hello\r\n');
    await until(() => got.endsWith('echo hello\r\n'), 'the echo');
    socket.end();
    await within(end, 'the end of the tunnel');
    // Envoy's HTTP/1.1 connections know no halves: a tunnel over one ends as a whole. Over HTTP/2 it does not.
    const rest = h.plane.kind === 'embedded' ? 'bye\r\n' : '';
    expect(got).toBe(`220 ready\r\necho hello\r\n${rest}`);
  });

  test('trailers of an answer pass, those of a request do not', async () => {
    const reached: NodeJS.Dict<string>[] = [];
    const upstream = createServer((request: IncomingMessage, response) => {
      request.resume();
      request.once('end', () => {
        reached.push({ ...request.trailers });
        response.writeHead(200, { trailer: 'x-checksum' });
        response.write('body');
        response.addTrailers({ 'x-checksum': 'abc', 'x-sallyport-decision': 'forged' });
        response.end();
      });
    });
    await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void upstream.close());
    const { port } = upstream.address() as AddressInfo;
    const h = await own({ policy: (ports) => sharedPolicy({ ...ports, dead: port }) });
    const socket = await open(h.port);
    const read = readAll(socket, (bytes) => /\r\n0\r\n[\s\S]*\r\n\r\n$/.test(bytes.toString()));
    socket.write(
      `POST http://api.test:${port}/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Odd\r\n\r\n3\r\nabc\r\n0\r\nX-Odd: 1\r\n\r\n`,
    );
    const text = (await read).toString();
    expect(reached).toEqual([{}]);
    expect(text).toMatch(/\r\nbody\r\n0\r\nx-checksum: abc\r\n\r\n$/);
  });
}
