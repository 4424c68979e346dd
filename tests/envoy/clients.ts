/** Clients that say exactly what a test wants said. */
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';

export type Reply = Readonly<{ status: number; headers: Record<string, string>; body: string }>;

const boundMs = 15_000;

/** Rejects when `what` did not happen in time: a bound, so that no test waits for ever. */
export function within<T>(promise: Promise<T>, what: string, ms = boundMs): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Polls until the condition holds. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  ms = boundMs,
): Promise<void> {
  const end = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export function parseReply(bytes: Buffer): Reply {
  const at = bytes.indexOf('\r\n\r\n');
  const [first = '', ...lines] = bytes.subarray(0, at).toString('latin1').split('\r\n');
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  return {
    status: Number(first.split(' ')[1] ?? 0),
    headers,
    body: dechunked(bytes.subarray(at + 4), headers),
  };
}

function dechunked(bytes: Buffer, headers: Record<string, string>): string {
  if (headers['transfer-encoding'] !== 'chunked') return bytes.toString('utf8');
  let text = '';
  for (let rest = bytes; ; ) {
    const line = rest.indexOf('\r\n');
    const size = Number.parseInt(rest.subarray(0, line).toString(), 16);
    if (!(size > 0)) return text;
    text += rest.subarray(line + 2, line + 2 + size).toString('utf8');
    rest = rest.subarray(line + 2 + size + 2);
  }
}

export const open = (port: number, host = '127.0.0.1'): Promise<Socket> =>
  within(
    new Promise((resolve, reject) => {
      const socket = connect(port, host, () => resolve(socket));
      socket.once('error', reject);
    }),
    `a connection to ${port}`,
  );

export const closed = (stream: Duplex): Promise<void> =>
  new Promise((resolve) => {
    if (stream.destroyed) resolve();
    stream.once('close', () => resolve());
    stream.on('error', () => undefined);
    stream.resume();
  });

/** Envoy keeps a refused connection open for a second, so that its answer is read; a test need not wait for that. */
function isWhole(bytes: Buffer): boolean {
  const at = bytes.indexOf('\r\n\r\n');
  if (at < 0) return false;
  const { headers } = parseReply(bytes);
  const length = headers['content-length'];
  if (length !== undefined) return bytes.length - at - 4 >= Number(length);
  return headers['transfer-encoding'] === 'chunked' && bytes.subarray(-5).toString() === '0\r\n\r\n';
}

/** Everything until the other side closes, or until it is complete. */
export const readAll = (
  stream: Duplex,
  complete: (bytes: Buffer) => boolean = () => false,
): Promise<Buffer> =>
  within(
    new Promise((resolve) => {
      const parts: Buffer[] = [];
      stream.on('data', (part: Buffer) => {
        parts.push(part);
        if (complete(Buffer.concat(parts))) stream.destroy();
      });
      stream.on('error', () => undefined);
      stream.once('close', () => resolve(Buffer.concat(parts)));
      stream.resume();
    }),
    'the end of the connection',
  );

/** One request on its own connection; `Connection: close` is added. */
export async function sendOn(
  stream: Duplex,
  requestHead: string,
  body: string | Buffer = '',
): Promise<Reply> {
  const read = readAll(stream, isWhole);
  stream.write(
    `${requestHead
      .trim()
      .split('\n')
      .map((line) => line.trim())
      .join('\r\n')}\r\nConnection: close\r\n\r\n`,
  );
  if (body.length > 0) stream.write(body);
  return parseReply(await read);
}

export const send = async (port: number, requestHead: string, body: string | Buffer = ''): Promise<Reply> =>
  sendOn(await open(port), requestHead, body);

export type Tunnel = Readonly<{ reply: Reply; socket: Socket }>;

/** CONNECT; the socket is the tunnel where the status is 200. It is paused, so that nothing is lost. */
export async function tunnel(port: number, authority: string, headers = ''): Promise<Tunnel> {
  const socket = await open(port);
  const extra = headers === '' ? '' : `${headers}\r\n`;
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${extra}\r\n`);
  const reply = await within(
    new Promise<Reply>((resolve, reject) => {
      let bytes = Buffer.alloc(0);
      const take = (part: Buffer): void => {
        bytes = Buffer.concat([bytes, part]);
        const at = bytes.indexOf('\r\n\r\n');
        if (at < 0) return;
        const found = parseReply(bytes);
        const wanted = found.status === 200 ? 0 : Number(found.headers['content-length'] ?? 0);
        if (found.status !== 200 && Buffer.byteLength(found.body) < wanted) return;
        socket.off('data', take);
        const rest = bytes.subarray(at + 4);
        if (found.status === 200) {
          socket.pause();
          if (rest.length > 0) socket.unshift(rest);
        }
        resolve(found);
      };
      socket.on('data', take);
      socket.once('error', reject);
      socket.once('close', () => reject(new Error(`closed before an answer: ${bytes.toString('latin1')}`)));
    }),
    `an answer to CONNECT ${authority}`,
  );
  return { reply, socket };
}

/** TLS on a tunnel. */
export const tlsOn = (socket: Duplex, options: ConnectionOptions): Promise<TLSSocket> =>
  within(
    new Promise((resolve, reject) => {
      const secure = connectTls({ socket, ...options }, () => resolve(secure));
      secure.once('error', reject);
      secure.once('close', () => reject(new Error('closed during the handshake')));
    }),
    'a TLS handshake',
  );

/** A TLS connection to `host` through the proxy. */
export async function secureTunnel(
  port: number,
  authority: string,
  options: ConnectionOptions,
): Promise<TLSSocket> {
  const { reply, socket } = await tunnel(port, authority);
  if (reply.status !== 200) throw new Error(`CONNECT was answered ${reply.status}: ${reply.body}`);
  return tlsOn(socket, options);
}

export const http2On = (stream: Duplex, authority: string): ClientHttp2Session => {
  const session = connectHttp2(`https://${authority}`, { createConnection: () => stream });
  session.on('error', () => undefined);
  return session;
};

export function http2Request(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body?: string | Buffer,
): Promise<Reply & { trailers: Record<string, unknown> }> {
  return within(
    new Promise((resolve, reject) => {
      const stream = session.request(headers, { endStream: body === undefined });
      const found: Record<string, string> = {};
      let trailers: Record<string, unknown> = {};
      const parts: Buffer[] = [];
      stream.on('response', (answer) => {
        for (const [name, value] of Object.entries(answer)) found[name] = String(value);
      });
      stream.on('trailers', (got) => {
        trailers = { ...got };
      });
      stream.on('data', (part: Buffer) => parts.push(part));
      stream.on('end', () =>
        resolve({
          status: Number(found[':status'] ?? 0),
          headers: found,
          body: Buffer.concat(parts).toString('utf8'),
          trailers,
        }),
      );
      stream.on('error', reject);
      if (body !== undefined) stream.end(body);
    }),
    'an HTTP/2 answer',
  );
}
