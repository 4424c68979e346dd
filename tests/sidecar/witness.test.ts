/** Two sidecars that witness each other's logs. */
import { cpSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { auditDirectory } from '../../filters/audit/identity.ts';
import { parseCheckpoint, parseNote, parseVkey, verifyNote } from '../../filters/audit/note.ts';
import { originHash } from '../../filters/audit/witness.ts';
import { witnessedFile } from '../../filters/audit/witness-store.ts';
import { encodeAddCheckpoint } from '../../filters/audit/witness-wire.ts';
import { witnessPost } from '../../sidecar/witness-asking.ts';
import { movingClock } from '../support/moving-clock.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import {
  ask,
  cosigners,
  endAll,
  endings,
  grow,
  type Instance,
  instance,
  serve,
} from '../support/witness-world.ts';

afterEach(endAll);

const witnessed = (one: Instance) =>
  parseNote(readFileSync(join(auditDirectory(one.stateDir), witnessedFile), 'utf8'));
const sizeOf = (one: Instance): number => parseCheckpoint(witnessed(one).body).size;

test('two sidecars witness each other, and what they published carries both signatures', async () => {
  const home = temporaryDirectory();
  const a = await instance('a', join(home, 'a'));
  const b = await instance('b', join(home, 'b'));
  const [ofA, ofB] = [await serve(a, [b]), await serve(b, [a])];
  await grow(a, 5);
  await grow(b, 9);
  const [fromA, fromB] = [ask(a, b, ofB.url), ask(b, a, ofA.url)];
  await Promise.all([fromA.client.round(), fromB.client.round()]);
  await grow(a, 300);
  await Promise.all([fromA.client.round(), fromB.client.round()]);
  for (const [one, other, size] of [
    [a, b, 305],
    [b, a, 9],
  ] as const) {
    expect(sizeOf(one)).toBe(size);
    expect(verifyNote(witnessed(one), one.vkeys.map(parseVkey))).toHaveLength(2);
    expect(verifyNote(witnessed(one), cosigners(other).map(parseVkey))).toHaveLength(2);
  }
  expect(fromA.health()).toEqual({ status: 'Healthy', detail: '1 of 1 cosign, 1 have to' });

  const kept = await fetch(`${ofB.url}/${originHash(a.origin)}/checkpoint`);
  expect([kept.status, parseCheckpoint(parseNote(await kept.text()).body).size]).toEqual([200, 305]);
});

test('a log that was set back and went another way is refused, and told as a conflict until it is mended', async () => {
  const home = temporaryDirectory();
  const b = await instance('b', join(home, 'b'));
  const first = await instance('a', join(home, 'a'));
  const server = await serve(b, [first]);
  await grow(first, 10);
  await first.log.close();
  cpSync(first.stateDir, join(home, 'earlier'), { recursive: true });
  cpSync(`${first.stateDir}.kek`, join(home, 'earlier.kek'));
  const again = await instance('a', join(home, 'a'));
  await grow(again, 10, 'true');
  const before = ask(again, b, server.url);
  await before.client.round();
  expect(before.said).toEqual(['cosigned']);

  const fork = await instance('a', join(home, 'earlier'));
  await grow(fork, 3, 'forged');
  const asking = ask(fork, b, server.url);
  await asking.client.round();
  expect(asking.said).toEqual(['conflict']);
  expect(asking.health()).toMatchObject({
    status: 'Degraded',
    detail: expect.stringContaining('it cosigned size 20, and this log has 13'),
  });
  await grow(fork, 30, 'forged more');
  await asking.client.round();
  expect(asking.health()).toMatchObject({
    status: 'Degraded',
    detail: expect.stringContaining('another past'),
  });
  expect(() => witnessed(fork)).toThrow('ENOENT');
  expect(b.counted).not.toContain('500');

  await grow(again, 1);
  await before.client.round();
  expect(sizeOf(again)).toBe(21);
});

test('a witness that starts again knows what it cosigned', async () => {
  const home = temporaryDirectory();
  const a = await instance('a', join(home, 'a'));
  const b = await instance('b', join(home, 'b'));
  const server = await serve(b, [a]);
  await grow(a, 4);
  const asking = ask(a, b, server.url);
  await asking.client.round();
  await server.stop();
  const again = await serve(b, [a]);
  const { note = '' } = a.log.newest() ?? {};
  const answer = await fetch(`${again.url}/add-checkpoint`, {
    method: 'POST',
    body: encodeAddCheckpoint(0, [], note),
  });
  expect([answer.status, answer.headers.get('content-type'), await answer.text()]).toEqual([
    409,
    'text/x.tlog.size',
    '4\n',
  ]);
});

test('without its witness a log goes on; health says so after two rounds, and until it is back', async () => {
  const home = temporaryDirectory();
  const a = await instance('a', join(home, 'a'));
  const b = await instance('b', join(home, 'b'));
  const server = await serve(b, [a]);
  const port = Number(new URL(server.url).port);
  await server.stop();
  const clock = movingClock();
  await grow(a, 2);
  const asking = ask(a, b, server.url, {}, clock);
  await asking.client.round();
  expect(asking.health().status).toBe('Healthy');
  clock.pass(2 * 3_600_000 + 1);
  await asking.client.round();
  expect(asking.health()).toMatchObject({
    status: 'Degraded',
    detail: expect.stringContaining('0 of 1 cosign, 1 have to'),
  });
  await grow(a, 2);
  await serve(b, [a], { listen: `127.0.0.1:${port}` });
  await asking.client.round();
  expect(asking.health().status).toBe('Healthy');
  expect(sizeOf(a)).toBe(4);
});

test('a witness that never answers is given up after its time', async () => {
  const home = temporaryDirectory();
  const a = await instance('a', join(home, 'a'));
  const b = await instance('b', join(home, 'b'));
  await serve(b, [a]);
  const silent = createTcpServer(() => undefined);
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  endings.push(() => void silent.close());
  const endless = createServer((_request, response) => {
    response.writeHead(200);
    const feed = setInterval(() => response.write('x'.repeat(16 * 1024)), 1);
    response.on('close', () => clearInterval(feed));
  });
  await new Promise<void>((resolve) => endless.listen(0, '127.0.0.1', resolve));
  endings.push(() => {
    endless.closeAllConnections();
    endless.close();
  });
  await grow(a, 1);
  const talking = ask(a, b, `http://127.0.0.1:${(endless.address() as AddressInfo).port}`);
  await talking.client.round();
  expect(talking.client.states()).toMatchObject([
    { result: 'unreachable', detail: `its answer has more than ${limits.witnessAnswerBytesMax} bytes` },
  ]);
  const post = witnessPost(
    {
      url: `http://127.0.0.1:${(silent.address() as AddressInfo).port}`,
      ...{ token: undefined, ca: undefined, cert: undefined, key: undefined },
    },
    100,
  );
  endings.push(post.close);
  await expect(post('')).rejects.toThrow('it did not answer within 100 ms');
});
