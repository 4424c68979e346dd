/** What a peer without a token may make the connection do: counted in work, frames and streams, never in time. */
import { describe, expect, it } from 'vitest';
import { limits } from '../../config/limits.ts';
import {
  errorCode,
  frame,
  preface,
  rstStream,
  setting,
  settingsFrame,
  windowUpdate,
} from '../../ext-authz/h2-frames.ts';
import type { Stream } from '../../ext-authz/h2-stream.ts';
import { data, echo, headers, ok, post, type Raw, raw, serve } from './h2-support.ts';
import { until } from './support.ts';

const ping = frame(6, 0, 0, '12345678');
const noWindow = preface + settingsFrame([[setting.initialWindowSize, 0]]);
const requests = (count: number, from = 1): string =>
  Array.from({ length: count }, (_, index) => headers(from + 2 * index) + data(from + 2 * index, 'x')).join(
    '',
  );

/** Once everything before it was read. */
async function pinged(client: Raw): Promise<void> {
  const before = client.got().filter(({ type }) => type === 6).length;
  client.send(ping);
  await client.wait(6, before + 1);
}

/** How often a property of these streams is read or written from now on. */
function countUses(streams: readonly Stream[], name: 'waiting' | 'window'): () => number {
  let uses = 0;
  for (const stream of streams) {
    let value: unknown = stream[name];
    Object.defineProperty(stream, name, {
      get: () => {
        uses += 1;
        return value;
      },
      set: (next: unknown) => {
        uses += 1;
        value = next;
      },
    });
  }
  return () => uses;
}

/** Requests whose answers wait for the windows of their streams. */
async function blocked(count: number) {
  const served = await serve(echo, { streamsMax: count });
  const client = await raw(served.port, noWindow);
  client.send(requests(count));
  await until(() => served.seen.filter(({ whole }) => whole).length === count);
  await pinged(client);
  return { ...served, client, streams: served.seen.map(({ stream }) => stream) };
}

describe('answers that wait for their own windows', () => {
  it('are not looked at for what the connection’s window gains', async () => {
    const { client, streams } = await blocked(500);
    const looks = countUses(streams, 'waiting');
    client.send(windowUpdate(0, 1).repeat(200));
    await pinged(client);
    expect(looks()).toBe(0);
  });

  it('are not looked at for what the window of another gains', async () => {
    const { client, streams } = await blocked(500);
    const looks = countUses(streams.slice(1), 'waiting');
    client.send(windowUpdate(1, 1).repeat(200));
    await pinged(client);
    expect(looks()).toBe(0);
    expect(streams[0]?.isOver).toBe(true);
  });

  it('are given up when they are not taken in time, and make room', async () => {
    const { client, connections, seen, streams } = await blocked(2);
    client.send(headers(5));
    await client.wait(3);
    expect(seen).toHaveLength(2);
    connections[0]?.sweep(limits.checkAnswerTimeoutMs);
    expect(streams.map(({ isOver }) => isOver)).toEqual([false, false]);
    connections[0]?.sweep(limits.checkAnswerTimeoutMs + 1);
    expect(streams.map(({ isOver }) => isOver)).toEqual([true, true]);
    const resets = await client.wait(3, 3);
    expect(resets.map(({ id, payload }) => [id, payload.readUInt32BE(0)])).toEqual([
      [5, errorCode.REFUSED_STREAM],
      [1, errorCode.CANCEL],
      [3, errorCode.CANCEL],
    ]);
    client.send(headers(7));
    await until(() => seen.length === 3);
  });

  it('have that time from when they began to wait', async () => {
    let nowMs = 0;
    const { port, seen, connections } = await serve(undefined, { nowMs: () => nowMs });
    const client = await raw(port, noWindow);
    client.send(headers(1, post(), 5));
    await until(() => seen[0]?.whole === true);
    nowMs = 10 * limits.checkAnswerTimeoutMs;
    connections[0]?.sweep(nowMs);
    seen[0]?.stream.head(ok, false);
    seen[0]?.stream.data('x');
    connections[0]?.sweep(nowMs + limits.checkAnswerTimeoutMs);
    expect(seen[0]?.stream.isOver).toBe(false);
    connections[0]?.sweep(nowMs + limits.checkAnswerTimeoutMs + 1);
    expect(seen[0]?.stream.isOver).toBe(true);
  });
});

