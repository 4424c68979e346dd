/** What a stock Envoy makes of these servers' answers: the facts that encode.ts and denial.ts rest on. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingHttpHeaders, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serveGrpc } from '../../ext-authz/grpc-server.ts';
import { serveHttp } from '../../ext-authz/http-server.ts';
import type { Decision } from '../../filters/decision.ts';
import type { Call } from '../../filters/facts.ts';
import { envoyBinary } from '../support/envoy.ts';
import { checkerThat, silent, someAllow, someDeny, someHold, until } from './support.ts';

type Json = { [key: string]: unknown };
const type = (name: string) => `type.googleapis.com/${name}`;
const filter = (name: string, message: string, config: Json): Json => ({
  name,
  typed_config: { '@type': type(message), ...config },
});
const named = (path: string): Json => ({ pipe: { path } });
const cluster = (name: string, socket: string, http2: boolean): Json => ({
  name,
  load_assignment: {
    cluster_name: name,
    endpoints: [{ lb_endpoints: [{ endpoint: { address: named(socket) } }] }],
  },
  ...(http2
    ? {
        typed_extension_protocol_options: {
          'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
            '@type': type('envoy.extensions.upstreams.http.v3.HttpProtocolOptions'),
            explicit_http_config: { http2_protocol_options: {} },
          },
        },
      }
    : {}),
});

const authz = (config: Json): Json =>
  filter('envoy.filters.http.ext_authz', 'envoy.extensions.filters.http.ext_authz.v3.ExtAuthz', {
    transport_api_version: 'V3',
    status_on_error: { code: 'ServiceUnavailable' },
    with_request_body: { max_request_bytes: 65_536, pack_as_bytes: true },
    ...config,
  });

const listener = (name: string, check: Json, mutations: Json[]): Json => ({
  name,
  address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
  filter_chains: [
    {
      filters: [
        filter('hcm', 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager', {
          stat_prefix: name,
          early_header_mutation_extensions: [
            filter('early', 'envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation', {
              mutations,
            }),
          ],
          route_config: {
            virtual_hosts: [
              {
                name: 'all',
                domains: ['*'],
                routes: [
                  {
                    match: { prefix: '/' },
                    route: { cluster: name === 'grpc' ? 'pinned' : 'pinned-http' },
                    ...(name === 'grpc'
                      ? {
                          typed_per_filter_config: {
                            'envoy.filters.http.ext_authz': {
                              '@type': type('envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute'),
                              check_settings: { context_extensions: { stage: 'absolute', body: 'read' } },
                            },
                          },
                        }
                      : {}),
                  },
                ],
              },
            ],
          },
          http_filters: [check, filter('router', 'envoy.extensions.filters.http.router.v3.Router', {})],
        }),
      ],
    },
  ],
});

const pinned = (name: string, key: string): Json => ({
  name,
  type: 'ORIGINAL_DST',
  lb_policy: 'CLUSTER_PROVIDED',
  original_dst_lb_config: { metadata_key: { key: 'envoy.filters.http.ext_authz', path: [{ key }] } },
});

const overwrite = (key: string, value: string): Json => ({
  append: { header: { key, value }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
});

const bootstrap = (dir: string): Json => ({
  admin: { address: named(join(dir, 'admin.sock')) },
  static_resources: {
    listeners: [
      listener('grpc', authz({ grpc_service: { envoy_grpc: { cluster_name: 'authz' }, timeout: '5s' } }), [
        overwrite('x-sallyport-source', '%DOWNSTREAM_REMOTE_ADDRESS%'),
        overwrite('x-sallyport-connection', '%CONNECTION_ID%'),
        { remove: 'x-sallyport-agent' },
      ]),
      listener(
        'http',
        authz({
          http_service: {
            server_uri: { uri: 'http://sallyport', cluster: 'authz-http', timeout: '5s' },
            path_prefix: '/check',
            authorization_request: { headers_to_add: [{ key: 'x-sallyport-body', value: 'read' }] },
            authorization_response: {
              allowed_client_headers: {
                patterns: [
                  { prefix: 'x-sallyport-' },
                  { exact: 'retry-after' },
                  { exact: 'content-type' },
                  { prefix: 'grpc-' },
                ],
              },
              dynamic_metadata_from_headers: { patterns: [{ prefix: 'x-sallyport-' }] },
            },
          },
          allowed_headers: {
            patterns: [
              { exact: 'content-type' },
              { exact: 'x-forwarded-proto' },
              { exact: 'proxy-authorization' },
            ],
          },
        }),
        [{ remove: 'x-sallyport-stage' }],
      ),
    ],
    clusters: [
      cluster('authz', join(dir, 'grpc.sock'), true),
      cluster('authz-http', join(dir, 'http.sock'), false),
      pinned('pinned', 'dst'),
      pinned('pinned-http', 'x-sallyport-dst'),
    ],
  },
});

type Reply = Readonly<{ status: number; headers: IncomingHttpHeaders; body: string }>;
const get = (
  to: { port: number } | { socketPath: string },
  path: string,
  method = 'GET',
  headers: Record<string, string> = {},
  body = '',
): Promise<Reply> =>
  new Promise((resolve, reject) => {
    const out = request(
      { ...to, agent: false, path, method, headers: { host: 'api.example.com', ...headers } },
      (reply) => {
        let text = '';
        reply.on('data', (chunk: Buffer) => (text += chunk.toString()));
        reply.on('end', () => resolve({ status: reply.statusCode ?? 0, headers: reply.headers, body: text }));
      },
    );
    out.on('error', reject);
    out.end(body);
  });

let decide: (call: Call) => Decision = () => someAllow();
const checker = checkerThat((call) => decide(call));
const onRefusal = (): void => undefined;
const seen: IncomingHttpHeaders[] = [];
const upstream = createServer((message, reply) => {
  seen.push(message.headers);
  reply.setHeader('ratelimit', '"theirs";r=1;t=1');
  reply.setHeader('x-sallyport-decision', 'forged');
  reply.end('reached');
});
const ports = { grpc: 0, http: 0, upstream: 0 };
let dir = '';
let envoy: ChildProcess | undefined;
let grpc: Awaited<ReturnType<typeof serveGrpc>> | undefined;
let http: Awaited<ReturnType<typeof serveHttp>> | undefined;

const portOf = (server: { address(): unknown }): number => {
  const address = server.address();
  return typeof address === 'object' && address !== null && 'port' in address ? Number(address.port) : 0;
};

async function listeners(): Promise<Map<string, number>> {
  const { body } = await get({ socketPath: join(dir, 'admin.sock') }, '/listeners');
  return new Map(
    [...body.matchAll(/^(\w+)::127\.0\.0\.1:(\d+)$/gm)].map((match) => [match[1] ?? '', Number(match[2])]),
  );
}

beforeAll(async () => {
  const binary = await envoyBinary();
  dir = await mkdtemp(join(tmpdir(), 'sp-'));
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
  ports.upstream = portOf(upstream);
  grpc = await serveGrpc({ checker, log: silent, onRefusal, listen: { socketPath: join(dir, 'grpc.sock') } });
  http = await serveHttp({ checker, log: silent, onRefusal, listen: { socketPath: join(dir, 'http.sock') } });
  await writeFile(join(dir, 'envoy.json'), JSON.stringify(bootstrap(dir)));
  let log = '';
  envoy = spawn(binary, [
    '-c',
    join(dir, 'envoy.json'),
    '--concurrency',
    '1',
    '--disable-hot-restart',
    '-l',
    'error',
  ]);
  envoy.stderr?.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-4_000)));
  let found = new Map<string, number>();
  for (let tries = 0; found.size < 2; tries += 1) {
    if (envoy.exitCode !== null || tries > 400) throw new Error(`Envoy did not start: ${log}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
    found = await listeners().catch(() => new Map());
  }
  ports.grpc = found.get('grpc') ?? 0;
  ports.http = found.get('http') ?? 0;
});

afterAll(async () => {
  const ended = new Promise((resolve) => (envoy === undefined ? resolve(0) : envoy.once('exit', resolve)));
  envoy?.kill('SIGKILL');
  await ended;
  await Promise.all([grpc?.stop(), http?.stop()]);
  upstream.close();
  await rm(dir, { recursive: true });
});

const allow = () => someAllow({ pin: { address: '127.0.0.1', port: ports.upstream, class: 'internal' } });
const servers = ['grpc', 'http'] as const;
const rpc = JSON.stringify({ jsonrpc: '2.0', id: 'a1', method: 'tools/call' });
const json = { 'content-type': 'application/json' };

describe.each(servers)('Envoy asking over %s', (over) => {
  it('dials the pin of an Allow and sends on none of our headers', async () => {
    decide = allow;
    seen.length = 0;
    const reply = await get(
      { port: ports[over] },
      '/v1/things?a=1',
      'POST',
      { 'proxy-authorization': 'Basic eA==', 'x-sallyport-agent': 'forged' },
      'abc',
    );
    expect([reply.status, reply.body]).toEqual([200, 'reached']);
    const names = Object.keys(seen[0] ?? {});
    expect(names.filter((name) => name.startsWith('x-sallyport-'))).toEqual([]);
    expect(names).not.toContain('proxy-authorization');
    const call = checker.calls.at(-1);
    expect(call).toMatchObject({
      method: 'POST',
      authority: 'api.example.com',
      path: '/v1/things?a=1',
      scheme: 'http',
    });
    expect(call?.body).toMatchObject({ kind: 'whole' });
    expect(call?.body.kind === 'whole' && Buffer.from(call.body.bytes).toString()).toBe('abc');
  });

  it('hands on a denial with status, headers and body', async () => {
    decide = () => someHold();
    const reply = await get({ port: ports[over] }, '/v1/things');
    expect(reply.status).toBe(403);
    expect(reply.headers).toMatchObject({
      'content-type': 'application/problem+json',
      'retry-after': '5',
      'x-sallyport-error': 'HoldPending',
    });
    expect(JSON.parse(reply.body)).toMatchObject({ code: 'HoldPending' });
  });

  it('hands on a denial whose code is a failure of the sidecar', async () => {
    decide = () => someDeny('ServiceUnavailable');
    const reply = await get({ port: ports[over] }, '/v1/things');
    expect(reply.status).toBe(over === 'grpc' ? 503 : 403);
    expect(JSON.parse(reply.body)).toMatchObject({ code: 'ServiceUnavailable' });
  });

  it('never lets a JSON-RPC denial pass, whatever its HTTP status', async () => {
    decide = () => someDeny();
    seen.length = 0;
    const reply = await get({ port: ports[over] }, '/mcp', 'POST', json, rpc);
    expect(reply.status).toBe(over === 'grpc' ? 200 : 403);
    expect(JSON.parse(reply.body)).toMatchObject({ id: 'a1', error: { data: { code: 'EgressDenied' } } });
    expect(seen).toEqual([]);
  });

  it('turns the denial of a gRPC call into its status and message', async () => {
    decide = () => someDeny('Forbidden', { reason: '100 % nö' });
    const reply = await get({ port: ports[over] }, '/a.B/C', 'POST', {
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    expect(reply.status).toBe(200);
    expect(reply.headers).toMatchObject({
      'content-type': 'application/grpc',
      'grpc-status': '7',
      'grpc-message': '100 %25 n%C3%B6',
      'grpc-retry-pushback-ms': '-1',
    });
    expect(reply.body).toBe('');
  });
});

describe('Envoy asking over grpc', () => {
  it('adds our headers to the answer: ours over a forged one, and a limit beside another', async () => {
    decide = allow;
    const { headers } = await get({ port: ports.grpc }, '/');
    expect(headers['x-sallyport-decision']).toBe('dec_01ARZ3NDEKTSV4RRFFQ69G5FAV');
    expect(headers['ratelimit']).toBe('"theirs";r=1;t=1, "demo";r=2;t=60');
  });

  it('tells source and connection', async () => {
    decide = allow;
    await get({ port: ports.grpc }, '/');
    const connection = checker.calls.at(-1)?.connection;
    expect(connection?.sourceAddress).toBe('127.0.0.1');
    expect(connection?.sourcePort).toBeGreaterThan(0);
    expect(connection?.connectionId).toMatch(/^\d+$/);
  });

  it('aborts the check when its client goes', async () => {
    decide = allow;
    const before = checker.signals.length;
    const waiting = checkerThat(() => new Promise(() => undefined));
    const { check } = checker;
    Object.assign(checker, { check: waiting.check });
    try {
      const out = request({ port: ports.grpc, path: '/', agent: false, headers: { host: 'a.test' } });
      out.on('error', () => undefined);
      out.end();
      await until(() => waiting.calls.length === 1);
      out.destroy();
      await until(() => waiting.signals[0]?.aborted === true);
    } finally {
      Object.assign(checker, { check });
    }
    expect(checker.signals.length).toBe(before);
  });

  it('lets nothing pass once the server is gone', async () => {
    decide = allow;
    seen.length = 0;
    await grpc?.stop();
    expect((await get({ port: ports.grpc }, '/')).status).toBe(503);
    expect(seen).toEqual([]);
  });
});
