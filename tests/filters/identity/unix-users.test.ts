import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import {
  createUnixUsers,
  type UnixUsers,
  type UnixUsersOptions,
} from '../../../filters/identity/unix-users.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { refusalOf } from '../../support/refusal.ts';

const ownUid = process.getuid?.() ?? -1;

describe('the kernel’s own tables', () => {
  const open: (Server | Socket)[] = [];
  afterEach(async () => {
    // Sockets last opened go first, so that the server has none left to wait for.
    for (const each of open.splice(0).reverse()) {
      if ('closed' in each) each.destroy();
      else await new Promise((resolve) => each.close(resolve));
    }
  });

  /** Connects to a listener on `listen` and tells how the listener sees the peer. */
  async function peerOf(
    listen: string,
    dial: string,
  ): Promise<{ address: string; port: number; proxyPort: number }> {
    const server = createServer().listen(0, listen);
    open.push(server);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const client = connect(port, dial);
    const [[peer]] = await Promise.all([
      once(server, 'connection') as Promise<[Socket]>,
      once(client, 'connect'),
    ]);
    open.push(client, peer);
    return { address: peer.remoteAddress ?? '', port: peer.remotePort ?? 0, proxyPort: port };
  }

  test('name the user of an IPv4 connection', async () => {
    const peer = await peerOf('127.0.0.1', '127.0.0.1');
    expect(createUnixUsers().uidOf(peer.address, peer.port)).toBe(ownUid);
  });

  test('name the user of an IPv6 connection and of an IPv4 peer of a dual-stack listener', async () => {
    const six = await peerOf('::1', '::1');
    expect(createUnixUsers().uidOf(six.address, six.port)).toBe(ownUid);
    const mapped = await peerOf('::', '127.0.0.1');
    expect(mapped.address).toBe('::ffff:127.0.0.1');
    expect(createUnixUsers().uidOf(mapped.address, mapped.port)).toBe(ownUid);
  });

  test('name nobody for a port without connection, a listener, or a connection to another port', async () => {
    const peer = await peerOf('127.0.0.1', '127.0.0.1');
    const users = createUnixUsers();
    expect(users.uidOf('127.0.0.9', peer.port)).toBeUndefined();
    const listening = createServer().listen(0, '127.0.0.8');
    open.push(listening);
    await once(listening, 'listening');
    expect(users.uidOf('127.0.0.8', (listening.address() as AddressInfo).port)).toBeUndefined();
    expect(
      createUnixUsers({
        isProxy: (address, port) => address === '127.0.0.1' && port === peer.proxyPort,
      }).uidOf(peer.address, peer.port),
    ).toBe(ownUid);
    expect(createUnixUsers({ isProxy: () => false }).uidOf(peer.address, peer.port)).toBeUndefined();
  });
});

