import { mkdtemp, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, credentials, makeGenericClientConstructor, type ServiceError, status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { type GrpcOptions, serveGrpc } from '../../ext-authz/grpc-server.ts';
import type { Decision } from '../../filters/decision.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { ask, codeOf, errorIn } from './grpc-client.ts';
import { authorizationService, healthService } from './protos.ts';
import { checkerThat, httpCheck, silent, someAllow, someDeny, until } from './support.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function place(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'sp-'));
  closers.push(() => rm(dir, { recursive: true }));
  return join(dir, 'authz.sock');
}

const never = (): Promise<Decision> => new Promise(() => undefined);

async function serve(options: Partial<GrpcOptions> = {}) {
  const checker = options.checker ?? checkerThat(() => someAllow());
  const server = await serveGrpc({
    log: silent,
    onRefusal: () => undefined,
    ...options,
    checker,
    listen: options.listen ?? { socketPath: await place() },
  });
  closers.push(server.stop);
  const client = new Client(server.address, credentials.createInsecure());
  closers.push(() => client.close());
  return { server, client, address: server.address };
}

describe('Authorization/Check on a Unix socket', () => {
  it('carries an HTTP request to the checker and its Allow back', async () => {
    const checker = checkerThat(() => someAllow());
    const { client } = await serve({ checker });
    const answer = await ask(
      client,
      httpCheck(
        { method: 'POST', headers: {}, raw_body: Buffer.from([0xff, 0]) },
        { context_extensions: { stage: 'absolute', body: 'read' } },
      ),
    ).answer;
    expect(answer.status?.code ?? 0).toBe(0);
    expect(answer.ok_response?.headers_to_remove).toContain('x-sallyport-agent');
    expect(answer.dynamic_metadata?.fields['dst']).toMatchObject({ stringValue: '203.0.113.10:443' });
    expect(checker.calls[0]).toMatchObject({
      method: 'POST',
      authority: 'api.example.com',
      body: { kind: 'whole', bytes: Buffer.from([0xff, 0]) },
    });
    expect(checker.settled).toEqual([]);
  });

  it('reads the MCP message and the initial metadata of a network filter off the wire', async () => {
    const checker = checkerThat(() => someAllow({ inspect: 'sni' }));
    const { client } = await serve({ checker });
    const message = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'fetch' } };
    await ask(
      client,
      httpCheck(
        {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          raw_body: Buffer.from(JSON.stringify(message)),
        },
        { context_extensions: { stage: 'absolute', body: 'read', mcp: 'required' } },
      ),
    ).answer;
    const metadata = {
      'x-sallyport-stage': 'opaque',
      'x-sallyport-connect': 'a.test:443',
      'x-sallyport-agent': 'demo',
      'x-sallyport-source': '127.0.0.1:9',
      'x-sallyport-connection': '3',
    };
    const opaque = await ask(client, { attributes: { tls_session: { sni: 'A.test' } } }, { metadata }).answer;
    expect(checker.calls.map(({ stage, mcp, connection }) => [stage, mcp.kind, connection.sni])).toEqual([
      ['request', 'call', ''],
      ['tunnel', 'none', 'a.test'],
    ]);
    expect(opaque.dynamic_metadata?.fields['mode']).toMatchObject({ stringValue: 'opaque' });
  });

  it('denies what the checker denies, what it cannot read, and what fails inside', async () => {
    let fail: unknown;
    const { client } = await serve({
      checker: checkerThat(() => {
        if (fail !== undefined) throw fail;
        return someDeny();
      }),
    });
    expect(errorIn(await ask(client, httpCheck()).answer)).toBe('EgressDenied');
    expect(errorIn(await ask(client, {}).answer)).toBe('RequestMalformed');
    fail = new Error('secret inner cause');
    const internal = await ask(client, httpCheck()).answer;
    expect(errorIn(internal)).toBe('Internal');
    expect(JSON.stringify(internal)).not.toContain('secret inner cause');
    fail = new SallyportError('StateUnavailable', 'the disk is full');
    expect(errorIn(await ask(client, httpCheck()).answer)).toBe('StateUnavailable');
  });

  it('denies an Allow that it cannot encode, and gives back what it took', async () => {
    const checker = checkerThat(() => someAllow({ pin: undefined }));
    const { client } = await serve({ checker });
    expect(errorIn(await ask(client, httpCheck()).answer)).toBe('Internal');
    expect(checker.settled).toMatchObject([[{ kind: 'Allow' }, 'NotSent']]);
  });

  it('refuses a message past the limit without an answer', async () => {
    const checker = checkerThat(() => someAllow());
    const { client } = await serve({ checker });
    const large = httpCheck({ raw_body: Buffer.alloc(limits.checkRequestBytesMax) });
    expect(await codeOf(ask(client, large).answer)).toBe(status.RESOURCE_EXHAUSTED);
    expect(checker.calls).toEqual([]);
  });

  it('survives any bytes, and never lets them pass', async () => {
    const checker = checkerThat(() => someAllow());
    const { client } = await serve({ checker });
    const path = '/envoy.service.auth.v3.Authorization/Check';
    const send = (bytes: Buffer): Promise<Buffer | undefined> =>
      new Promise((resolve) => {
        client.makeUnaryRequest<Buffer, Buffer>(
          path,
          (b) => b,
          (b) => b,
          bytes,
          (_error, value) => resolve(value),
        );
      });
    const decode = authorizationService()['Check']?.responseDeserialize;
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        const value = await send(Buffer.from(bytes));
        if (value !== undefined) expect(decode?.(value)).toHaveProperty('denied_response');
      }),
      fuzzRuns,
    );
    expect(checker.calls).toEqual([]);
  });
});

