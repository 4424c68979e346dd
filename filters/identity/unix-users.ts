/**
 * The Unix user at the other end of a local TCP connection, from the kernel's socket tables
 * (proc(5), `/proc/net/tcp`). The peer cannot forge them, unlike anything it sends.
 *
 * A row: `  12: 0100007F:C350 0100007F:2760 01 00000000:00000000 00:00000000 00000000  1000        0 4242 …`
 *          slot  local ip:port  remote ip:port state  queues       timer      retransmits  uid
 *
 * Linux lets several sockets share one local ip:port as long as their remotes differ, also sockets of
 * different users. So every row counts, and rows of different users are no answer: an agent could otherwise
 * have itself taken for the owner of a socket that happens to have the same port.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { endianness } from 'node:os';
import ipaddr from 'ipaddr.js';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';

export interface UnixUsers {
  /**
   * @returns the user id that owns the established connection from this address and port; undefined where
   * there is none on this machine, or where more than one user could be meant.
   */
  uidOf(address: string, port: number): number | undefined;
}

export type UnixUsersOptions = Readonly<{
  /** Whether the proxy listens there: rows towards another address or port are another connection. Absent: not known. */
  isProxy?: (address: string, port: number) => boolean;
  /** The kernel's tables of this network namespace; injected by tests. */
  tables?: Readonly<{ tcp: string; tcp6: string }>;
  monotonicMs?: () => number;
}>;

const kernelTables = { tcp: '/proc/net/tcp', tcp6: '/proc/net/tcp6' } as const;
/** Stands before the local address and nowhere else in a row. */
const needlePrefix = ': ';
const chunkBytes = 64 * 1024;
/**
 * The kernel fills at least a page (4 KiB) less one row unless the table ends (`fs/seq_file.c`), so a shorter
 * read is the last. Asking for the end once more would walk its whole hash table again, half of the cost.
 */
const wholeReadBytes = 3 * 1024;
/** `include/net/tcp_states.h`. */
const established = '01';
/** TIME_WAIT and NEW_SYN_RECV rows have no owner; the kernel prints user 0 for them. */
const ownerless: ReadonlySet<string> = new Set(['06', '0C']);

export function createUnixUsers(options: UnixUsersOptions = {}): UnixUsers {
  const tables = options.tables ?? kernelTables;
  const chunk = Buffer.allocUnsafe(chunkBytes);

  const monotonicMs = options.monotonicMs ?? (() => performance.now());

  const search = (address: string, port: number, endMs: number): number | undefined => {
    const assertTime = (): void => {
      if (monotonicMs() > endMs)
        throw new SallyportError(
          'Overloaded',
          `cannot look up the peer’s user within ${limits.socketTableMsMax} ms: this machine has too many sockets`,
        );
    };
    const owners: Owners = { live: new Set(), established: false };
    for (const { file, needle } of needlesOf(address, port, tables)) {
      collectOwners(file, needle, chunk, (row) => readRow(row, options.isProxy, owners), assertTime);
    }
    const [uid] = owners.live;
    return owners.live.size === 1 && owners.established ? uid : undefined;
  };

  return {
    // The tables are no snapshot: a row can slip while other sockets come and go, so a miss is looked up twice.
    uidOf: (address, port) => {
      const endMs = monotonicMs() + limits.socketTableMsMax;
      return search(address, port, endMs) ?? search(address, port, endMs);
    },
  };
}

type Owners = { live: Set<number>; established: boolean };

