import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { limits } from '../../config/limits.ts';
import {
  errorCode,
  frame,
  frameBytesDefault,
  preface,
  rstStream,
  setting,
  settingsFrame,
  uint32,
  windowUpdate,
} from '../../ext-authz/h2-frames.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { data, echo, headers, http2, ok, post, raw, request, serve } from './h2-support.ts';
import { until } from './support.ts';

describe('the connection', () => {
  it('answers pings and settings', async () => {
    const { port } = await serve();
    const client = await raw(port);
    client.send(frame(6, 0, 0, '12345678'), frame(6, 1, 0, '87654321'), settingsFrame([[99, 1]]));
    const [ping] = await client.wait(6);
    expect([ping?.flags, ping?.payload.toString()]).toEqual([1, '12345678']);
    await client.wait(4, 3);
    expect(client.got().filter(({ type, flags }) => type === 4 && flags === 1)).toHaveLength(2);
    expect(client.got().filter(({ type }) => type === 6)).toHaveLength(1);
  });

  it('says its limits first', async () => {
    const { port } = await serve();
    const [settings] = await (await raw(port)).wait(4);
    const values = new Map<number, number>();
    for (let at = 0; at < (settings?.payload.length ?? 0); at += 6)
      values.set(settings?.payload.readUInt16BE(at) ?? 0, settings?.payload.readUInt32BE(at + 2) ?? 0);
    expect(values).toEqual(
      new Map([
        [setting.maxConcurrentStreams, 100],
        [setting.initialWindowSize, 200_000],
        [setting.maxHeaderListSize, limits.checkHeaderBytesMax],
      ]),
    );
  });

  it('ends when nobody speaks HTTP/2 on it in time', async () => {
    const { port, connections } = await serve();
    const client = await raw(port, preface.slice(0, 10));
    await until(() => connections.length === 1);
    connections[0]?.sweep(limits.requestHeadersTimeoutMs + 1);
    expect(await client.ended()).toBeUndefined();
  });

  it('that drains takes no new stream and ends with its last answer', async () => {
    const { port, seen, connections } = await serve();
    const client = await raw(port);
    client.send(headers(1, post(), 5));
    await until(() => seen.length === 1);
    connections[0]?.drain();
    const [goaway] = await client.wait(7);
    expect([goaway?.payload.readUInt32BE(0), goaway?.payload.readUInt32BE(4)]).toEqual([1, 0]);
    client.send(headers(3, post(), 5));
    await client.wait(3);
    expect(seen).toHaveLength(1);
    seen[0]?.stream.head(ok, true);
    expect(await client.ended()).toBe(0);
    expect(client.got().filter(({ type, id }) => type === 1 && id === 1)).toHaveLength(1);
  });

  it('is not read while its client reads nothing', async () => {
    const { port, seen } = await serve(({ stream }) => {
      stream.head(ok, false);
      stream.data('x'.repeat(8_000));
    });
    const client = await raw(
      port,
      `${preface}${settingsFrame([[setting.initialWindowSize, 2 ** 31 - 1]])}${windowUpdate(0, 2 ** 30)}`,
    );
    client.socket.pause();
    for (let id = 1; id < 4_000; id += 2) {
      client.send(headers(id, post(), 5), rstStream(id, 'CANCEL'));
      if (id % 100 === 1) await new Promise(setImmediate);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
    const before = seen.length;
    expect(before).toBeLessThan(2_000);
    client.socket.resume();
    await until(() => seen.length === 2_000);
  });

  it.each<[string, keyof typeof errorCode, string]>([
    ['a frame before the settings', 'PROTOCOL_ERROR', preface + frame(6, 0, 0, '12345678')],
    ['HTTP/1.1', 'PROTOCOL_ERROR', 'GET / HTTP/1.1\r\nhost: a\r\n\r\n'],
  ])('ends at %s', async (_name, code, hello) => {
    const { port } = await serve();
    expect(await (await raw(port, hello)).ended()).toBe(errorCode[code]);
  });

  it.each<[string, keyof typeof errorCode, string]>([
    ['a frame past the size', 'FRAME_SIZE_ERROR', frame(0, 0, 1, 'x'.repeat(frameBytesDefault + 1))],
    ['a ping of seven bytes', 'FRAME_SIZE_ERROR', frame(6, 0, 0, '1234567')],
    ['a ping on a stream', 'PROTOCOL_ERROR', frame(6, 0, 1, '12345678')],
    ['settings of five bytes', 'FRAME_SIZE_ERROR', frame(4, 0, 0, '12345')],
    ['settings on a stream', 'PROTOCOL_ERROR', frame(4, 0, 1, '')],
    ['an acknowledgement that says something', 'FRAME_SIZE_ERROR', frame(4, 1, 0, '123456')],
    ['a push switched to two', 'PROTOCOL_ERROR', settingsFrame([[setting.enablePush, 2]])],
    ['a window past 2^31', 'FLOW_CONTROL_ERROR', settingsFrame([[setting.initialWindowSize, 2 ** 31]])],
    ['a frame size too small', 'PROTOCOL_ERROR', settingsFrame([[setting.maxFrameSize, 100]])],
    ['a push', 'PROTOCOL_ERROR', frame(5, 4, 1, uint32(2))],
    ['data on no stream', 'PROTOCOL_ERROR', data(0, 'x')],
    ['data on a stream never opened', 'PROTOCOL_ERROR', data(1, 'x')],
    ['a reset of a stream never opened', 'PROTOCOL_ERROR', rstStream(7, 'CANCEL')],
    ['a reset of the connection', 'PROTOCOL_ERROR', rstStream(0, 'CANCEL')],
    ['a window of a stream never opened', 'PROTOCOL_ERROR', windowUpdate(9, 1)],
    ['a window widened by nothing', 'PROTOCOL_ERROR', windowUpdate(0, 0)],
    ['a window widened too far', 'FLOW_CONTROL_ERROR', windowUpdate(0, 2 ** 31 - 1)],
    ['a request of an even number', 'PROTOCOL_ERROR', headers(2)],
    ['more padding than frame', 'PROTOCOL_ERROR', headers(1) + frame(0, 8, 1, '\x05abc')],
    [
      'a block that something interrupts',
      'PROTOCOL_ERROR',
      headers(1, post(), 0) + frame(6, 0, 0, '12345678'),
    ],
    ['a block that another stream continues', 'PROTOCOL_ERROR', headers(1, post(), 0) + frame(9, 4, 3, '')],
    ['a continuation of nothing', 'PROTOCOL_ERROR', frame(9, 4, 1, '')],
    ['a block that is none', 'COMPRESSION_ERROR', headers(1, '\xff\xff\xff\xff\xff\xff\xff')],
    [
      'a block of too many frames',
      'ENHANCE_YOUR_CALM',
      headers(1, post(), 0) + frame(9, 0, 1, '').repeat(limits.checkHeaderFramesMax),
    ],
    [
      'a block of too many bytes',
      'ENHANCE_YOUR_CALM',
      headers(1, post(), 0) + frame(9, 0, 1, '\x83'.repeat(16_000)).repeat(5),
    ],
    [
      'more bytes than the connection may have under way',
      'FLOW_CONTROL_ERROR',
      Array.from(
        { length: 70 },
        (_, index) => headers(2 * index + 1) + data(2 * index + 1, 'x'.repeat(16_000), 0),
      ).join(''),
    ],
  ])('ends at %s', async (_name, code, bytes) => {
    const { port, seen } = await serve();
    const client = await raw(port);
    client.send(bytes);
    expect(await client.ended()).toBe(errorCode[code]);
    await until(() => seen.every(({ gone }) => gone));
  });

  it.each<[string, keyof typeof errorCode, string]>([
    [
      'more data than its window',
      'FLOW_CONTROL_ERROR',
      headers(1) + data(1, 'x'.repeat(16_000), 0).repeat(13),
    ],
    ['data after its end', 'STREAM_CLOSED', headers(1, post(), 5) + data(1, 'x')],
    ['two ends', 'STREAM_CLOSED', headers(1, post(), 5) + headers(1, post(), 5)],
    ['trailers that do not end it', 'PROTOCOL_ERROR', headers(1) + headers(1)],
    ['a window widened by nothing', 'PROTOCOL_ERROR', headers(1) + windowUpdate(1, 0)],
    ['a window widened too far', 'FLOW_CONTROL_ERROR', headers(1) + windowUpdate(1, 2 ** 31 - 1)],
  ])('gives up one stream alone for %s', async (_name, code, bytes) => {
    const { port, seen } = await serve();
    const client = await raw(port);
    client.send(bytes);
    const [reset] = await client.wait(3);
    expect([reset?.id, reset?.payload.readUInt32BE(0)]).toEqual([1, errorCode[code]]);
    client.send(frame(6, 0, 0, '12345678'));
    await client.wait(6);
    expect(seen.map(({ gone }) => gone)).toEqual([true]);
  });

  it('survives any frames, tells every request that it is gone, and goes on with others', async () => {
    const { port, seen } = await serve(echo);
    const anything = fc.string({ unit: 'binary-ascii', maxLength: 40 });
    const id = fc.constantFrom(0, 1, 1, 3, 5, 2, 7);
    const piece = fc.oneof(
      fc
        .tuple(fc.nat({ max: 10 }), fc.nat({ max: 255 }), id, anything)
        .map(([t, f, i, text]) => frame(t, f, i, text)),
      id.map((i) => headers(i)),
      id.map((i) => headers(i, post(), 5)),
      fc.tuple(id, anything).map(([i, text]) => data(i, text)),
      fc.tuple(id, fc.nat()).map(([i, by]) => windowUpdate(i, by)),
      fc.tuple(fc.nat({ max: 7 }), fc.nat()).map(([s, value]) => settingsFrame([[s, value]])),
      id.map((i) => rstStream(i, 'CANCEL')),
      anything,
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 12 }), async (pieces) => {
        const from = seen.length;
        const client = await raw(port);
        client.send(...pieces);
        client.socket.end();
        await client.ended();
        await until(() => seen.slice(from).every((one) => one.gone || one.stream.isOver));
      }),
      { ...fuzzRuns, numRuns: 100 },
    );
    expect((await request(http2(port), Buffer.from('still'))).body.toString()).toBe('still');
  });
});