describe('a caller that leaves', () => {
  it('aborts the check, and an Allow that comes later is settled as not sent', async () => {
    let decide: (decision: Decision) => void = () => undefined;
    const checker = checkerThat(() => new Promise((resolve) => (decide = resolve)));
    const { client } = await serve({ checker });
    const { answer, cancel } = ask(client, httpCheck());
    await until(() => checker.calls.length === 1);
    cancel();
    expect(await codeOf(answer)).toBe(status.CANCELLED);
    await until(() => checker.signals[0]?.aborted === true);
    decide(someAllow());
    await until(() => checker.settled.length === 1);
    expect(checker.settled).toMatchObject([[{ kind: 'Allow' }, 'NotSent']]);
  });

  it('is taken for gone when its deadline passes', async () => {
    const checker = checkerThat(never);
    const { client } = await serve({ checker });
    expect(await codeOf(ask(client, httpCheck(), { deadline: Date.now() + 200 }).answer)).toBe(
      status.DEADLINE_EXCEEDED,
    );
    await until(() => checker.signals[0]?.aborted === true);
  });

  it('is not one that got its answer', async () => {
    const checker = checkerThat(() => someAllow());
    const { client } = await serve({ checker });
    await ask(client, httpCheck()).answer;
    await ask(client, httpCheck()).answer;
    expect(checker.signals.map((signal) => signal.aborted)).toEqual([false, false]);
    expect(checker.settled).toEqual([]);
  });
});

describe('limits', () => {
  it('tells of a denial that the checker never saw', async () => {
    const checker = checkerThat(() => someAllow());
    const refusals: string[] = [];
    const { client } = await serve({ checker, onRefusal: (deny) => refusals.push(deny.code) });
    const answer = await ask(client, httpCheck({ host: '' })).answer;
    expect(refusals).toEqual([errorIn(answer)]);
    expect(checker.calls).toEqual([]);
  });

  it('denies a check that takes too long, and undoes what it decides later', async () => {
    let decide: (decision: Decision) => void = () => undefined;
    const checker = checkerThat(() => new Promise((resolve) => (decide = resolve)));
    const { client } = await serve({ checker, checkTimeoutMs: 20 });
    expect(errorIn(await ask(client, httpCheck()).answer)).toBe('ServiceUnavailable');
    expect(checker.signals[0]?.aborted).toBe(true);
    decide(someAllow());
    await until(() => checker.settled.length === 1);
  });
});

describe('TCP', () => {
  const token = 'a-token-of-enough-characters';
  const listen = { host: '127.0.0.1', port: 0, token };

  it('wants the bearer token before it reads anything', async () => {
    const checker = checkerThat(() => someAllow());
    const { client } = await serve({ checker, listen });
    const as = (authorization: string) => ask(client, httpCheck(), { metadata: { authorization } }).answer;
    expect(await codeOf(ask(client, httpCheck()).answer)).toBe(status.UNAUTHENTICATED);
    expect(await codeOf(as('Bearer wrong'))).toBe(status.UNAUTHENTICATED);
    expect(await codeOf(as(token))).toBe(status.UNAUTHENTICATED);
    expect(checker.calls).toEqual([]);
    expect((await as(`Bearer ${token}`)).ok_response).toBeDefined();
  });

  it('is only served on loopback, with a token worth the name', async () => {
    const refused = (over: object) =>
      serveGrpc({
        checker: checkerThat(() => someAllow()),
        log: silent,
        onRefusal: () => undefined,
        listen: { ...listen, ...over },
      });
    await expect(refused({ host: '0.0.0.0' })).rejects.toMatchObject({ code: 'SettingsInvalid' });
    await expect(refused({ token: 'short' })).rejects.toMatchObject({ code: 'SettingsInvalid' });
  });

  it('names a port in use', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    closers.push(() => taken.close());
    const address = taken.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    await expect(serve({ listen: { ...listen, port } })).rejects.toThrow(/EADDRINUSE|address already in use/);
  });
});