describe('answers that wait for the connection’s window', () => {
  it('go out one after the other as it gains, also when their own windows ended in between', async () => {
    const { port, seen } = await serve(({ stream }) => {
      stream.head(ok, false);
      stream.data('x'.repeat(30_000));
      stream.head(ok, true);
    });
    const client = await raw(port);
    const got = (id: number): number =>
      client.got().reduce((sum, one) => sum + (one.type === 0 && one.id === id ? one.payload.length : 0), 0);
    client.send(requests(4));
    await until(() => seen.length === 4 && got(5) === 5_535);
    // The third may now send nothing, though the connection gains.
    client.send(settingsFrame([[setting.initialWindowSize, 5_000]]), windowUpdate(0, 6_000));
    await until(() => got(7) === 5_000);
    expect(got(5)).toBe(5_535);
    client.send(windowUpdate(5, 60_000), windowUpdate(7, 60_000), windowUpdate(0, 100_000));
    await until(() => seen.every(({ stream }) => stream.isOver));
    expect([1, 3, 5, 7].map(got)).toEqual([30_000, 30_000, 30_000, 30_000]);
  });
});

describe('a SETTINGS frame', () => {
  it('is followed by every stream once, however many values it gives', async () => {
    const { port, seen } = await serve();
    const client = await raw(port);
    client.send(...Array.from({ length: 100 }, (_, index) => headers(2 * index + 1)));
    await until(() => seen.length === 100);
    const streams = seen.map(({ stream }) => stream);
    const uses = countUses(streams, 'window');
    const values = Array.from({ length: 2_000 }, (_, index): [number, number] => [
      setting.initialWindowSize,
      index,
    ]);
    client.send(settingsFrame(values));
    await pinged(client);
    expect(uses()).toBeLessThan(10 * streams.length);
    expect(streams.every(({ window }) => window === 1_999)).toBe(true);
  });
});

describe('one turn of the event loop', () => {
  it('reads no more than its share of header blocks, whatever becomes of them', async () => {
    let inTurn = 0;
    let most = 0;
    let all = 0;
    const { port } = await serve(undefined, {
      accept: () => {
        if (inTurn === 0) setImmediate(() => (inTurn = 0));
        inTurn += 1;
        all += 1;
        most = Math.max(most, inTurn);
        return { data: () => undefined, end: () => undefined, gone: () => undefined };
      },
    });
    const client = await raw(port);
    client.send(
      Array.from({ length: 1_000 }, (_, index) =>
        [headers(2 * index + 1), rstStream(2 * index + 1, 'CANCEL')].join(''),
      ).join(''),
    );
    await until(() => all === 1_000);
    expect(most).toBeLessThanOrEqual(limits.checkFramesPerTurnMax / 8);
  });
});

