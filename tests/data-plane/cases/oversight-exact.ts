/** An approval is for the bytes that a person was shown, and for no others. */
import { createSecureServer } from 'node:http2';
import { expect, test } from 'vitest';
import { http2On, http2Request, secureTunnel, until, within } from '../../envoy/clients.ts';
import { askPlain, codeOf, seen, trust } from '../ask.ts';
import { type Harness, type Ports, type StartPlane, startHarness } from '../harness.ts';

const policy =
  (more = '') =>
  ({ http, https }: Ports): string =>
    `version: 1
agents: { tester: { identity: "spiffe://sallyport.test/tester" } }
rules:
  - name: asked
    to: { hosts: [hold.test], ports: [${http}, ${https}${more}], internal: true }
    hold: { approvers: operators, wait: 0s, timeout: 1h, reason: somebody looks }
approvers: { operators: { members: [dana] } }
`;

const approveOnly = async (h: Harness): Promise<void> => {
  await until(() => h.holds.list({ states: ['Pending'], limit: 10 }).length === 1, 'the hold');
  for (const hold of h.holds.list({ states: ['Pending'], limit: 10 })) h.holds.approve(hold.id, 'dana', '');
};

const webSocket = [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
];

export function exactCases(start: StartPlane): void {
  const withHarness = async (run: (h: Harness) => Promise<void>): Promise<void> => {
    const h = await startHarness(start, { policy: policy() });
    try {
      await run(h);
    } finally {
      await h.close();
    }
  };

  test.each([
    ['as a WebSocket', webSocket, 'ProtocolNotAllowed'],
    ['with x-forwarded-host', ['X-Forwarded-Host: elsewhere.test'], 'HoldPending'],
    ['with forwarded', ['Forwarded: host=elsewhere.test'], 'HoldPending'],
    ['with x-real-ip', ['X-Real-IP: 10.0.0.1'], 'HoldPending'],
    ['without its own header', undefined, 'HoldPending'],
  ])('a released request is byte for byte the one that was shown: %s', async (_what, headers, code) => {
    await withHarness(async (h) => {
      const shown = ['X-Dry-Run: 1'];
      expect(codeOf(await askPlain(h, 'hold.test', '/ws', { headers: shown }))).toBe('HoldPending');
      await approveOnly(h);
      const other = headers === undefined ? [] : [...shown, ...headers];
      const reply = await askPlain(h, 'hold.test', '/ws', { headers: other });
      expect([reply.status, codeOf(reply)]).toEqual([403, code]);
      expect(seen(h, '/ws')).toBe(0);
      await askPlain(h, 'hold.test', '/ws', { headers: shown });
      expect(seen(h, '/ws')).toBe(1);
    });
  });

  test('a header that was shown is not taken out by naming it in Connection', async () => {
    await withHarness(async (h) => {
      const shown = ['X-Dry-Run: 1'];
      await askPlain(h, 'hold.test', '/orders', { headers: shown });
      await approveOnly(h);
      await askPlain(h, 'hold.test', '/orders', { headers: [...shown, 'Connection: x-dry-run'] });
      const reached = h.upstream.requests().filter(({ path }) => path === '/orders');
      for (const { headers } of reached) expect(headers['x-dry-run']).toBe('1');
    });
  });

  test('what the data plane itself adds is not shown as the caller’s', async () => {
    await withHarness(async (h) => {
      await askPlain(h, 'hold.test', '/orders', { headers: ['X-Dry-Run: 1'] });
      const [hold] = h.holds.list({ states: ['Pending'], limit: 10 });
      expect(hold?.request.headers).toMatchObject({ 'x-dry-run': '1' });
      expect(Object.keys(hold?.request.headers ?? {}).filter((name) => /^x-(?!dry)/.test(name))).toEqual([]);
    });
  });

  test('HTTP/2 trailers that nobody was shown never reach the destination', async () => {
    await withHarness(async (h) => {
      const reached: { body: string; trailers: object }[] = [];
      const { certificatePem: cert, privateKeyPem: key } = await h.upstreamAuthority.issue(['hold.test']);
      const server = createSecureServer({ cert, key, allowHTTP1: true }, (request, response) => {
        const parts: Buffer[] = [];
        request.on('data', (part: Buffer) => parts.push(part));
        request.on('end', () => {
          reached.push({ body: Buffer.concat(parts).toString(), trailers: { ...request.trailers } });
          response.end();
        });
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      try {
        const at = server.address();
        const port = typeof at === 'object' && at !== null ? at.port : 0;
        await h.apply(policy(`, ${port}`));
        const authority = `hold.test:${port}`;
        const secure = await secureTunnel(h.port, authority, {
          ...trust(h, 'hold.test'),
          ALPNProtocols: ['h2'],
        });
        const session = http2On(secure, authority);
        const head = { ':method': 'POST', ':path': '/orders', ':authority': authority, ':scheme': 'https' };
        expect((await http2Request(session, head, 'ten books')).status).toBe(403);
        await approveOnly(h);
        const stream = session.request(head, { waitForTrailers: true });
        stream.on('wantTrailers', () => stream.sendTrailers({ 'x-dry-run': '0' }));
        const answered = new Promise<unknown>((resolve, reject) => {
          stream.on('response', (headers) => resolve(headers[':status']));
          stream.on('error', reject);
        });
        stream.end('ten books');
        stream.resume();
        expect(await within(answered, 'the answer')).toBe(200);
        expect(reached).toEqual([{ body: 'ten books', trailers: {} }]);
        session.destroy();
      } finally {
        server.close();
      }
    });
  });
}
