import { describe, expect, it } from 'vitest';
import { limits } from '../../config/limits.ts';
import {
  errorCode,
  frame,
  headerBlock,
  preface,
  rstStream,
  setting,
  settingsFrame,
  uint32,
  windowUpdate,
} from '../../ext-authz/h2-frames.ts';
import { data, echo, headers, http2, ok, post, raw, request, serve } from './h2-support.ts';
import { until } from './support.ts';

describe('with nghttp2 as the client', () => {
  it('answers many requests at once, each with its own bytes and trailers', async () => {
    const { port, seen } = await serve(echo);
    const session = http2(port);
    const bodies = Array.from({ length: 90 }, (_, index) => Buffer.alloc(index * 700, index));
    const answers = await Promise.all(
      bodies.map((body, index) => request(session, body, { 'x-index': `i${index}` })),
    );
    expect(answers.map(({ status, trailer }) => [status, trailer])).toEqual(bodies.map(() => [200, 'done']));
    expect(answers.every(({ body }, index) => body.equals(bodies[index] ?? Buffer.alloc(0)))).toBe(true);
    expect(seen.map(({ head }) => head.fields.get('x-index'))).toEqual(bodies.map((_, index) => `i${index}`));
    expect(seen[0]?.head).toMatchObject({ method: 'POST', path: '/a' });
  });

  it('keeps to the windows that the client gives', async () => {
    const { port } = await serve(echo);
    const body = Buffer.alloc(150_000, 'w');
    const answer = await request(http2(port, { initialWindowSize: 10 }), body);
    expect(answer.body.equals(body)).toBe(true);
    expect(answer.trailer).toBe('done');
  });

  it('sends no more than the connection takes, and the rest when it takes more', async () => {
    const { port, seen } = await serve(({ stream }) => {
      stream.head(ok, false);
      stream.data('x'.repeat(100_000));
    });
    const wide = settingsFrame([[setting.initialWindowSize, 10]]);
    const client = await raw(port, preface + wide);
    const got = (): number =>
      client.got().reduce((sum, { type, payload }) => sum + (type === 0 ? payload.length : 0), 0);
    client.send(headers(1, post(), 5));
    await until(() => got() === 10);
    // Also of a stream that is open already (section 6.9.2).
    client.send(settingsFrame([[setting.initialWindowSize, 1_000_000]]));
    await until(() => got() === 65_535);
    client.send(windowUpdate(0, 5), frame(6, 0, 0, '12345678'));
    await client.wait(6);
    expect(got()).toBe(65_540);
    client.send(windowUpdate(0, 100_000));
    await until(() => got() === 100_000);
    seen[0]?.stream.data('last');
    await until(() => got() === 100_004);
  });

  it('goes on past the bytes that one connection may have under way', async () => {
    const { port } = await serve(echo, { windowBytes: 100_000, streamWindowBytes: 70_000 });
    const session = http2(port);
    for (let round = 0; round < 20; round += 1)
      expect((await request(session, Buffer.alloc(60_000))).body.length).toBe(60_000);
  });

  it('refuses a stream past the limit so that it may be tried again', async () => {
    const { port, seen } = await serve(undefined, { streamsMax: 1 });
    const client = await raw(port);
    client.send(headers(1), headers(3));
    const [refused] = await client.wait(3);
    expect([refused?.id, refused?.payload.readUInt32BE(0)]).toEqual([3, errorCode.REFUSED_STREAM]);
    expect(seen).toHaveLength(1);
  });
});

