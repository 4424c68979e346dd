import { describe, expect, it, vi } from 'vitest';
import { limits } from '../../config/limits.ts';
import { rstStream, uint32 } from '../../ext-authz/h2-frames.ts';
import { acceptGrpc, type GrpcCall, grpcStatus, type Method } from '../../ext-authz/h2-grpc.ts';
import { HpackDecoder } from '../../ext-authz/h2-hpack.ts';
import { data, headers, post, raw, serve } from './h2-support.ts';
import { until } from './support.ts';

type Got = { call: GrpcCall; message: string };
const type: readonly [string, string] = ['content-type', 'application/grpc'];
const message = (text: string, flag = '\0'): string => `${flag}${uint32(text.length)}${text}`;

async function world(method: (got: Got) => void = ({ call }) => call.answer('yes')) {
  const got: Got[] = [];
  const check: Method = (call, bytes) => {
    const one = { call, message: bytes.toString('latin1') };
    got.push(one);
    method(one);
  };
  const accept = acceptGrpc({
    methods: new Map([['/s/M', check]]),
    refusal: (path, metadata) => (path === '/s/M' && metadata.has('x-wrong') ? 'who are you' : undefined),
  });
  const { port } = await serve(undefined, {
    accept,
    streamWindowBytes: limits.checkRequestBytesMax + 100,
    windowBytes: 2 ** 24,
  });
  const client = await raw(port);
  /** Fields of the last block of a stream, and the data before it. */
  const answer = async (
    id: number,
  ): Promise<{
    status: string | undefined;
    words: string | undefined;
    data: string;
    http: string | undefined;
  }> => {
    const of = () => client.got().filter((one) => one.id === id);
    await until(() => of().some(({ type: kind, flags }) => kind === 1 && (flags & 1) === 1));
    const fields = new Map(
      of()
        .filter(({ type: kind }) => kind === 1)
        .flatMap(({ payload }) => new HpackDecoder().decode(payload)),
    );
    const bytes = of()
      .filter(({ type: kind }) => kind === 0)
      .map(({ payload }) => payload.toString('latin1'));
    return {
      status: fields.get('grpc-status'),
      words: fields.get('grpc-message'),
      data: bytes.join(''),
      http: fields.get(':status'),
    };
  };
  return { got, client, answer };
}
const call = (id: number, body: string, more: [string, string][] = []): string =>
  headers(id, post('/s/M', [type, ...more])) + data(id, body);

