/** Where a check server listens: a Unix socket that only its owner opens, or loopback with a bearer token. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { chmod, chown, lstat, mkdtemp, rename, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';

export type SocketListen = Readonly<{
  socketPath: string;
  /** Default 0600. */
  socketMode?: number;
  /** Given to this user, where the server is root: the one that the data plane runs as. */
  socketOwner?: Readonly<{ uid: number; gid: number }>;
}>;
export type TcpListen = Readonly<{ host: string; port: number; token: string }>;
export type Listen = SocketListen | TcpListen;

export type RunningServer = Readonly<{
  /** `unix:PATH` or `host:port`. */
  address: string;
  /** Ends what runs and resolves when nothing is left, at most `limits.stopTimeoutMs`. */
  stop(): Promise<void>;
}>;

const errnoOf = (thrown: unknown): string =>
  thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : '';

/** True where a process accepts on this socket. */
function isListening(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (thrown) => {
      const code = errnoOf(thrown);
      if (code === 'ECONNREFUSED' || code === 'ENOENT') resolve(false);
      else reject(thrown);
    });
  });
}

/** Only a socket that nobody listens on may be replaced. */
async function assertFree(path: string): Promise<void> {
  let stat: Awaited<ReturnType<typeof lstat>>;
  try {
    stat = await lstat(path);
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return;
    throw thrown;
  }
  if (!stat.isSocket()) throw new SallyportError('SettingsInvalid', `${path} exists and is not a socket`);
  if (await isListening(path)) {
    throw new SallyportError('SettingsInvalid', `another process listens on ${path}`);
  }
}

/**
 * Binds in a directory that only this user enters, sets mode and owner there, and moves the socket to its
 * place: it is never reachable with wider rights, and a stale one is replaced in one step.
 */
export async function bindSocket(listen: SocketListen, bind: (path: string) => Promise<void>): Promise<void> {
  const { socketPath } = listen;
  await assertFree(socketPath);
  const room = join(dirname(socketPath), '.XXXXXX', 's');
  const size = Math.max(Buffer.byteLength(socketPath), Buffer.byteLength(room));
  if (size > limits.socketPathBytesMax) {
    throw new SallyportError(
      'SettingsInvalid',
      `the socket path ${socketPath} needs ${size} bytes; the limit is ${limits.socketPathBytesMax}`,
    );
  }
  const dir = await mkdtemp(join(dirname(socketPath), '.'));
  try {
    const temporary = join(dir, 's');
    await bind(temporary);
    await chmod(temporary, listen.socketMode ?? 0o600);
    if (listen.socketOwner !== undefined) {
      await chown(temporary, listen.socketOwner.uid, listen.socketOwner.gid);
    }
    await rename(temporary, socketPath);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

export const removeSocket = (listen: Listen): Promise<void> =>
  'socketPath' in listen ? rm(listen.socketPath, { force: true }) : Promise.resolve();

const tokenCharsMin = 16;

/** Throws SettingsInvalid unless this is loopback and has a token worth the name. */
export function assertTcp(listen: TcpListen): void {
  if (!/^(?:127(?:\.\d{1,3}){3}|::1|localhost)$/.test(listen.host)) {
    throw new SallyportError('SettingsInvalid', `${listen.host} is not a loopback address`);
  }
  if (listen.token.length < tokenCharsMin) {
    throw new SallyportError('SettingsInvalid', `the token is shorter than ${tokenCharsMin} characters`);
  }
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Compares in a time that tells nothing of the token, whatever the lengths. */
export function tokenVerifier(token: string): (given: string) => boolean {
  const expected = digest(token);
  return (given) => timingSafeEqual(digest(given), expected);
}

/** RFC 6750, section 2.1; empty where there is none. */
export const bearerOf = (authorization: string): string =>
  /^Bearer +([\x21-\x7e]+)$/i.exec(authorization)?.[1] ?? '';

/**
 * Half of the time for what runs to end by itself, then it is aborted and answers; what is left at the end is cut.
 */
export async function stopWithin(
  timeoutMs: number,
  steps: Readonly<{ close: () => Promise<void>; abort: () => void; cut: () => void }>,
): Promise<void> {
  const abort = setTimeout(steps.abort, timeoutMs / 2);
  const cut = setTimeout(steps.cut, timeoutMs);
  try {
    await steps.close();
  } finally {
    clearTimeout(abort);
    clearTimeout(cut);
  }
}
