/** What the embedded plane refuses by itself is told for the record, like every decision. */
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { startEmbeddedPlane } from '../../../sidecar/embedded/plane.ts';
import { codeOf, trust } from '../../data-plane/ask.ts';
import { type Harness, startHarness } from '../../data-plane/harness.ts';
import { holdPolicy, sharedPolicy } from '../../data-plane/policies.ts';
import {
  http2On,
  http2Request,
  open,
  parseReply,
  readAll,
  secureTunnel,
  until,
} from '../../envoy/clients.ts';

let shared: Harness;
beforeAll(async () => {
  shared = await startHarness(startEmbeddedPlane, { policy: sharedPolicy });
});
afterAll(() => shared.close());

test.each([
  ['two lengths', 'Content-Length: 3\r\nContent-Length: 4', 'RequestMalformed', false],
  ['a second Host', 'Host: other.test', 'RequestMalformed', true],
  ['an expectation', 'Expect: miracles', 'RequestMalformed', true],
  ['too many headers', 'X: 1\r\n'.repeat(limits.requestHeadersMax + 1).trim(), 'HeadersTooLarge', true],
  ['heavy headers', `X: ${'a'.repeat(limits.requestHeaderBytesMax)}`, 'HeadersTooLarge', false],
])('a request that is refused before its check is told: %s', async (_, lines, code, isRead) => {
  const before = shared.refusals.length;
  const url = `http://user:word@api.test:${shared.ports.http}/hello?secret`;
  const socket = await open(shared.port);
  const read = readAll(socket);
  socket.write(`POST ${url} HTTP/1.1\r\nHost: a\r\n${lines}\r\nConnection: close\r\n\r\n`);
  const reply = parseReply(await read);
  expect(codeOf(reply)).toBe(code);
  const [told, ...more] = shared.refusals.slice(before);
  expect(more).toEqual([]);
  expect(told).toMatchObject({
    deny: { kind: 'Deny', code, id: reply.headers['x-sallyport-decision'] },
    request: isRead
      ? { method: 'POST', authority: `user:word@api.test:${shared.ports.http}`, path: '/hello?secret' }
      : { method: '', authority: '', path: '' },
  });
});

test('headers past the count are refused in words over HTTP/2 too', async () => {
  const authority = `api.test:${shared.ports.https}`;
  const secure = await secureTunnel(shared.port, authority, {
    ...trust(shared, 'api.test'),
    ALPNProtocols: ['h2'],
  });
  const session = http2On(secure, authority);
  const many = Array.from({ length: limits.requestHeadersMax + 20 }, (_, index) => [`x-${index}`, '1']);
  const reply = await http2Request(session, { ':path': '/hello', ...Object.fromEntries(many) });
  expect([reply.status, codeOf(reply)]).toEqual([431, 'HeadersTooLarge']);
  session.destroy();
});

test('bytes after a request that still waits end its connection, and are not answered in its place', async () => {
  const h = await startHarness(startEmbeddedPlane, { policy: holdPolicy('20s') });
  onTestFinished(() => h.close());
  const socket = await open(h.port);
  const read = readAll(socket);
  socket.write(
    `POST http://hold.test:${h.ports.http}/orders HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx`,
  );
  await until(() => h.holds.list({ states: ['Pending'], limit: 10 }).length === 1, 'the hold');
  socket.write('\0\x01\r\n\r\n');
  expect((await read).toString()).toBe('');
  expect(h.refusals.at(-1)?.deny.code).toBe('RequestMalformed');
});
