/** TLS inside CONNECT whose requests are read: HTTP/1.1, HTTP/2, gRPC, and the names that have to agree. */
import { X509Certificate } from 'node:crypto';
import { expect, test } from 'vitest';
import { http2On, http2Request, secureTunnel, sendOn, tlsOn, tunnel } from '../../envoy/clients.ts';
import { askSecure, codeOf, curl, seen, trust } from '../ask.ts';
import type { Harness } from '../harness.ts';

const http2To = async (h: Harness, host: string) => {
  const authority = `${host}:${h.ports.https}`;
  const secure = await secureTunnel(h.port, authority, { ...trust(h, host), ALPNProtocols: ['h2'] });
  expect(secure.alpnProtocol).toBe('h2');
  return { session: http2On(secure, authority), authority };
};

export function interceptedCases(harness: () => Harness): void {
  test('over HTTP/1.1 method and path decide', async () => {
    const h = harness();
    const allowed = await askSecure(h, 'other.test', '/hello?tls=1');
    expect(allowed.status).toBe(200);
    expect(h.decisions.at(-1)).toMatchObject({
      call: { scheme: 'https', connection: { tunnelAgent: 'tester', sni: 'other.test' } },
      decision: { kind: 'Allow', rule: 'read-other' },
    });
    const posted = await askSecure(h, 'other.test', '/hello', { method: 'POST', body: 'x' });
    expect([posted.status, codeOf(posted)]).toEqual([403, 'EgressDenied']);
    const forbidden = await askSecure(h, 'api.test', '/admin/keys');
    expect([forbidden.status, codeOf(forbidden)]).toEqual([403, 'Forbidden']);
    expect(seen(h, '/admin/keys')).toBe(0);
  });

  test('over HTTP/2 each request of a connection is decided by itself', async () => {
    const h = harness();
    const { session, authority } = await http2To(h, 'api.test');
    const [hello, admin, order] = await Promise.all([
      http2Request(session, { ':path': '/hello?h2=1' }),
      http2Request(session, { ':path': '/admin/keys' }),
      http2Request(session, { ':path': '/orders', ':method': 'POST' }, 'an order'),
    ]);
    expect([hello.status, admin.status, order.status]).toEqual([200, 403, 201]);
    expect(JSON.parse(order.body)).toMatchObject({ bytes: 8 });
    const fronted = await http2Request(session, {
      ':path': '/hello',
      ':authority': `other.test:${h.ports.https}`,
    });
    expect([fronted.status, codeOf(fronted)]).toEqual([421, 'DestinationMismatch']);
    expect(authority).toBe(`api.test:${h.ports.https}`);
    session.destroy();
  });

  test('a request that names another host than the CONNECT around it is misdirected', async () => {
    const h = harness();
    const authority = `api.test:${h.ports.https}`;
    const secure = await secureTunnel(h.port, authority, trust(h, 'api.test'));
    const reply = await sendOn(secure, `GET /fronted HTTP/1.1\nHost: other.test:${h.ports.https}`);
    expect([reply.status, codeOf(reply)]).toEqual([421, 'DestinationMismatch']);
    expect(seen(h, '/fronted')).toBe(0);
  });

  test('an SNI that names another host than the CONNECT is misdirected', async () => {
    const h = harness();
    const authority = `api.test:${h.ports.https}`;
    const secure = await secureTunnel(h.port, authority, {
      servername: 'other.test',
      // Whose certificate answers is the data plane's choice; that nothing goes out is not.
      rejectUnauthorized: false,
    });
    const reply = await sendOn(secure, `GET /fronted HTTP/1.1\nHost: ${authority}`);
    expect([reply.status, codeOf(reply)]).toEqual([421, 'DestinationMismatch']);
    expect(seen(h, '/fronted')).toBe(0);
  });

  test('TLS to an address that a rule names is read, though its clients name no server', async () => {
    const h = harness();
    const authority = `127.0.0.1:${h.ports.https}`;
    const ask = async (path: string) => {
      const { socket } = await tunnel(h.port, authority);
      const secure = await tlsOn(socket, { host: '127.0.0.1', ca: h.caPem });
      return sendOn(secure, `GET ${path} HTTP/1.1\nHost: ${authority}`);
    };
    expect((await ask('/hello?address')).status).toBe(200);
    expect((await ask('/orders')).status).toBe(403);
    expect(seen(h, '/hello?address')).toBe(1);
  });

  test('no certificate is made for a name that no rule reads', async () => {
    const h = harness();
    const { reply, socket } = await tunnel(h.port, `api.test:${h.ports.https}`);
    expect(reply.status).toBe(200);
    await expect(tlsOn(socket, trust(h, 'bank.example'))).rejects.toThrow();
  });

  test('certificates of intercepted names are for one name, short-lived and kept', async () => {
    const h = harness();
    const leafOf = async (): Promise<X509Certificate> => {
      const secure = await secureTunnel(h.port, `api.test:${h.ports.https}`, trust(h, 'api.test'));
      const leaf = new X509Certificate(secure.getPeerCertificate().raw);
      secure.destroy();
      return leaf;
    };
    const [first, second] = [await leafOf(), await leafOf()];
    expect(first.subjectAltName).toBe('DNS:api.test');
    expect(first.ca).toBe(false);
    expect(second.fingerprint256).toBe(first.fingerprint256);
  });

  test('a destination whose certificate proves another name gets no byte of the request', async () => {
    const h = harness();
    const authority = `wrong.test:${h.ports.wrong}`;
    const secure = await secureTunnel(h.port, authority, trust(h, 'wrong.test'));
    const reply = await sendOn(
      secure,
      `GET /secret HTTP/1.1\nHost: ${authority}\nAuthorization: Bearer secret`,
    );
    expect([reply.status, codeOf(reply)]).toEqual([502, 'UpstreamCertificateInvalid']);
  });

  test('clear HTTP inside CONNECT is read like any other', async () => {
    const h = harness();
    const authority = `api.test:${h.ports.http}`;
    const ask = async (path: string, host: string) => {
      const { reply, socket } = await tunnel(h.port, authority);
      expect(reply.status).toBe(200);
      return sendOn(socket, `GET ${path} HTTP/1.1\nHost: ${host}`);
    };
    expect((await ask('/hello', authority)).status).toBe(200);
    expect((await ask('/admin/x', authority)).status).toBe(403);
    expect((await ask('/hello', `other.test:${h.ports.http}`)).status).toBe(421);
  });

  test('bytes that are neither TLS nor HTTP end an intercepted tunnel', async () => {
    const h = harness();
    const { socket } = await tunnel(h.port, `api.test:${h.ports.https}`);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
    socket.resume();
    socket.write(Buffer.from([0, 1, 2, 3, 4, 5, 6, 7]));
    await closed;
  });

  test('a base-URL route reaches its upstream, checked and pinned like every call', async () => {
    const h = harness();
    const base = h.plane.proxyUrl;
    const models = await curl([`${base}/openai/v1/models`]);
    expect(JSON.parse(models.out)).toMatchObject({ object: 'list' });
    expect(h.decisions.at(-1)).toMatchObject({
      call: { scheme: 'https', authority: `api.test:${h.ports.https}`, path: '/v1/models' },
    });
    const admin = await curl(['-w', '%{http_code}', '-o', '/dev/null', `${base}/openai/admin/x`]);
    expect(admin.out).toBe('403');
    const above = await curl([
      '--path-as-is',
      '-w',
      '%{http_code}',
      '-o',
      '/dev/null',
      `${base}/openai/../hello`,
    ]);
    expect(above.out).toBe('404');
    const shop = await curl(['-d', 'x', `${base}/shop/sub?q=1`]);
    expect(JSON.parse(shop.out)).toEqual({ error: 'there is no /orders-base/sub' });
    const nothing = await curl(['-w', '%{http_code}', '-o', '/dev/null', `${base}/openaix/v1/models`]);
    expect(nothing.out).toBe('404');
  });

  test('the proxy’s own address is no destination', async () => {
    const h = harness();
    const { reply, socket } = await tunnel(h.port, `127.0.0.1:${h.port}`);
    socket.destroy();
    expect([reply.status, codeOf(reply)]).toEqual([404, 'NotFound']);
  });

  test('gRPC passes with its trailers, and is denied in its own words', async () => {
    const h = harness();
    const { session } = await http2To(h, 'api.test');
    const message = Buffer.from([0, 0, 0, 0, 3, 1, 2, 3]);
    const call = (path: string) =>
      http2Request(
        session,
        { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' },
        message,
      );
    const answered = await call('/shop.Orders/Place');
    expect(answered.status).toBe(200);
    expect(Buffer.from(answered.body, 'utf8')).toEqual(message);
    expect(answered.trailers['grpc-status']).toBe('0');
    const denied = await call('/admin/grpc');
    expect([denied.status, denied.headers['grpc-status'] ?? denied.trailers['grpc-status']]).toEqual([
      200,
      '7',
    ]);
    session.destroy();
  });

  test('curl over HTTP/2 and HTTP/1.1 trusts the authority and nothing else', async () => {
    const h = harness();
    const { mkdtempSync, rmSync, writeFileSync } = await import('node:fs');
    const dir = mkdtempSync('/tmp/spd-ca-');
    try {
      writeFileSync(`${dir}/ca.pem`, h.caPem);
      const url = `https://api.test:${h.ports.https}/hello`;
      for (const version of ['--http1.1', '--http2']) {
        const got = await curl([version, '-x', h.plane.proxyUrl, '--cacert', `${dir}/ca.pem`, url]);
        expect(got).toMatchObject({ exit: 0 });
        expect(JSON.parse(got.out)).toHaveProperty('hello');
      }
      // 60: the certificate is not known to curl.
      expect((await curl(['-x', h.plane.proxyUrl, url])).exit).toBe(60);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
}
