/**
 * What a request says beside its target: user information, and Host next to an absolute URL. Envoy's codec drops
 * both before anything of it can see them (RFC 9112, section 3.2.2: the URL decides), so on Envoy they pass; that
 * rule, pin and destination then agree on the URL's host is shown here.
 */
import { expect, test } from 'vitest';
import { http2On, http2Request, secureTunnel, tunnel } from '../../envoy/clients.ts';
import { codeOf, seen, sendRaw, trust } from '../ask.ts';
import type { Harness } from '../harness.ts';

export function authorityCases(harness: () => Harness): void {
  const beside = (lines: string, authority: string, path: string) => {
    const h = harness();
    return sendRaw(
      h,
      `GET http://${authority}:${h.ports.http}${path} HTTP/1.1\r\n${lines}Connection: close\r\n\r\n`,
    );
  };

  test.each([
    ['user information', 'Host: api.test\r\n', 'user:word@api.test', 'DestinationInvalid'],
    ['a second Host', 'Host: api.test\r\nHost: other.test\r\n', 'api.test', 'RequestMalformed'],
    ['no Host', '', 'api.test', 'RequestMalformed'],
  ])(
    '%s beside an absolute URL is refused, or dropped before the check',
    async (what, lines, authority, code) => {
      const h = harness();
      const path = `/echo?beside=${encodeURIComponent(what)}`;
      const reply = await beside(lines, authority, path);
      if (h.plane.kind === 'embedded') {
        expect([reply.status, codeOf(reply), seen(h, path)]).toEqual([400, code, 0]);
        return;
      }
      expect(reply.status).toBe(200);
      expect(h.decisions.at(-1)).toMatchObject({
        call: { authority: `api.test:${h.ports.http}` },
        decision: {
          kind: 'Allow',
          destination: { host: 'api.test', port: h.ports.http },
          pin: { port: h.ports.http },
        },
      });
      // Nothing of it reaches the destination, neither as it was nor as a credential.
      const sent = h.upstream.requests().filter((request) => request.path === path);
      expect(sent.map(({ headers }) => headers)).toEqual([{ host: `api.test:${h.ports.http}` }]);
    },
  );

  test.each([
    ['that looks like an allowed host', 'api.test@unknown.test'],
    ['with a port that looks like a path', 'api.test:80%2F@unknown.test'],
  ])('user information %s leads nowhere', async (_, authority) => {
    const h = harness();
    const before = h.upstream.requests().length;
    const reply = await beside('Host: api.test\r\n', authority, '/hello');
    expect([400, 403]).toContain(reply.status);
    expect(h.upstream.requests().length).toBe(before);
  });

  test('user information in front of a forbidden path opens nothing', async () => {
    const reply = await beside('Host: api.test\r\n', 'user@api.test', '/admin/keys');
    expect([400, 403]).toContain(reply.status);
    expect(seen(harness(), '/admin/keys')).toBe(0);
  });

  test('user information in a CONNECT is refused', async () => {
    const h = harness();
    const { reply, socket } = await tunnel(h.port, `user:word@api.test:${h.ports.http}`);
    socket.destroy();
    expect(reply.status).toBe(400);
  });

  test('a second Host beside a CONNECT is refused, or dropped before the check', async () => {
    const h = harness();
    const authority = `api.test:${h.ports.http}`;
    const { reply, socket } = await tunnel(h.port, authority, 'Host: other.test');
    socket.destroy();
    if (h.plane.kind === 'embedded') expect([reply.status, codeOf(reply)]).toEqual([400, 'RequestMalformed']);
    else expect(h.decisions.at(-1)).toMatchObject({ call: { authority }, decision: { kind: 'Allow' } });
  });

  test('a Host that contradicts :authority in HTTP/2 is refused, or dropped before the check', async () => {
    const h = harness();
    const authority = `api.test:${h.ports.https}`;
    const secure = await secureTunnel(h.port, authority, { ...trust(h, 'api.test'), ALPNProtocols: ['h2'] });
    const session = http2On(secure, authority);
    const path = '/echo?contradicts';
    const reply = await http2Request(session, { ':path': path, ':authority': authority, host: 'other.test' });
    session.destroy();
    if (h.plane.kind === 'embedded') {
      expect([reply.status, codeOf(reply), seen(h, path)]).toEqual([400, 'RequestMalformed', 0]);
      return;
    }
    expect(reply.status).toBe(200);
    expect(h.decisions.at(-1)?.call).toMatchObject({ authority });
    expect(reply.body).not.toContain('other.test');
  });
}