/** The local-address column as the kernel prints it: each 32-bit word in the machine's byte order. */
function needlesOf(
  address: string,
  port: number,
  tables: Readonly<{ tcp: string; tcp6: string }>,
): { file: string; needle: string }[] {
  if (!Number.isInteger(port) || port < 1 || port > 65_535 || !ipaddr.isValid(address)) return [];
  // A dual-stack listener tells IPv4 peers as `::ffff:a.b.c.d`.
  const parsed = ipaddr.process(address);
  const bytes = parsed.toByteArray();
  const tail = `:${hex(port, 4)} `;
  if (parsed.kind() === 'ipv6')
    return [{ file: tables.tcp6, needle: `${needlePrefix}${words(bytes)}${tail}` }];
  const mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...bytes];
  return [
    { file: tables.tcp, needle: `${needlePrefix}${words(bytes)}${tail}` },
    { file: tables.tcp6, needle: `${needlePrefix}${words(mapped)}${tail}` },
  ];
}

const hex = (value: number, digits: number): string => value.toString(16).toUpperCase().padStart(digits, '0');

function words(bytes: readonly number[]): string {
  const littleEndian = endianness() === 'LE';
  let text = '';
  for (let at = 0; at < bytes.length; at += 4) {
    const word = bytes.slice(at, at + 4);
    text += (littleEndian ? word.reverse() : word).map((byte) => hex(byte, 2)).join('');
  }
  return text;
}

function fromWords(text: string): number[] {
  const littleEndian = endianness() === 'LE';
  const words = (text.match(/.{8}/g) ?? []).map((word) => [...Buffer.from(word, 'hex')]);
  return words.flatMap((word) => (littleEndian ? word.reverse() : word));
}

/** Reads the table in chunks and looks at the rows with the needle only. */
function collectOwners(
  file: string,
  needle: string,
  chunk: Buffer,
  onRow: (row: string) => void,
  assertTime: () => void,
): void {
  const table = openTable(file);
  if (table === undefined) return;
  try {
    let held = 0;
    let total = 0;
    for (;;) {
      const read = readSync(table, chunk, held, chunk.length - held, null);
      if (read === 0) return;
      assertTime();
      total += read;
      if (total > limits.socketTableBytesMax)
        throw new SallyportError(
          'Overloaded',
          `cannot look up the peer’s user: ${file} is larger than ${limits.socketTableBytesMax} bytes`,
        );
      const filled = chunk.subarray(0, held + read);
      const rowsEnd = filled.lastIndexOf(0x0a) + 1;
      for (let at = filled.indexOf(needle, 0, 'latin1'); at !== -1 && at < rowsEnd; ) {
        const rowEnd = filled.indexOf(0x0a, at);
        onRow(filled.toString('latin1', at + needlePrefix.length, rowEnd));
        at = filled.indexOf(needle, rowEnd, 'latin1');
      }
      // The last row may go on in the next read.
      filled.copy(chunk, 0, rowsEnd);
      held = filled.length - rowsEnd;
      if (read < wholeReadBytes) return;
    }
  } finally {
    closeSync(table);
  }
}

/** A kernel without IPv6 has no tcp6, another system neither: then nobody is found there. */
function openTable(file: string): number | undefined {
  try {
    return openSync(file, 'r');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new SallyportError('ServiceUnavailable', `cannot read ${file}`, { cause: error });
  }
}

/** `0100007F:2760` → address and port; undefined where it is neither. */
function readEndpoint(text: string): [address: string, port: number] | undefined {
  const [, address, port] = /^([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$/.exec(text) ?? [];
  if (address === undefined || port === undefined) return undefined;
  const bytes = fromWords(address);
  return [ipaddr.process(ipaddr.fromByteArray(bytes).toString()).toString(), Number.parseInt(port, 16)];
}

function readRow(row: string, isProxy: UnixUsersOptions['isProxy'], owners: Owners): void {
  const [, remote = '', state = '', , , , uid = ''] = row.trim().split(/ +/);
  if (ownerless.has(state)) return;
  const to = readEndpoint(remote);
  if (isProxy !== undefined && to !== undefined && !isProxy(...to)) return;
  if (!/^\d{1,10}$/.test(uid)) return;
  owners.live.add(Number(uid));
  if (state === established) owners.established = true;
}
