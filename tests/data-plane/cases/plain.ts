/** HTTP in the clear: decisions, headers in both directions, and the forms of answers. */
import { expect, test } from 'vitest';
import { parseReply, readAll, send } from '../../envoy/clients.ts';
import { askPlain, codeOf, curl, seen } from '../ask.ts';
import type { Harness } from '../harness.ts';
import { clerkPassword } from '../policies.ts';

const basic = (name: string, password: string): string =>
  `Proxy-Authorization: Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`;

export function plainCases(harness: () => Harness): void {
  test('a call that a rule allows reaches its destination and names its decision', async () => {
    const h = harness();
    const reply = await askPlain(h, 'api.test', '/hello?x=1');
    expect(reply.status).toBe(200);
    expect(JSON.parse(reply.body)).toEqual({ hello: 'from the example upstream' });
    const decided = h.decisions.at(-1)?.decision;
    expect(decided?.kind).toBe('Allow');
    expect(reply.headers['x-sallyport-decision']).toBe(decided?.id);
    expect(seen(h, '/hello?x=1')).toBe(1);
  });

  test('what no rule allows is denied as a problem that names code and decision, and reaches nobody', async () => {
    const h = harness();
    const reply = await askPlain(h, 'unknown.test', '/denied');
    expect(reply.status).toBe(403);
    expect(reply.headers['content-type']).toBe('application/problem+json');
    expect(JSON.parse(reply.body)).toMatchObject({
      code: 'EgressDenied',
      decision: h.decisions.at(-1)?.decision.id,
    });
    expect(seen(h, '/denied')).toBe(0);
  });

  test('a forbid wins over the allow of the same host and tells its rule and reason', async () => {
    const h = harness();
    const reply = await askPlain(h, 'api.test', '/admin/users');
    expect(reply.status).toBe(403);
    expect(JSON.parse(reply.body)).toMatchObject({ code: 'Forbidden', rule: 'no-admin' });
    expect(reply.body).toContain('administrators only');
    expect(seen(h, '/admin/users')).toBe(0);
  });

  test('a method that the rule does not name is denied', async () => {
    const reply = await askPlain(harness(), 'other.test', '/hello', { method: 'POST', body: 'x' });
    expect([reply.status, codeOf(reply)]).toEqual([403, 'EgressDenied']);
  });

  test('a proxy credential names the agent, a wrong one is unknown, and neither reaches the destination', async () => {
    const h = harness();
    const allowed = await askPlain(h, 'other.test', '/echo', { headers: [basic('clerk', clerkPassword)] });
    expect(allowed.status).toBe(200);
    expect(h.decisions.at(-1)?.decision.agent?.name).toBe('clerk');
    expect(Object.keys(JSON.parse(allowed.body).headers)).not.toContain('proxy-authorization');
    const asClerk = await askPlain(h, 'api.test', '/hello', { headers: [basic('clerk', clerkPassword)] });
    expect([asClerk.status, codeOf(asClerk)]).toEqual([403, 'EgressDenied']);
    const wrong = await askPlain(h, 'other.test', '/hello', { headers: [basic('clerk', 'wrong')] });
    expect([wrong.status, codeOf(wrong)]).toEqual([401, 'InvalidAgent']);
  });

  test('headers in our name are not heard, not passed on, and nothing is added on the way', async () => {
    const h = harness();
    const reply = await askPlain(h, 'api.test', '/echo', {
      headers: [
        'X-Sallyport-Agent: clerk',
        'X-Sallyport-Connect: tunnel.test:1',
        'X-Sallyport-Source: 8.8.8.8:1',
        'X-Sallyport-Anything: else',
        'Proxy-Connection: keep-alive',
        'X-Kept: yes',
      ],
    });
    expect(reply.status).toBe(200);
    expect(h.decisions.at(-1)).toMatchObject({
      call: { connection: { sourceAddress: '127.0.0.1', tunnelAgent: '' } },
    });
    const headers = JSON.parse(reply.body).headers;
    const names = Object.keys(headers).filter((name) => name !== 'connection');
    expect(names.sort()).toEqual(['host', 'x-kept']);
    expect(headers.host).toBe(`api.test:${h.ports.http}`);
  });

  test('headers that Connection names end at the proxy', async () => {
    const h = harness();
    const head = `GET http://api.test:${h.ports.http}/echo HTTP/1.1\nHost: api.test\nX-Hop: 1\nConnection: x-hop`;
    const headers = JSON.parse((await send(h.port, head)).body).headers;
    expect(headers['x-hop']).toBeUndefined();
  });

  test('the URL of the request line wins over Host', async () => {
    const h = harness();
    const url = `http://api.test:${h.ports.http}/echo`;
    const reply = await send(h.port, `GET ${url} HTTP/1.1\nHost: unknown.test`);
    expect(reply.status).toBe(200);
    expect(JSON.parse(reply.body).headers.host).toBe(`api.test:${h.ports.http}`);
    const other = await send(h.port, `GET http://unknown.test/ HTTP/1.1\nHost: api.test:${h.ports.http}`);
    expect(other.status).toBe(403);
  });

  test('redirects, 204 and HEAD come back as they were sent', async () => {
    const h = harness();
    const redirect = await askPlain(h, 'api.test', '/redirect?to=http://unknown.test/');
    expect([redirect.status, redirect.headers['location']]).toEqual([302, 'http://unknown.test/']);
    const empty = await askPlain(h, 'api.test', '/status/204');
    expect([empty.status, empty.body, empty.headers['transfer-encoding']]).toEqual([204, '', undefined]);
    const same = await askPlain(h, 'api.test', '/status/304');
    expect([same.status, same.headers['etag'], same.body]).toEqual([304, '"example"', '']);
    const head = await askPlain(h, 'api.test', '/hello', { method: 'HEAD' });
    expect([head.status, head.body]).toEqual([200, '']);
    expect(Number(head.headers['content-length'])).toBeGreaterThan(0);
  });

  test('a destination that is not there, and one that proves another name, are told apart', async () => {
    const h = harness();
    const gone = await askPlain(h, 'api.test', '/', {}, h.ports.dead);
    expect([gone.status, codeOf(gone)]).toEqual([502, 'UpstreamUnreachable']);
  });

  test('several requests go over one connection, in order', async () => {
    const h = harness();
    const { open } = await import('../../envoy/clients.ts');
    const socket = await open(h.port);
    const read = readAll(socket);
    const one = (path: string, extra = '') =>
      `GET http://api.test:${h.ports.http}${path} HTTP/1.1\r\nHost: api.test\r\n${extra}\r\n`;
    socket.write(one('/status/201') + one('/admin/x') + one('/status/202', 'Connection: close\r\n'));
    const statuses = [...(await read).toString().matchAll(/HTTP\/1\.1 (\d+)/g)].map((found) => found[1]);
    expect(statuses).toEqual(['201', '403', '202']);
  });

  test('curl gets its answer, its denial and its 100 Continue', async () => {
    const h = harness();
    const proxy = ['-x', h.plane.proxyUrl];
    const base = `http://api.test:${h.ports.http}`;
    const posted = await curl([
      ...proxy,
      '-H',
      'Expect: 100-continue',
      '-d',
      'x'.repeat(2_000),
      `${base}/orders`,
    ]);
    expect(posted).toMatchObject({ exit: 0 });
    expect(JSON.parse(posted.out)).toMatchObject({ bytes: 2_000 });
    const denied = await curl([...proxy, '-o', '/dev/null', '-w', '%{http_code}', `${base}/admin/x`]);
    expect(denied).toEqual({ exit: 0, out: '403' });
  });

  test('HTTP/1.0 is answered and closed', async () => {
    const h = harness();
    const { open } = await import('../../envoy/clients.ts');
    const socket = await open(h.port);
    const read = readAll(socket);
    socket.write(`GET http://api.test:${h.ports.http}/admin/x HTTP/1.0\r\n\r\n`);
    expect(parseReply(await read).status).toBeGreaterThanOrEqual(400);
  });
}
