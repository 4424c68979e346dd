/** Requests through the proxy, as bytes that the test chooses. */
import { execFile } from 'node:child_process';
import { type ConnectionOptions, rootCertificates } from 'node:tls';
import { open, parseReply, type Reply, readAll, secureTunnel, send, sendOn } from '../envoy/clients.ts';
import type { Harness } from './harness.ts';

export type Asked = Readonly<{
  method?: string;
  /** Lines without line ends. */
  headers?: readonly string[];
  body?: string | Buffer;
}>;

const requestHead = (target: string, host: string, asked: Asked): string =>
  [
    `${asked.method ?? 'GET'} ${target} HTTP/1.1`,
    `Host: ${host}`,
    ...(asked.body === undefined ||
    asked.headers?.some((line) => /^(content-length|transfer-encoding):/i.test(line))
      ? []
      : [`Content-Length: ${Buffer.byteLength(asked.body)}`]),
    ...(asked.headers ?? []),
  ].join('\n');

/** Bytes as they are; the answer, if there was one before the end. */
export async function sendRaw(h: Harness, bytes: string | Buffer): Promise<Reply> {
  const socket = await open(h.port);
  const read = readAll(socket, (got) => /content-length: (\d+)/i.test(got.toString()) && isWhole(got));
  socket.write(bytes);
  return parseReply(await read);
}

export const isWhole = (got: Buffer): boolean => {
  const at = got.indexOf('\r\n\r\n');
  const length = Number(/content-length: (\d+)/i.exec(got.toString('latin1'))?.[1] ?? Number.NaN);
  return at > 0 && got.length >= at + 4 + length;
};

/** Absolute form over the plain port. */
export const askPlain = (h: Harness, host: string, path: string, asked: Asked = {}, port = h.ports.http) =>
  send(h.port, requestHead(`http://${host}:${port}${path}`, `${host}:${port}`, asked), asked.body);

export const trust = (h: Harness, servername: string): ConnectionOptions => ({ servername, ca: h.caPem });

/** HTTP/1.1 over TLS inside CONNECT. */
export async function askSecure(h: Harness, host: string, path: string, asked: Asked = {}): Promise<Reply> {
  const authority = `${host}:${h.ports.https}`;
  const secure = await secureTunnel(h.port, authority, trust(h, host));
  return sendOn(secure, requestHead(path, authority, asked), asked.body);
}

/** The catalogue's code in a problem+json body. */
export const codeOf = (reply: Reply): string => String(JSON.parse(reply.body).code);

/** How often the upstream saw this path. */
export const seen = (h: Harness, path: string): number =>
  h.upstream.requests().filter((request) => request.path === path).length;

/** curl(1): its exit status and what it printed. */
export const curl = (args: readonly string[]): Promise<{ exit: number; out: string }> =>
  new Promise((resolve) => {
    const child = execFile('curl', ['-sS', '--max-time', '20', ...args], (_, stdout, stderr) =>
      resolve({ exit: child.exitCode ?? -1, out: stdout + stderr }),
    );
  });

/** What any other client of the machine would trust: nothing of ours. */
export const publicRoots = rootCertificates;