describe('a connection that brings no requests', () => {
  const many = limits.checkIdleFramesMax + 1;
  const answeredStream = headers(1, post(), 5);
  it.each<[string, string, string]>([
    ['pings', '', ping],
    ['acknowledged pings', '', frame(6, 1, 0, '12345678')],
    ['priorities', '', frame(2, 0, 1, '12345')],
    ['frames of no known type', '', frame(200, 0, 0, '')],
    ['goaways', '', frame(7, 0, 0, '12345678')],
    ['acknowledged settings', '', frame(4, 1, 0, '')],
    ['windows of the connection', '', windowUpdate(0, 1)],
    ['windows of a stream', headers(1), windowUpdate(1, 1)],
    ['windows of a stream that is over', answeredStream, windowUpdate(1, 1)],
    ['resets of a stream that is over', answeredStream, rstStream(1, 'CANCEL')],
    ['empty data', headers(1), data(1, '', 0)],
    ['data of nothing but padding', headers(1), frame(0, 8, 1, '\x00')],
    ['data of a stream that is over', answeredStream, data(1, 'x', 0)],
    ['headers of a stream that is over', answeredStream, headers(1)],
  ])('is ended for too many %s', async (_name, first, again) => {
    const { port } = await serve(echo);
    const client = await raw(port);
    client.send(first, again.repeat(many));
    expect(await client.ended()).toBe(errorCode.ENHANCE_YOUR_CALM);
  });

  it('is ended for too many requests that are given up before they are whole', async () => {
    const { port } = await serve();
    const client = await raw(port);
    for (let id = 1; id < many; id += 2) client.send(headers(id), rstStream(id, 'CANCEL'));
    client.send(ping);
    expect(await client.ended()).toBe(errorCode.ENHANCE_YOUR_CALM);
  });

  it('is ended for settings that change too often', async () => {
    const { port } = await serve();
    const client = await raw(port);
    client.send(settingsFrame([]).repeat(limits.checkSettingsFramesMax - 1));
    await pinged(client);
    client.send(settingsFrame([]));
    expect(await client.ended()).toBe(errorCode.ENHANCE_YOUR_CALM);
  });

  it('goes on with as many again after a while', async () => {
    const { port, connections } = await serve();
    const client = await raw(port);
    client.send(frame(200, 0, 0, '').repeat(limits.checkIdleFramesMax - 10));
    await pinged(client);
    connections[0]?.sweep(0);
    client.send(frame(200, 0, 0, '').repeat(limits.checkIdleFramesMax - 10));
    await pinged(client);
  });
});

describe('a busy connection', () => {
  it('may send a few such frames for each request', async () => {
    const { port, seen } = await serve(echo);
    const client = await raw(port);
    const each = limits.checkIdleFramesPerRequestMax - 1;
    const count = Math.ceil((1.2 * limits.checkIdleFramesMax) / each);
    for (let id = 1; id < 2 * count; id += 2)
      client.send(headers(id), data(id, 'x'), frame(200, 0, 0, '').repeat(each - 1));
    await until(() => seen.length === count);
    await pinged(client);
  });

  it('may give up everything that can be under way', async () => {
    const streamsMax = limits.checksConcurrentMax + limits.healthWatchersMax;
    const { port, seen } = await serve(undefined, { streamsMax });
    const client = await raw(port);
    for (let id = 1; id < 2 * streamsMax; id += 2) client.send(headers(id));
    for (let id = 1; id < 2 * streamsMax; id += 2) client.send(rstStream(id, 'CANCEL'));
    await pinged(client);
    expect(seen.filter(({ gone }) => gone)).toHaveLength(streamsMax);
  });

  it('may take an answer in steps as small as it likes', async () => {
    const { port, seen } = await serve(({ stream }) => {
      stream.head(ok, false);
      stream.data('x'.repeat(2 * limits.checkIdleFramesMax));
      stream.head(ok, true);
    });
    const client = await raw(port, noWindow);
    client.send(headers(1, post(), 5), windowUpdate(1, 1).repeat(2 * limits.checkIdleFramesMax));
    await until(() => seen[0]?.stream.isOver === true);
    expect(client.got().some(({ type }) => type === 7)).toBe(false);
  });
});

it('a header block of table entries is bounded by what it unfolds to', async () => {
  const { port } = await serve();
  const client = await raw(port);
  // One entry of 4,000 bytes, named again by one byte each.
  const entry = `\x40\x01x\x7f${String.fromCharCode(0x80 | (3_873 & 0x7f), 3_873 >> 7)}${'a'.repeat(4_000)}`;
  client.send(headers(1, `\x83\x86\x84${entry}`), headers(3, `\x83\x86\x84${'\xbe'.repeat(17)}`));
  expect(await client.ended()).toBe(errorCode.ENHANCE_YOUR_CALM);
});