describe('a request', () => {
  it('is read whole from padded and cut pieces, with priorities and a continued block', async () => {
    const { port, seen } = await serve();
    const client = await raw(port);
    const block = post('/cut');
    const bytes = [
      frame(1, 0x8 | 0x20, 1, `\x03${uint32(0)}\x10${block.slice(0, 5)}\0\0\0`),
      frame(9, 0, 1, block.slice(5, 9)),
      frame(9, 4, 1, block.slice(9)),
      frame(2, 0, 1, `${uint32(0)}\x10`),
      data(1, '\x02ab\0\0', 0x8),
      frame(0xee, 0xff, 1, 'a type that nobody knows'),
      data(1, 'cd', 0),
      frame(1, 0x4 | 0x1, 1, headerBlock(undefined, [['x-trailer', 'late']])),
    ].join('');
    for (const byte of bytes) {
      client.send(byte);
      await new Promise(setImmediate);
    }
    await until(() => seen[0]?.whole === true);
    expect(seen[0]?.head.path).toBe('/cut');
    expect(seen[0]?.body.toString()).toBe('abcd');
  });

  it('that its client gives up is told as gone, once, and what comes of it later is ignored', async () => {
    const { port, seen } = await serve(echo);
    const client = await raw(port);
    client.send(headers(1), data(1, 'abc', 0), rstStream(1, 'CANCEL'));
    await until(() => seen[0]?.gone === true);
    client.send(data(1, 'more'), rstStream(1, 'CANCEL'), windowUpdate(1, 5), headers(3), data(3, 'x'));
    await client.wait(0);
    expect(seen.map(({ gone }) => gone)).toEqual([true, false]);
    seen[0]?.stream.head(ok, true);
    expect(client.got().filter(({ id }) => id === 1)).toEqual([]);
  });

  it('is gone when its connection is', async () => {
    const { port, seen } = await serve();
    const client = await raw(port);
    client.send(headers(1, post(), 5));
    await until(() => seen[0]?.whole === true);
    client.socket.destroy();
    await until(() => seen[0]?.gone === true);
  });

  it('that is answered before it is whole is told that the rest is not wanted', async () => {
    const { port, seen } = await serve();
    const client = await raw(port);
    client.send(headers(1));
    await until(() => seen.length === 1);
    seen[0]?.stream.head(ok, true);
    const [reset] = await client.wait(3);
    expect(reset?.payload.readUInt32BE(0)).toBe(errorCode.NO_ERROR);
    client.send(data(1, 'late'), headers(3, post(), 5));
    await until(() => seen.length === 2);
    expect(seen.map(({ gone }) => gone)).toEqual([false, false]);
  });

  it('that is not whole in time is given up', async () => {
    const { port, seen, connections } = await serve();
    const client = await raw(port);
    client.send(headers(1), headers(3, post(), 5));
    await until(() => seen[1]?.whole === true);
    connections[0]?.sweep(limits.requestHeadersTimeoutMs);
    expect(seen.map(({ gone }) => gone)).toEqual([false, false]);
    connections[0]?.sweep(limits.requestHeadersTimeoutMs + 1);
    expect(seen.map(({ gone }) => gone)).toEqual([true, false]);
    expect((await client.wait(3)).map(({ id }) => id)).toEqual([1]);
  });

  it.each<[string, string]>([
    ['without method', `\x86${headerBlock(undefined, [[':path', '/']])}`],
    ['without path', '\x83\x86'],
    ['without scheme', `\x83${headerBlock(undefined, [[':path', '/']])}`],
    ['with two paths', post('/a', [[':path', '/b']])],
    ['with a pseudo-header after a field', `${post('/a', [['a', 'b']])}\x01\x01h`],
    ['with a pseudo-header of answers', `${post()}\x88`],
    ['with upper case', post('/a', [['X-A', '1']])],
    ['with a field of the connection', post('/a', [['connection', 'close']])],
    ['with a line feed in a value', post('/a', [['a', 'b\nc: d']])],
    ['with another te', post('/a', [['te', 'gzip']])],
  ])('%s is malformed, and the connection goes on', async (_name, block) => {
    const { port, seen } = await serve(echo);
    const client = await raw(port);
    client.send(headers(1, block, 5), headers(3, post(), 5));
    const [reset] = await client.wait(3);
    expect([reset?.id, reset?.payload.readUInt32BE(0)]).toEqual([1, errorCode.PROTOCOL_ERROR]);
    await until(() => seen.length === 1);
  });

  it('has its own fields though its block has the bytes of another, when the table changed between', async () => {
    const { port, seen } = await serve();
    const client = await raw(port);
    const insert = (value: string): string => `\x83\x86\x44\x02/${value}`;
    client.send(headers(1, insert('x'), 5), headers(3, '\x83\x86\xbe', 5), headers(5, '\x83\x86\xbe', 5));
    client.send(headers(7, insert('y'), 5), headers(9, '\x83\x86\xbe', 5));
    client.send(headers(11, insert('y'), 5), headers(13, '\x83\x86\xc0', 5));
    await until(() => seen.length === 7);
    expect(seen.map(({ head }) => head.path)).toEqual(['/x', '/x', '/x', '/y', '/y', '/y', '/x']);
  });

  it('whose trailers are not read leaves the table as its client believes it', async () => {
    const { port, seen } = await serve();
    const client = await raw(port);
    client.send(headers(1), headers(1, '\x44\x02/t', 5), headers(3, '\x83\x86\xbe', 5));
    await until(() => seen.length === 2);
    expect(seen[1]?.head.path).toBe('/t');
  });

  it('is not begun again by headers that come after its end', async () => {
    const { port, seen } = await serve(({ stream }) => stream.head(ok, true));
    const client = await raw(port);
    client.send(headers(1, post(), 5));
    await client.wait(1);
    client.send(headers(1, post(), 5), headers(3, post(), 5));
    await client.wait(1, 2);
    expect(seen).toHaveLength(2);
  });
});
