/** A small authoritative DNS server over UDP (RFC 1035, section 4) whose answers a test sets. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import ipaddr from 'ipaddr.js';

export type Zone = Readonly<{
  addresses?: readonly string[];
  ttl?: number;
  /** 2 SERVFAIL, 3 NXDOMAIN. */
  rcode?: number;
  /** Never answers these record types. */
  silent?: readonly ('A' | 'AAAA')[];
  /** Sent instead of an answer, behind the id of the question. */
  raw?: Uint8Array;
}>;

export type DnsServer = Readonly<{
  /** For `resolver.servers`. */
  address: string;
  /** Answers by lower-case name; a name that is not there does not exist. Tests replace entries at will. */
  zones: Map<string, Zone>;
  /** `A name` or `AAAA name`, in the order of arrival. */
  questions: string[];
  close(): Promise<void>;
}>;

const typeNames: Readonly<Record<number, 'A' | 'AAAA'>> = { 1: 'A', 28: 'AAAA' };

export async function startDnsServer(): Promise<DnsServer> {
  const socket = createSocket('udp4');
  const zones = new Map<string, Zone>();
  const questions: string[] = [];
  socket.on('message', (message, peer) => {
    const { name, type, end } = readQuestion(message);
    const typeName = typeNames[type];
    questions.push(`${typeName} ${name}`);
    const zone = zones.get(name) ?? { rcode: 3 };
    if (typeName !== undefined && zone.silent?.includes(typeName)) return;
    const reply =
      zone.raw === undefined
        ? answer(message.subarray(0, end), zone, type)
        : Buffer.concat([message.subarray(0, 2), zone.raw]);
    socket.send(reply, peer.port, peer.address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return {
    address: `127.0.0.1:${socket.address().port}`,
    zones,
    questions,
    close: () => closed(socket),
  };
}

async function closed(socket: Socket): Promise<void> {
  const closing = once(socket, 'close');
  socket.close();
  await closing;
}

function readQuestion(message: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = message[at] ?? 0; length > 0; length = message[at] ?? 0) {
    labels.push(message.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), type: message.readUInt16BE(at + 1), end: at + 5 };
}

function answer(question: Buffer, zone: Zone, type: number): Buffer {
  const records = (zone.addresses ?? [])
    .map((address) => ipaddr.parse(address))
    .filter((address) => (address.kind() === 'ipv6') === (type === 28))
    .map((address) => record(type, zone.ttl ?? 60, Buffer.from(address.toByteArray())));
  const header = Buffer.from(question);
  header.writeUInt16BE(0x8580 | (zone.rcode ?? 0), 2);
  header.writeUInt16BE(records.length, 6);
  header.fill(0, 8, 12);
  return Buffer.concat([header, ...records]);
}

function record(type: number, ttl: number, data: Buffer): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0xc00c, 0);
  head.writeUInt16BE(type, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt32BE(ttl, 6);
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
}