describe('a call', () => {
  it('is its message, and is answered with one', async () => {
    const { got, client, answer } = await world();
    client.send(
      call(1, message('hello')),
      headers(3, post('/s/M', [['content-type', 'application/grpc+proto']])),
    );
    for (const piece of [message('in').slice(0, 3), message('in').slice(3, 6), message('in').slice(6)])
      client.send(data(3, piece, 0));
    client.send(data(3, ''));
    expect(await answer(1)).toEqual({ status: '0', words: undefined, data: message('yes'), http: '200' });
    await answer(3);
    expect(got.map((one) => one.message)).toEqual(['hello', 'in']);
  });

  it('is the same message in pieces of any size', async () => {
    const { got, client, answer } = await world();
    const text = Array.from({ length: 3_000 }, (_, index) => String.fromCharCode(index % 256)).join('');
    const sizes = [1, 2, 7, 1_000];
    for (const [index, size] of sizes.entries()) {
      const id = 2 * index + 1;
      const whole = message(text);
      client.send(headers(id, post('/s/M', [type])));
      for (let at = 0; at < whole.length; at += size) client.send(data(id, whole.slice(at, at + size), 0));
      client.send(data(id, ''));
      await answer(id);
    }
    expect(got.map((one) => one.message)).toEqual(sizes.map(() => text));
  });

  it('fails at the first byte past its message, which nobody keeps', async () => {
    const { got, client, answer } = await world();
    client.send(headers(1, post('/s/M', [type])), data(1, message('one'), 0), data(1, '\0', 0));
    expect((await answer(1)).status).toBe(String(grpcStatus.internal));
    expect(got).toEqual([]);
  });

  it.each<[string, string, number]>([
    ['of a method that is not there', headers(1, post('/s/N', [type]), 5), grpcStatus.unimplemented],
    [
      'that says who it is in vain',
      headers(1, post('/s/M', [type, ['x-wrong', '1']])),
      grpcStatus.unauthenticated,
    ],
    ['without message', headers(1, post('/s/M', [type]), 5), grpcStatus.internal],
    ['whose message is cut', call(1, message('hello').slice(0, 8)), grpcStatus.internal],
    ['of two messages', call(1, message('one') + message('two')), grpcStatus.internal],
    ['that is compressed', call(1, message('hello', '\x01')), grpcStatus.unimplemented],
    ['with a timeout that is none', call(1, message('a'), [['grpc-timeout', 'soon']]), grpcStatus.internal],
    [
      'past the limit, before it is all there',
      headers(1, post('/s/M', [type])) + data(1, `\0${uint32(limits.checkRequestBytesMax + 1)}x`, 0),
      grpcStatus.resourceExhausted,
    ],
  ])('%s fails and reaches no method', async (_name, bytes, status) => {
    const { got, client, answer } = await world();
    client.send(bytes);
    expect((await answer(1)).status).toBe(String(status));
    expect(got).toEqual([]);
    // The connection goes on.
    client.send(call(3, message('next')));
    expect((await answer(3)).status).toBe('0');
  });

  it.each<[string, string]>([
    ['of another method', `\x82\x86\x04\x04/s/M`],
    ['of another type', post('/s/M', [['content-type', 'application/json']])],
    ['of grpc-web', post('/s/M', [['content-type', 'application/grpc-web']])],
    ['of no type', post('/s/M')],
  ])('%s is none, and is told so in HTTP', async (_name, block) => {
    const { got, client, answer } = await world();
    client.send(headers(1, block, 5));
    expect(await answer(1)).toMatchObject({ http: '415', status: undefined });
    expect(got).toEqual([]);
  });

  it('that its caller gives up is told to the method once, and its answer goes nowhere', async () => {
    const gone = vi.fn();
    const { got, client } = await world((one) => (one.call.onGone = gone));
    client.send(call(1, message('a')), rstStream(1, 'CANCEL'));
    await until(() => got[0]?.call.isGone === true);
    got[0]?.call.answer('late');
    client.send(call(3, message('b')));
    await until(() => got.length === 2);
    expect(gone).toHaveBeenCalledTimes(1);
    expect(client.got().filter(({ id }) => id === 1)).toEqual([]);
  });

  it('ends at its own deadline, with its status', async () => {
    const gone = vi.fn();
    const { client, answer } = await world((one) => (one.call.onGone = gone));
    client.send(call(1, message('a'), [['grpc-timeout', '20m']]));
    expect((await answer(1)).status).toBe(String(grpcStatus.deadlineExceeded));
    expect(gone).toHaveBeenCalledTimes(1);
  });

  it('has no deadline of its own past ours, and none once it is answered', async () => {
    const timers = vi.spyOn(globalThis, 'setTimeout');
    const { client, answer } = await world();
    timers.mockClear();
    client.send(
      call(1, message('a'), [['grpc-timeout', '90S']]),
      call(3, message('a'), [['grpc-timeout', '2H']]),
    );
    await answer(3);
    expect(timers.mock.calls.filter(([, ms]) => ms !== undefined && ms >= 90_000)).toEqual([]);
    const cleared = vi.spyOn(globalThis, 'clearTimeout');
    client.send(call(5, message('a'), [['grpc-timeout', '80S']]));
    await answer(5);
    const own = timers.mock.calls.findIndex(([, ms]) => ms === 80_000);
    expect(cleared).toHaveBeenCalledWith(timers.mock.results[own]?.value);
    vi.restoreAllMocks();
  });

  it('is told why in words that a header can hold', async () => {
    const { client, answer } = await world((one) => one.call.fail(3, 'nö: 100 %\n'));
    client.send(call(1, message('a')));
    expect(await answer(1)).toMatchObject({ status: '3', words: 'n?: 100 ??' });
  });
});
