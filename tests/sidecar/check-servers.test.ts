import { statSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { settingsSchema } from '../../config/settings.ts';
import type { JournalRecord } from '../../filters/common/record.ts';
import { startCheckServers } from '../../sidecar/check-servers.ts';
import { createEnding } from '../../sidecar/ending.ts';
import { world } from '../ext-authz/check-world.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const policy = `version: 1
agents: { robot: { identity: spiffe://example.org/robot } }
rules:
  - { name: read, to: { hosts: [api.example.com], schemes: [http], methods: [GET] }, allow: {} }
`;
const token = 'a-token-of-at-least-thirty-two-characters';

const ask = (
  to: { socketPath: string } | { host: string; port: number },
  headers: Record<string, string> = {},
) =>
  new Promise<IncomingMessage>((resolve, reject) => {
    const call = request(
      { ...to, path: '/check/hello', headers: { host: 'api.example.com', ...headers } },
      (answer) => {
        answer.resume().on('end', () => resolve(answer));
      },
    );
    call.on('error', reject).end();
  });

let decided: () => readonly JournalRecord[] = () => [];
const start = async (settings: Record<string, unknown>) => {
  const log = pino({ level: 'silent' });
  const ending = createEnding(log);
  onTestFinished(() => ending.run());
  const { checker, journal } = world(policy);
  decided = () => journal.tail(10);
  const parsed = settingsSchema.parse({ ext_authz: settings }).ext_authz;
  return startCheckServers({ settings: parsed, checker, log, token, onRefusal: () => undefined, ending });
};

test('nothing listens where no setting asks for it', async () => {
  expect(await start({})).toEqual({ grpc: [], http: [] });
});

test('a Unix socket answers its owner without a token, and is closed to others', async () => {
  const directory = temporaryDirectory();
  const sockets = { grpc_socket: join(directory, 'grpc.sock'), http_socket: join(directory, 'http.sock') };
  const servers = await start(sockets);
  expect([servers.grpc.length, servers.http.length]).toEqual([1, 1]);
  for (const socket of Object.values(sockets)) expect(statSync(socket).mode & 0o777).toBe(0o600);
  const answer = await ask({ socketPath: sockets.http_socket });
  expect(answer.statusCode).toBe(200);
  expect(answer.headers['x-sallyport-dst']).toBe('93.184.215.14:80');
  // The ledger waits for no line of an Envoy whose log it cannot read.
  expect(decided()).toMatchObject([{ kind: 'Allow', via: 'ext_authz' }]);
});

test('TCP wants the token', async () => {
  const servers = await start({ http_port: 0 });
  const to = { host: '127.0.0.1', port: Number(servers.http[0]?.split(':').at(-1)) };
  expect((await ask(to)).statusCode).not.toBe(200);
  expect((await ask(to, { 'x-sallyport-token': token })).statusCode).toBe(200);
});