describe('the socket', () => {
  it('is made with its mode, with nothing left beside it, and gone after stop', async () => {
    const socketPath = await place();
    const { server } = await serve({ listen: { socketPath, socketMode: 0o660 } });
    expect((await stat(socketPath)).mode & 0o777).toBe(0o660);
    expect(await readdir(join(socketPath, '..'))).toEqual(['authz.sock']);
    await server.stop();
    expect(await readdir(join(socketPath, '..'))).toEqual([]);
  });

  it('is 0600 unless asked otherwise', async () => {
    const socketPath = await place();
    await serve({ listen: { socketPath } });
    expect((await stat(socketPath)).mode & 0o777).toBe(0o600);
  });

  it('replaces a stale one, but neither one that is served nor a file', async () => {
    const socketPath = await place();
    const { client } = await serve({ listen: { socketPath } });
    await expect(serve({ listen: { socketPath } })).rejects.toThrow('another process listens');
    expect((await ask(client, httpCheck()).answer).ok_response).toBeDefined();
    const filePath = await place();
    await writeFile(filePath, 'kept');
    await expect(serve({ listen: { socketPath: filePath } })).rejects.toThrow('not a socket');
    const stale = await place();
    const left = createServer();
    await new Promise<void>((resolve) => left.listen(`${stale}.tmp`, resolve));
    await rename(`${stale}.tmp`, stale);
    await new Promise((resolve) => left.close(resolve));
    const { client: second } = await serve({ listen: { socketPath: stale } });
    expect((await ask(second, httpCheck()).answer).ok_response).toBeDefined();
  });

  it('of a path that is too long is refused with its length', async () => {
    const socketPath = join(await place(), 'x'.repeat(limits.socketPathBytesMax));
    await expect(serve({ listen: { socketPath } })).rejects.toThrow(/limit is 107/);
  });
});

describe('grpc.health.v1', () => {
  const clientOf = (address: string) => {
    const Constructor = makeGenericClientConstructor(healthService(), 'Health');
    const client = new Constructor(address, credentials.createInsecure());
    closers.push(() => client.close());
    return client;
  };
  const check = (address: string, service: string): Promise<unknown> =>
    new Promise((resolve, reject) => {
      clientOf(address)['Check']?.({ service }, (error: ServiceError | null, value: unknown) =>
        error === null ? resolve(value) : reject(error),
      );
    });

  it('answers for the server and the service, also without the token', async () => {
    const { address } = await serve({
      listen: { host: '127.0.0.1', port: 0, token: 'a-token-of-enough-characters' },
    });
    expect(await check(address, '')).toEqual({ status: 'SERVING' });
    expect(await check(address, 'envoy.service.auth.v3.Authorization')).toEqual({ status: 'SERVING' });
    expect(await codeOf(check(address, 'other'))).toBe(status.NOT_FOUND);
  });

  it('reads no more of a message that needs no token than a name is long', async () => {
    const { address } = await serve();
    const long = (bytes: number): Promise<number | undefined> => codeOf(check(address, 'x'.repeat(bytes)));
    expect(await long(limits.healthMessageBytesMax - 10)).toBe(status.NOT_FOUND);
    expect(await long(limits.healthMessageBytesMax + 1)).toBe(status.RESOURCE_EXHAUSTED);
  });

  it('tells watchers that it stops, and ends', async () => {
    const { server, address } = await serve();
    const seen: unknown[] = [];
    const stream = clientOf(address)['Watch']?.({ service: '' });
    let ended = false;
    stream?.on('data', (message: unknown) => seen.push(message));
    stream?.on('end', () => (ended = true));
    await until(() => seen.length === 1);
    await server.stop();
    await until(() => ended);
    expect(seen).toEqual([{ status: 'SERVING' }, { status: 'NOT_SERVING' }]);
  });
});

describe('stop', () => {
  it('lets a check end that is about to', async () => {
    let decide: (decision: Decision) => void = () => undefined;
    const checker = checkerThat(() => new Promise((resolve) => (decide = resolve)));
    const { server, client } = await serve({ checker });
    const { answer } = ask(client, httpCheck());
    await until(() => checker.calls.length === 1);
    const stopped = server.stop();
    decide(someAllow());
    expect((await answer).ok_response).toBeDefined();
    await stopped;
  });

  it('aborts one that waits, which then answers', async () => {
    const checker = checkerThat(
      (_call, signal) =>
        new Promise((resolve) =>
          signal.addEventListener('abort', () => resolve(someDeny('ServiceUnavailable'))),
        ),
    );
    const { server, client } = await serve({ checker, stopTimeoutMs: 2_000 });
    const { answer } = ask(client, httpCheck());
    await until(() => checker.calls.length === 1);
    const stopped = server.stop();
    expect(errorIn(await answer)).toBe('ServiceUnavailable');
    await stopped;
  });

  it('cuts one that never ends', async () => {
    const checker = checkerThat(never);
    const { server, client } = await serve({ checker, stopTimeoutMs: 100 });
    const { answer } = ask(client, httpCheck());
    const code = codeOf(answer);
    await until(() => checker.calls.length === 1);
    await server.stop();
    expect(await code).toBeDefined();
  });
});
