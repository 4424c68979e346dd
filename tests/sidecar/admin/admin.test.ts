/** The admin API of a real sidecar: who gets in, and what they are told. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bearerMatches } from '../../../sidecar/admin/token.ts';
import { agentUid, type Bench, curl, makeBench, type Running, startRunning } from '../../support/sidecar.ts';

let bench: Bench;
let running: Running;
let token: string;
beforeAll(async () => {
  bench = await makeBench();
  running = await startRunning(bench, [], { SALLYPORT_ADMIN_PORT: '0' });
  token = readFileSync(join(running.status.state_dir, 'admin.token'), 'utf8').trim();
});
afterAll(async () => bench.close());

type Answer = { status: number; type: string; text: string };
type Ask = { method?: string; body?: string; headers?: Record<string, string> };

function ask(
  over: 'socket' | 'tcp',
  path: string,
  { method = 'GET', body, headers = {} }: Ask = {},
): Promise<Answer> {
  const url = new URL(running.status.admin.url ?? '');
  const where =
    over === 'socket' ? { socketPath: running.status.admin.socket } : { host: url.hostname, port: url.port };
  const type: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const call = request({ ...where, path, method, headers: { ...type, ...headers } }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'] ?? '', text }),
      );
    });
    call.on('error', reject);
    call.end(body);
  });
}
const bearer = () => ({ authorization: `Bearer ${token}` });

describe('on the Unix socket', () => {
  test('everything is 0600 or 0700 but what agents need', () => {
    const mode = (path: string): number => statSync(path).mode & 0o777;
    const { status } = running;
    expect(mode(status.admin.socket)).toBe(0o600);
    expect(mode(status.run_dir)).toBe(0o711);
    expect(mode(status.state_dir)).toBe(0o700);
    expect(mode(join(status.state_dir, 'admin.token'))).toBe(0o600);
    expect(mode(join(status.state_dir, 'holds.db'))).toBe(0o600);
    expect(mode(status.ca.file)).toBe(0o644);
  });

  test('another user cannot open it, and the sidecar’s own can', async () => {
    const source = `require('node:net').connect(${JSON.stringify(running.status.admin.socket)})
      .on('error', (e) => process.stdout.write(e.code)).on('connect', function () { process.stdout.write('open'); this.end(); })`;
    const asUser = (ids: object): Promise<string> =>
      new Promise((resolve) => {
        // The system's own Node or ours: whichever that user may run.
        const child = spawn('node', ['-e', source], {
          stdio: ['ignore', 'pipe', 'inherit'],
          cwd: '/',
          env: { PATH: '/usr/local/bin:/usr/bin:/bin' },
          ...ids,
        });
        let out = '';
        child.stdout?.setEncoding('utf8').on('data', (text: string) => {
          out += text;
        });
        child.once('close', () => resolve(out));
      });
    const isRoot = process.getuid?.() === 0;
    expect(await asUser(isRoot ? { uid: agentUid, gid: agentUid } : {})).toBe(isRoot ? 'EACCES' : 'open');
    expect(await asUser({})).toBe('open');
  });

  test.each([
    ['/v1/nothing', 'GET', undefined, 404, 'NotFound'],
    ['/v1/holds/hold_bad', 'GET', undefined, 400, 'RequestMalformed'],
    ['/v1/holds/hold_01ARZ3NDEKTSV4RRFFQ69G5FAV', 'GET', undefined, 404, 'HoldNotFound'],
    ['/v1/holds?limit=100000', 'GET', undefined, 400, 'RequestMalformed'],
    ['/v1/holds?state=Sleeping', 'GET', undefined, 400, 'RequestMalformed'],
    ['/v1/holds/hold_01ARZ3NDEKTSV4RRFFQ69G5FAV/approve', 'POST', '{"by":"dana"}', 404, 'HoldNotFound'],
    [
      '/v1/holds/hold_01ARZ3NDEKTSV4RRFFQ69G5FAV/approve',
      'POST',
      '{"note":"no name"}',
      400,
      'RequestMalformed',
    ],
    ['/v1/holds/hold_01ARZ3NDEKTSV4RRFFQ69G5FAV/approve', 'POST', '{"by":', 400, 'RequestMalformed'],
    ['/v1/decisions/dec_01ARZ3NDEKTSV4RRFFQ69G5FAV', 'GET', undefined, 404, 'NotFound'],
    ['/v1/explain', 'POST', '[]', 400, 'RequestMalformed'],
  ])('%s %s is told as a problem of the catalogue', async (path, method, body, status, code) => {
    const answer = await ask('socket', path, { method, ...(body === undefined ? {} : { body }) });
    expect([answer.status, answer.type]).toEqual([
      status,
      expect.stringContaining('application/problem+json'),
    ]);
    expect(JSON.parse(answer.text)).toMatchObject({
      status,
      code,
      detail: expect.any(String),
      next: expect.any(String),
    });
  });

  test('a body past the limit is refused before it is sent', async () => {
    const call = request({
      socketPath: running.status.admin.socket,
      path: '/v1/explain',
      method: 'POST',
      headers: { 'content-type': 'application/json', 'content-length': String(2 * 1024 * 1024) },
    });
    call.on('error', () => undefined);
    call.flushHeaders();
    const [response] = (await once(call, 'response')) as [IncomingMessage];
    let text = '';
    for await (const part of response.setEncoding('utf8')) text += part;
    call.destroy();
    expect([response.statusCode, JSON.parse(text).code]).toEqual([413, 'RequestTooLarge']);
  });

  test('garbage instead of HTTP ends that connection only', async () => {
    await new Promise<void>((resolve) => {
      const socket = createConnection(running.status.admin.socket, () =>
        socket.write('\u0000\u0001garbage\r\n\r\n'),
      );
      socket.on('error', () => undefined).on('close', () => resolve());
      socket.resume();
    });
    expect((await ask('socket', '/health')).status).toBe(200);
  });

  test('AuthZEN wants the token even here', async () => {
    const body = JSON.stringify({});
    expect((await ask('socket', '/access/v1/evaluation', { method: 'POST', body })).status).toBe(401);
    const known = await ask('socket', '/access/v1/evaluation', { method: 'POST', body, headers: bearer() });
    expect(known.status).toBe(400);
  });
});

describe('on loopback', () => {
  test.each(['/v1/status', '/v1/holds', '/metrics', '/v1/decisions', '/v1/nothing'])(
    '%s wants the token',
    async (path) => {
      for (const headers of [
        {},
        { authorization: `Bearer ${token}x` },
        { authorization: `Basic ${token}` },
        { authorization: 'Bearer ' },
      ])
        expect((await ask('tcp', path, { headers })).status).toBe(401);
      expect((await ask('tcp', path, { headers: bearer() })).status).toBe(path === '/v1/nothing' ? 404 : 200);
    },
  );

  test.each(['/health', '/ready'])('%s does not', async (path) => {
    expect((await ask('tcp', path)).status).toBe(200);
  });

  test('a request under another name than loopback’s is refused: a page may have made it', async () => {
    const headers = { ...bearer(), host: 'evil.test' };
    expect((await ask('tcp', '/v1/status', { headers })).status).toBe(400);
  });
});

test('the token matches in full only', () => {
  expect(bearerMatches('Bearer abc', 'abc')).toBe(true);
  expect(bearerMatches('bearer abc', 'abc')).toBe(true);
  for (const header of [
    undefined,
    '',
    'abc',
    'Bearer',
    'Bearer ',
    'Bearer ab',
    'Bearer abcd',
    'Bearer abc def',
  ])
    expect(bearerMatches(header, 'abc')).toBe(false);
  expect(bearerMatches('Bearer ', '')).toBe(false);
});

test('metrics count what was decided, and say nothing of hosts or paths', async () => {
  await curl(running.status, [`${bench.plain}/hello`]);
  await curl(running.status, [`${bench.plain}/admin/cAnArY`]);
  const { text, type } = await ask('socket', '/metrics');
  expect(type).toContain('text/plain');
  expect(text).toMatch(/^sallyport_decisions_total\{kind="Allow",code=""\} \d+$/m);
  expect(text).toMatch(/^sallyport_decisions_total\{kind="Deny",code="EgressDenied"\} \d+$/m);
  expect(text).toMatch(/^sallyport_data_plane_up\{kind="embedded"\} 1$/m);
  expect(text).not.toContain('cAnArY');
  expect(text).not.toContain('demo.sallyport.test');
});

test('explain answers from the policy that holds', async () => {
  const body = JSON.stringify({ method: 'GET', url: `${bench.plain}/hello`, agent: 'tester' });
  const answer = await ask('socket', '/v1/explain', { method: 'POST', body });
  expect(JSON.parse(answer.text)).toMatchObject({ decision: 'Allow', rule: 'read' });
});
