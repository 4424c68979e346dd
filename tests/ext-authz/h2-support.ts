/** HTTP/2 by hand: frames as bytes, and a server that hands each request to the test. */
import { connect as connectHttp2 } from 'node:http2';
import { createServer, connect as dial, type Server, type Socket } from 'node:net';
import { afterEach } from 'vitest';
import { type ConnectionOptions, H2Connection } from '../../ext-authz/h2-connection.ts';
import { frame, headerBlock, preface, settingsFrame } from '../../ext-authz/h2-frames.ts';
import type { RequestHead } from '../../ext-authz/h2-head.ts';
import type { Stream } from '../../ext-authz/h2-stream.ts';
import { silent, until } from './support.ts';

export const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

export const portOf = (server: Server): number => {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
};

export type Frame = Readonly<{ type: number; flags: number; id: number; payload: Buffer }>;

/** The whole frames at the beginning of these bytes. */
export function frames(bytes: Buffer): Frame[] {
  const list: Frame[] = [];
  let at = 0;
  while (bytes.length - at >= 9) {
    const length = bytes.readUIntBE(at, 3);
    if (bytes.length < at + 9 + length) break;
    list.push({
      type: bytes[at + 3] ?? 0,
      flags: bytes[at + 4] ?? 0,
      id: bytes.readUInt32BE(at + 5),
      payload: bytes.subarray(at + 9, at + 9 + length),
    });
    at += 9 + length;
  }
  return list;
}

/** A request as the server saw it. */
export type Seen = {
  stream: Stream;
  head: RequestHead;
  body: Buffer;
  whole: boolean;
  gone: boolean;
};

export type Served = Readonly<{
  seen: Seen[];
  connections: H2Connection[];
  port: number;
}>;

/** @param onWhole what the server does with a whole request. */
export async function serve(
  onWhole: (seen: Seen) => void = () => undefined,
  over: Partial<ConnectionOptions> = {},
): Promise<Served> {
  const seen: Seen[] = [];
  const connections: H2Connection[] = [];
  const server = createServer((socket) => {
    connections.push(
      new H2Connection(socket, {
        log: silent,
        streamsMax: 100,
        streamWindowBytes: 200_000,
        windowBytes: 1_000_000,
        nowMs: () => 0,
        accept: (stream, head) => {
          const one: Seen = { stream, head, body: Buffer.alloc(0), whole: false, gone: false };
          seen.push(one);
          return {
            data: (bytes) => (one.body = Buffer.concat([one.body, bytes])),
            end: () => {
              one.whole = true;
              onWhole(one);
            },
            gone: () => (one.gone = true),
          };
        },
        ...over,
      }),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => {
    for (const connection of connections) connection.cut();
    return new Promise((resolve) => server.close(resolve));
  });
  return { seen, connections, port: portOf(server) };
}

export type Raw = Readonly<{
  socket: Socket;
  /** Binary text. */
  send(...texts: string[]): void;
  got(): Frame[];
  /** Frames of one type, once there are as many. */
  wait(type: number, count?: number): Promise<Frame[]>;
  /** The error code of the GOAWAY, once the server closed. */
  ended(): Promise<number | undefined>;
}>;

/** A client that says what it is told. */
export async function raw(port: number, hello = `${preface}${settingsFrame([])}`): Promise<Raw> {
  const socket = dial(port, '127.0.0.1');
  closers.push(() => socket.destroy());
  let bytes = Buffer.alloc(0);
  let closed = false;
  socket.on('data', (chunk: Buffer) => (bytes = Buffer.concat([bytes, chunk])));
  socket.on('error', () => undefined);
  socket.on('close', () => (closed = true));
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  socket.write(hello, 'latin1');
  const got = (): Frame[] => frames(bytes);
  return {
    socket,
    send: (...texts) => void socket.write(texts.join(''), 'latin1'),
    got,
    wait: async (type, count = 1) => {
      const of = (): Frame[] => got().filter((one) => one.type === type);
      await until(() => of().length >= count || closed);
      return of();
    },
    ended: async () => {
      await until(() => closed);
      return got()
        .find(({ type }) => type === 7)
        ?.payload.readUInt32BE(4);
    },
  };
}

/** A POST's header block, none of it in a table. */
export const post = (path = '/a', more: readonly (readonly [string, string])[] = []): string =>
  `\x83\x86${headerBlock(undefined, [[':path', path], ...more])}`;

export const headers = (id: number, block = post(), flags = 4): string => frame(1, flags, id, block);
export const data = (id: number, text: string, flags = 1): string => frame(0, flags, id, text);

export const ok = headerBlock(200, []);
export const echo = ({ stream, body }: Seen): void => {
  stream.head(ok, false);
  stream.data(body.toString('latin1'));
  stream.head(headerBlock(undefined, [['x-status', 'done']]), true);
};

export const http2 = (port: number, settings = {}) => {
  const session = connectHttp2(`http://127.0.0.1:${port}`, { settings });
  session.on('error', () => undefined);
  closers.push(() => session.destroy());
  return session;
};

export type Answer = { status: unknown; body: Buffer; trailer: unknown };
export const request = (session: ReturnType<typeof http2>, body: Buffer, more = {}): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const stream = session.request({ ':method': 'POST', ':path': '/a', ...more });
    const answer: Answer = { status: undefined, body: Buffer.alloc(0), trailer: undefined };
    stream.on('response', (head) => (answer.status = head[':status']));
    stream.on('data', (chunk: Buffer) => (answer.body = Buffer.concat([answer.body, chunk])));
    stream.on('trailers', (head) => (answer.trailer = head['x-status']));
    stream.on('end', () => resolve(answer));
    stream.on('error', reject);
    stream.end(body);
  });
