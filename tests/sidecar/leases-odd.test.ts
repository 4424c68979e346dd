/** Requests that are spelt oddly, as bytes: with a lease at hand each is answered as it is where there are none. */
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fuzzRuns } from '../support/fuzz.ts';
import { host, type LeasedWorld, startLeased } from './leased-world.ts';

const policy = (port: number): string => `version: 1
agents: { robot: { identity: spiffe://example.org/robot } }
rules:
  - { name: pass, to: { hosts: [${host}], ports: [${port}], methods: [GET, POST], internal: true }, allow: {} }
  - { name: never, to: { hosts: ["**"], paths: [/secret/**, /secret] }, forbid: {} }
`;

let leased: LeasedWorld;
let checked: LeasedWorld;
beforeAll(async () => {
  [leased, checked] = await Promise.all([
    startLeased(policy),
    startLeased(policy, { leases: { enabled: false } }),
  ]);
});
afterAll(() => Promise.all([leased?.close(), checked?.close()]));

type Told = Readonly<{ status: number; leased: boolean }>;

/** The status of the first answer; 0 where the connection ended without one. */
function exchange(socket: Socket, bytes: Buffer): Promise<Told> {
  return new Promise((resolve) => {
    let got = '';
    const done = (): void => {
      socket.removeAllListeners('data').removeAllListeners('close');
      resolve({ status: Number(got.split(' ')[1] ?? 0), leased: /^x-sallyport-decision: \S+#/im.test(got) });
    };
    socket.on('data', (part: Buffer) => {
      got += part.toString('latin1');
      const at = got.indexOf('\r\n\r\n');
      const length = Number(/^content-length: (\d+)/im.exec(got)?.[1] ?? Number.NaN);
      const isWhole = Number.isNaN(length) ? got.endsWith('0\r\n\r\n') : got.length >= at + 4 + length;
      if (at !== -1 && (isWhole || /^connection: close/im.test(got) || / 101 /.test(got))) done();
    });
    socket.once('close', done);
    socket.write(bytes);
  });
}

class Client {
  readonly #world: LeasedWorld;
  #socket: Socket | undefined;
  constructor(world: LeasedWorld) {
    this.#world = world;
  }
  get authority(): string {
    return `${host}:${this.#world.upstreamPort}`;
  }
  async send(bytes: string | Buffer): Promise<Told> {
    if (this.#socket === undefined || this.#socket.destroyed) {
      const socket = connect(this.#world.port, '127.0.0.1');
      socket.on('error', () => undefined);
      this.#socket = socket;
    }
    return exchange(this.#socket, Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes, 'latin1'));
  }
  plain(line: string, ...headers: readonly string[]): string {
    return [line, `Host: ${this.authority}`, ...headers, '', ''].join('\r\n');
  }
  /** The next request of this method to this host finds a lease, and the connection known. */
  async warm(method: string): Promise<void> {
    const line = this.plain(`${method} http://${this.authority}/warm HTTP/1.1`, 'Content-Length: 0');
    for (let asking = 0; asking < 500; asking += 1)
      if ((await this.send(line)).leased && (await this.send(line)).leased) return;
    throw new Error('never leased');
  }
  end(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
  }
}

/** The answer where a lease is at hand, and where every request is checked. */
async function both(make: (client: Client) => string | Buffer): Promise<readonly [Told, Told]> {
  const [hot, cold] = [new Client(leased), new Client(checked)];
  const bytes = make(hot);
  await hot.warm(bytes.toString('latin1').startsWith('POST') ? 'POST' : 'GET');
  const found = [await hot.send(bytes), await cold.send(make(cold))] as const;
  hot.end();
  cold.end();
  return found;
}

const many = (count: number): string[] => Array.from({ length: count }, (_, at) => `x-${at}: 1`);
const get =
  (...headers: readonly string[]) =>
  (client: Client): string =>
    client.plain(`GET http://${client.authority}/a HTTP/1.1`, ...headers);
const line =
  (text: string) =>
  (client: Client): string =>
    client.plain(text.replace('AUTH', client.authority));

test.each<[string, (client: Client) => string]>([
  ['a control character in a header', get('x-a: a\x01b')],
  ['DEL in a header', get('x-a: a\x7fb')],
  ['bytes that are no UTF-8', get('x-a: a\xe9b')],
  ['an empty credential', get('Proxy-Authorization:')],
  ['two credentials', get('Proxy-Authorization: -', 'Proxy-Authorization: Basic abc')],
  ['an unknown upgrade', get('Connection: Upgrade', 'Upgrade: foo')],
  ['two upgrades', get('Connection: Upgrade', 'Upgrade: websocket, foo')],
  ['an upgrade nobody asked the connection for', get('Upgrade: foo')],
  ['an unknown transfer encoding', get('Transfer-Encoding: gzip, chunked')],
  ['two lengths', get('Content-Length: 0', 'Content-Length: 0')],
  ['a list of lengths', get('Content-Length: 0, 0')],
  ['a length with a sign', get('Content-Length: +0')],
  ['length and chunks', get('Content-Length: 3', 'Transfer-Encoding: chunked')],
  ['another Host', (client) => `GET http://${client.authority}/a HTTP/1.1\r\nHost: other.test\r\n\r\n`],
  ['two Hosts', (client) => `GET /a HTTP/1.1\r\nHost: ${client.authority}\r\nHost: other.test\r\n\r\n`],
  ['an empty Host', () => 'GET /a HTTP/1.1\r\nHost:\r\n\r\n'],
  ['no Host', () => 'GET /a HTTP/1.1\r\n\r\n'],
  ['HTTP/1.0 without Host', () => 'GET /a HTTP/1.0\r\n\r\n'],
  ['the whole host', line('OPTIONS * HTTP/1.1')],
  ['no path', line('GET http://AUTH HTTP/1.1')],
  ['user information', line('GET http://u:p@AUTH/a HTTP/1.1')],
  ['https in the clear', line('GET https://AUTH/a HTTP/1.1')],
  ['another scheme', line('GET ftp://AUTH/a HTTP/1.1')],
  ['a lower-case method', line('get http://AUTH/a HTTP/1.1')],
  ['an unknown method', line('FETCH http://AUTH/a HTTP/1.1')],
  ['headers of ours', get('x-sallyport-class: 1', 'x-sallyport-connection: 2', 'X-Sallyport-Agent: robot')],
  ['headers named by Connection', get('Connection: x-sallyport-connection, host, proxy-authorization')],
  ['more headers than the limit', get(...many(110))],
  ['a header longer than the limit', get(`x-a: ${'a'.repeat(100 * 1024)}`)],
  ['a path longer than is leased', line(`GET http://AUTH/${'a'.repeat(5_000)} HTTP/1.1`)],
  ['a path longer than the limit', line(`GET http://AUTH/${'a'.repeat(33 * 1024)} HTTP/1.1`)],
])('%s', async (_, make) => {
  const [hot, cold] = await both(make);
  expect(hot.status).toBe(cold.status);
});

test('paths and queries of every spelling', async () => {
  const part = fc.constantFrom(
    ...[
      'a',
      'a',
      'b',
      'c.d',
      'x:y',
      'secret',
      'secret',
      'SECRET',
      '%73ecret',
      'secre%74',
      '..',
      '.',
      '%2e%2e',
      '%2E',
      '',
      '',
    ],
    ...[
      'x;y',
      'secret;v=1',
      '..;',
      '\\..\\secret',
      '%5c',
      '%2f',
      '%00',
      '\x01',
      '\xe9',
      '%',
      '%zz',
      '*',
      '|',
      '"',
    ],
  );
  const target = fc
    .tuple(
      fc.array(part, { minLength: 1, maxLength: 4 }),
      fc.constantFrom('', '/', '?q=/../secret', '?', '#x', '?a#b'),
    )
    .map(([parts, end]) => `/${parts.join('/')}${end}`);
  const found: string[] = [];
  let leases = 0;
  const [hot, cold] = [new Client(leased), new Client(checked)];
  for (const path of new Set(fc.sample(target, { numRuns: 600, seed: fuzzRuns.seed }))) {
    await hot.warm('GET');
    const ask = (client: Client): Promise<Told> =>
      client.send(client.plain(`GET http://${client.authority}${path} HTTP/1.1`));
    const [one, other] = [await ask(hot), await ask(cold)];
    if (one.leased) leases += 1;
    if (one.status !== other.status)
      found.push(`${JSON.stringify(path)}: ${one.status}, not ${other.status}`);
    // A refusal of Envoy's own ends the connection.
    if (one.status !== 200) hot.end();
    if (other.status !== 200) cold.end();
  }
  expect(found).toEqual([]);
  expect(leases).toBeGreaterThan(5);
  const odd = ({ seen }: LeasedWorld) => seen.map(({ url }) => url).filter((url) => url !== '/warm');
  expect(odd(leased)).toEqual(odd(checked));
}, 120_000);

test('none of it made the filter fail', async () => {
  const stats = await new Promise<string>((resolve, reject) => {
    const socketPath = join(dirname(leased.stateDir), 'r', 'envoy', 'a', 'admin.sock');
    request({ socketPath, path: '/stats?filter=lua.errors', headers: { host: 'envoy' } }, (response) => {
      let text = '';
      response.on('data', (more: Buffer) => {
        text += more.toString();
      });
      response.on('end', () => resolve(text));
    })
      .on('error', reject)
      .end();
  });
  expect(stats.split('\n').filter((said) => said !== '' && !said.endsWith(': 0'))).toEqual([]);
  expect(stats).toContain('http.explicit.lua.errors: 0');
});
