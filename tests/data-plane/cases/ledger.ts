/** The ledger: what became of every call, told the same by every data plane. */
import { expect, test } from 'vitest';
import type { SettlementRecord, UsageRecord } from '../../../filters/common/record.ts';
import { open, sendOn, tlsOn, tunnel, until } from '../../envoy/clients.ts';
import { recordsOf } from '../../support/ledger.ts';
import { askPlain, askSecure, sendRaw } from '../ask.ts';
import type { Harness } from '../harness.ts';

const idOf = (reply: { headers: Record<string, string> }): string =>
  reply.headers['x-sallyport-decision'] ?? '';

export function ledgerCases(harness: () => Harness): void {
  const settlementsOf = (h: Harness, id: string): SettlementRecord[] =>
    recordsOf(h.journal, 'settlement').filter((record) => record.id === id);
  const usageOf = (h: Harness, id: string): UsageRecord[] =>
    recordsOf(h.journal, 'usage').filter((record) => record.id === id);
  const settled = async (h: Harness, id: string): Promise<SettlementRecord> => {
    await until(() => settlementsOf(h, id).length > 0, `the settlement of ${id}`);
    const [record] = settlementsOf(h, id);
    if (record === undefined) throw new Error('no settlement');
    return record;
  };

  test('a call that was made is settled as Sent, with what it weighed, and has one usage event', async () => {
    const h = harness();
    const body = 'twelve bytes';
    const reply = await askPlain(h, 'api.test', '/echo?secret=1', { method: 'POST', body });
    const record = await settled(h, idOf(reply));
    expect(record).toMatchObject({
      ...{ kind: 'Sent', calls: 1, status: reply.status, bytes_in: body.length, rule: 'api', what: 'POST' },
      ...{
        agent: 'spiffe://sallyport.test/tester',
        upstream: `127.0.0.1:${h.ports.http}`,
        outcome: 'Success',
      },
      resource: `http://api.test:${h.ports.http}/echo`,
    });
    expect(record.bytes_out).toBe(reply.body.length);
    expect(record.last_ms).toBeGreaterThanOrEqual(record.first_ms);
    const [usage, ...more] = usageOf(h, record.id);
    expect(more).toEqual([]);
    expect(usage?.event).toMatchObject({
      ...{ specversion: '1.0', id: record.id, subject: 'spiffe://sallyport.test/tester' },
      ...{ type: 'sallyport.call', datacontenttype: 'application/json' },
      data: { transaction_id: record.id, calls: 1, bytes_in: body.length, status: reply.status },
    });
    expect(Number.isNaN(Date.parse(usage?.event.time ?? ''))).toBe(false);
    expect(JSON.stringify([record, usage])).not.toContain('secret');
  });

  test('a call inside an inspected tunnel is settled; its CONNECT, which sends nothing, is not', async () => {
    const h = harness();
    const reply = await askSecure(h, 'api.test', '/hello');
    expect(await settled(h, idOf(reply))).toMatchObject({ kind: 'Sent', status: 200 });
    const connect = h.decisions.at(-2)?.decision;
    expect(connect).toMatchObject({ kind: 'Allow', pin: undefined });
    expect(settlementsOf(h, connect?.id ?? '')).toEqual([]);
  });

  test('a call whose destination is not there is settled as NotSent, without usage', async () => {
    const h = harness();
    const reply = await askPlain(h, 'api.test', '/hello', {}, h.ports.dead);
    expect(reply.status).toBe(502);
    const { id } = h.decisions.at(-1)?.decision ?? { id: '' };
    expect(await settled(h, id)).toMatchObject({ kind: 'NotSent', calls: 1, outcome: 'Failure' });
    expect(usageOf(h, id)).toEqual([]);
  });

  test('a raw tunnel is one use of its CONNECT, with the bytes of both directions', async () => {
    const h = harness();
    const { socket } = await tunnel(h.port, `tunnel.test:${h.ports.raw}`);
    let got = '';
    socket.on('data', (part: Buffer) => {
      got += part.toString();
    });
    socket.resume();
    socket.write('hello\r\n');
    await until(() => got.includes('echo hello\r\n'), 'the echo');
    socket.destroy();
    const { id } = h.decisions.at(-1)?.decision ?? { id: '' };
    const record = await settled(h, id);
    expect(record).toMatchObject({ kind: 'Sent', bytes_in: 7, upstream: `127.0.0.1:${h.ports.raw}` });
    // What the server says when the client has left may be counted, or not.
    expect([got.length, got.length + 'bye\r\n'.length]).toContain(record.bytes_out);
    expect(usageOf(h, id)).toHaveLength(1);
  });

  test('TLS passed by name is charged once: to the CONNECT, not to its first bytes', async () => {
    const h = harness();
    const authority = `opaque.test:${h.ports.https}`;
    const { socket } = await tunnel(h.port, authority);
    const secure = await tlsOn(socket, { servername: 'opaque.test', ca: h.upstreamAuthority.caPem });
    await sendOn(secure, `GET /hello HTTP/1.1\nHost: ${authority}`);
    const [connect, first] = h.decisions.slice(-2).map(({ decision }) => decision.id);
    expect(await settled(h, connect ?? '')).toMatchObject({ kind: 'Sent' });
    expect(await settled(h, first ?? '')).toMatchObject({ kind: 'Sent' });
    expect([usageOf(h, connect ?? ''), usageOf(h, first ?? '')].map((list) => list.length)).toEqual([1, 0]);
  });

  test('a tunnel in which nothing was said is settled as NotSent', async () => {
    const h = harness();
    const { socket } = await tunnel(h.port, `opaque.test:${h.ports.https}`);
    const { id } = h.decisions.at(-1)?.decision ?? { id: '' };
    socket.destroy();
    expect(await settled(h, id)).toMatchObject({ kind: 'NotSent' });
  });

  test('a call that goes on is known to have left before it ends, and is settled when it ends', async () => {
    const h = harness();
    const told: boolean[] = [];
    const socket = await open(h.port);
    socket.on('error', () => undefined).resume();
    const before = h.decisions.length;
    socket.write(
      `GET http://api.test:${h.ports.http}/stream?ticks=50&ms=100 HTTP/1.1\r\nHost: api.test:${h.ports.http}\r\n\r\n`,
    );
    await until(() => h.decisions.length > before, 'the decision');
    const { id } = h.decisions.at(-1)?.decision ?? { id: '' };
    h.ledger.onUse((use) => {
      if (use.decision === id && !use.final) told.push(use.left);
    });
    await until(() => told.includes(true), 'a line of the stream that goes on');
    expect(settlementsOf(h, id)).toEqual([]);
    socket.destroy();
    expect(await settled(h, id)).toMatchObject({ kind: 'Sent', calls: 1 });
    expect((await settled(h, id)).duration_ms).toBeGreaterThanOrEqual(1_000);
  });

  test('what a decision refused has no settlement, and no incident comes of any of this', async () => {
    const h = harness();
    const reply = await askPlain(h, 'api.test', '/admin/users');
    expect(reply.status).toBe(403);
    const malformed = await sendRaw(h, 'GET /\x01 HTTP/1.1\r\n\r\n');
    expect(malformed.status).toBe(400);
    const after = await askPlain(h, 'api.test', '/hello?after');
    await settled(h, idOf(after));
    expect(settlementsOf(h, idOf(reply))).toEqual([]);
    expect(recordsOf(h.journal, 'incident')).toEqual([]);
  });
}