describe('a table', () => {
  let dir: string;
  let tables: { tcp: string; tcp6: string };
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'sallyport-users-'));
    tables = { tcp: join(dir, 'tcp'), tcp6: join(dir, 'tcp6') };
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  const head =
    '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
  const row = (slot: number, local: string, remote: string, state: string, uid: number): string =>
    `${String(slot).padStart(4)}: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000 ${String(uid).padStart(5)}        0 4242 1 0000000000000000 20 4 30 10 -1\n`;
  const usersOf = (tcp: string, tcp6 = '', options: UnixUsersOptions = {}): UnixUsers => {
    writeFileSync(tables.tcp, tcp, 'latin1');
    writeFileSync(tables.tcp6, tcp6, 'latin1');
    return createUnixUsers({ tables, ...options });
  };
  /** 127.0.0.1:50000 on a little-endian machine, which every machine of this suite is. */
  const agent = '0100007F:C350';
  const mapped = '0000000000000000FFFF00000100007F:C350';
  const proxy = '0100007F:2760';
  const uid = (users: UnixUsers): number | undefined => users.uidOf('127.0.0.1', 50_000);

  test('gives the user of the row whose local address is the peer’s, not the remote', () => {
    expect(uid(usersOf(head + row(0, proxy, agent, '01', 1) + row(1, agent, proxy, '01', 1001)))).toBe(1001);
    expect(uid(usersOf(head + row(0, proxy, agent, '01', 1)))).toBeUndefined();
    expect(uid(usersOf(head, head + row(0, mapped, mapped, '01', 1002)))).toBe(1002);
  });

  test.each(['02', '03', '04', '05', '06', '07', '08', '09', '0A', '0B', '0C'])(
    'gives nobody for a connection in state %s',
    (state) => {
      expect(uid(usersOf(head + row(0, agent, proxy, state, 1001)))).toBeUndefined();
    },
  );

  test('gives nobody where two users have sockets on the same local port', () => {
    const shared = row(0, agent, proxy, '01', 1001) + row(1, agent, '0100007F:1F90', '01', 1002);
    expect(uid(usersOf(head + shared))).toBeUndefined();
    // The agent has closed its half, and another user's socket would now be the only established one.
    expect(
      uid(usersOf(head + row(0, agent, proxy, '05', 1001) + row(1, agent, '0100007F:1F90', '01', 1002))),
    ).toBeUndefined();
    expect(
      uid(usersOf(head + row(0, agent, proxy, '01', 1001), head + row(0, mapped, mapped, '01', 1002))),
    ).toBeUndefined();
  });

  test('tells users apart by the proxy’s address and port where they are known', () => {
    const isProxy = (address: string, port: number): boolean => address === '127.0.0.1' && port === 10_080;
    const mine = row(1, agent, proxy, '01', 1001);
    for (const remote of ['0100007F:1F90', '0200007F:2760'])
      expect(uid(usersOf(head + row(0, agent, remote, '01', 1002) + mine, '', { isProxy })), remote).toBe(
        1001,
      );
    const six = row(0, mapped, '0000000000000000FFFF00000200007F:2760', '01', 1002);
    expect(uid(usersOf(head + mine, head + six, { isProxy }))).toBe(1001);
    // A remote that cannot be read is not known to be another connection.
    expect(uid(usersOf(head + row(0, agent, 'x', '01', 1002) + mine, '', { isProxy }))).toBeUndefined();
  });

  test('gives the user where the others are only waiting out their end', () => {
    const closing = row(0, agent, '0100007F:1F90', '06', 0) + row(1, agent, proxy, '01', 1001);
    expect(uid(usersOf(head + closing))).toBe(1001);
  });

  test('is found in a table of any size up to the limit', () => {
    const other = row(7, '0100007F:AAAA', proxy, '01', 1);
    for (const rows of [1, 435, 436, 437, 438, 5_000])
      expect(uid(usersOf(head + other.repeat(rows) + row(8, agent, proxy, '01', 1001)))).toBe(1001);
    const ended = row(7, '0100007F:AAAA', proxy, '06', 0);
    expect(uid(usersOf(head + ended.repeat(150_000) + row(8, agent, proxy, '01', 1001)))).toBe(1001);
    const over = other.repeat(Math.ceil(limits.socketTableBytesMax / other.length) + 1);
    expect(refusalOf(() => uid(usersOf(head + over + row(8, agent, proxy, '01', 1001))))).toBe('Overloaded');
  });

  test('that takes longer than the limit is a refusal, never an answer', () => {
    let now = 0;
    const monotonicMs = (): number => {
      now += limits.socketTableMsMax;
      return now;
    };
    const big = head + row(7, '0100007F:AAAA', proxy, '01', 1).repeat(1_000);
    expect(refusalOf(() => uid(usersOf(big, '', { monotonicMs })))).toBe('Overloaded');
  });

  test('that is not there gives nobody', () => {
    expect(
      createUnixUsers({ tables: { tcp: join(dir, 'no'), tcp6: join(dir, 'no') } }).uidOf('127.0.0.1', 1),
    ).toBeUndefined();
  });

  test.each([
    ['', 50_000],
    ['localhost', 50_000],
    ['127.0.0.1', 0],
    ['127.0.0.1', -1],
    ['127.0.0.1', 70_000],
    ['127.0.0.1', Number.NaN],
  ])('gives nobody for the peer %s port %d', (address, port) => {
    expect(usersOf(head + row(0, agent, proxy, '01', 1001)).uidOf(address, port)).toBeUndefined();
  });

  test('of garbage gives nobody or a user, and never fails', () => {
    const piece = fc.oneof(
      fc.constantFrom(
        `: ${agent} `,
        ': ',
        '\n',
        ' 01 ',
        proxy,
        ' 00000000:00000000 00:00000000 00000000 77 ',
      ),
      fc.string({ unit: 'binary-ascii', maxLength: 20 }),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        expect(['number', 'undefined']).toContain(typeof uid(usersOf(pieces.join(''))));
      }),
      fuzzRuns,
    );
  });
});
