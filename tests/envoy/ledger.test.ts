/** The ledger on a real Envoy: its counts are the destination's own, and what went round it is found. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { adminClient } from '../../envoy/admin-client.ts';
import { rotate } from '../../envoy/log-rotation.ts';
import { envoyPaths } from '../../envoy/paths.ts';
import { startEnvoyPlane } from '../../envoy/plane.ts';
import { codeOf, sendRaw } from '../data-plane/ask.ts';
import { type Harness, startHarness } from '../data-plane/harness.ts';
import { sharedPolicy } from '../data-plane/policies.ts';
import { envoyBinary } from '../support/envoy.ts';
import { journaled, recordsOf } from '../support/ledger.ts';
import { until } from './clients.ts';

const endings: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});

async function harness(): Promise<Harness> {
  const h = await startHarness(
    async (deps) =>
      startEnvoyPlane({
        ...deps,
        settings: { ...deps.settings, envoy: { ...deps.settings.envoy, binary: await envoyBinary() } },
      }),
    { policy: sharedPolicy },
  );
  endings.push(h.close);
  return h;
}

const sentOf = (h: Harness): number =>
  journaled(join(h.dir, 's'), 'settlement')
    .filter(({ kind }) => kind === 'Sent')
    .reduce((sum, { calls }) => sum + calls, 0);
const callsOf = (h: Harness, kind: string): number =>
  journaled(join(h.dir, 's'), 'settlement')
    .filter((record) => record.kind === kind)
    .reduce((sum, { calls }) => sum + calls, 0);

/** Calls over a few kept connections; gives the status of each, 0 where the connection broke. */
async function load(h: Harness, calls: number, path: string, headers = {}): Promise<number[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: 8 });
  const one = (number: number): Promise<number> =>
    new Promise((resolve) => {
      const sent = request(
        {
          ...{ host: '127.0.0.1', port: h.port, agent },
          path: `http://api.test:${h.ports.http}${path}?n=${number}`,
          headers: { host: `api.test:${h.ports.http}`, ...headers },
        },
        (response) => {
          response.resume();
          response.once('close', () => resolve(response.statusCode ?? 0));
        },
      );
      sent.once('error', () => resolve(0));
      sent.end();
    });
  const statuses = await Promise.all(Array.from({ length: calls }, (_, number) => one(number)));
  agent.destroy();
  return statuses;
}

const arrived = (h: Harness): number => h.upstream.requests().length;

test('the counts are those of the destination, to the request, through rotations of the log', async () => {
  const h = await harness();
  const { accessLog, adminSocket } = envoyPaths(join(h.dir, 'r'), join(h.dir, 's'), '');
  const admin = adminClient(adminSocket);
  let statuses: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    const loading = load(h, 150, '/hello');
    await rotate([accessLog], {
      reopen: admin.reopenLogs,
      mayForget: h.ledger.plane.hasRead,
      bytesMax: 0,
    }).catch((thrown: unknown) => expect(thrown).toMatchObject({ code: 'Overloaded' }));
    statuses = statuses.concat(await loading);
  }
  expect(new Set(statuses)).toEqual(new Set([200]));
  await until(() => sentOf(h) === statuses.length, 'the settlement of every call', 20_000);
  expect(arrived(h)).toBe(statuses.length);
  await until(() => h.ledger.health().open === 0, 'that nothing is open', 20_000);
  expect([sentOf(h), journaled(join(h.dir, 's'), 'incident')]).toEqual([statuses.length, []]);
  const usage = journaled(join(h.dir, 's'), 'usage');
  expect(usage.reduce((sum, { event }) => sum + event.data.calls, 0)).toBe(statuses.length);
  expect(new Set(usage.map(({ event }) => event.id)).size).toBe(usage.length);
}, 60_000);

/** A filter in front of all others, as somebody would put it there who can write Envoy's configuration. */
function bypass(h: Harness): void {
  const paths = envoyPaths(join(h.dir, 'r'), join(h.dir, 's'), '');
  const file = join(paths.listeners, 'listeners.json');
  const text = readFileSync(file, 'utf8');
  const script = `function envoy_on_request(h)
    local decision = h:headers():get("x-bypass")
    if not decision then return end
    local metadata = h:streamInfo():dynamicMetadata()
    metadata:set("envoy.filters.http.ext_authz", "dst", "127.0.0.1:${h.ports.http}")
    if decision ~= "none" then metadata:set("envoy.filters.http.ext_authz", "decision", decision) end
  end`;
  const filter = {
    name: 'bypass',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua',
      default_source_code: { inline_string: script },
    },
  };
  const altered = text
    .replace(/"version_info":"[^"]*"/, '"version_info":"altered"')
    .replaceAll('"http_filters":[', `"http_filters":[${JSON.stringify(filter)},`);
  const draft = join(paths.staging, 'altered.json');
  writeFileSync(draft, altered, { mode: 0o644 });
  renameSync(draft, file);
}

test('twenty requests that an altered configuration sends round the check are all found', async () => {
  const h = await harness();
  const [status] = await load(h, 1, '/hello');
  expect(status).toBe(200);
  const used = h.decisions[0]?.decision.id ?? '';
  await until(() => sentOf(h) === 1, 'the call that was let pass');
  bypass(h);
  await until(
    async () => (await load(h, 1, '/admin/no', { 'x-bypass': 'none' }))[0] !== 403,
    'the altered configuration',
  );
  await until(() => recordsOf(h.journal, 'incident').length > 0, 'the first incident');
  const decided = h.decisions.length;
  const before = arrived(h);
  const toldBefore = recordsOf(h.journal, 'incident').length;

  const unknown = 'dec_01ARZ3NDEKTSV4RRFFQ69G5FAV';
  const kinds = ['none', unknown, used, `${used}#2`, 'made-up'];
  for (let number = 0; number < 20; number += 1)
    await load(h, 1, '/admin/users', { 'x-bypass': kinds[number % kinds.length] });
  expect(arrived(h) - before).toBe(20);
  await until(() => recordsOf(h.journal, 'incident').length - toldBefore >= 20, 'twenty incidents');
  const told = recordsOf(h.journal, 'incident').slice(toldBefore);
  expect(told.length).toBe(20);
  const byKind = Map.groupBy(told, ({ kind }) => kind);
  expect(Object.fromEntries([...byKind].map(([kind, list]) => [kind, list.length]))).toEqual({
    ...{ NoDecision: 8, UnknownDecision: 4, Replayed: 8 },
  });
  expect(told[0]).toMatchObject({
    ...{ upstream: `127.0.0.1:${h.ports.http}`, what: 'GET', outcome: 'Failure' },
    resource: `http://api.test:${h.ports.http}/admin/users`,
  });
  // None of them was asked about, and none is taken for one that was let pass.
  expect([h.decisions.length, sentOf(h)]).toEqual([decided, 1]);
}, 60_000);

test('what Envoy refuses by itself is in the journal, with the code that its caller was told', async () => {
  const h = await harness();
  const told: string[] = [];
  for (const bytes of [
    'GET /\x01 HTTP/1.1\r\n\r\n',
    `GET http://api.test/ HTTP/1.1\r\nHost: api.test\r\nx: ${'y'.repeat(limits.requestHeaderBytesMax + 10)}\r\n\r\n`,
    `GET / HTTP/1.1\r\nHost: 127.0.0.1:${h.port}\r\n\r\n`,
  ])
    told.push(codeOf(await sendRaw(h, bytes)));
  expect(told).toEqual(['RequestMalformed', 'HeadersTooLarge', 'NotFound']);
  await until(() => h.refusals.length >= told.length || recordsOf(h.journal, 'decision').length >= 3, 'them');
  expect(h.decisions).toEqual([]);
  const records = recordsOf(h.journal, 'decision');
  expect(records.map(({ code }) => code)).toEqual(told);
  expect(records[2]).toMatchObject({ kind: 'Deny', via: 'envoy', outcome: 'Denied', what: 'GET' });
  expect(recordsOf(h.journal, 'incident')).toEqual([]);
});

test('a killed Envoy leaves a gap of what it had not written, which is told; nothing else is unknown', async () => {
  const h = await harness();
  await load(h, 200, '/hello');
  await until(() => sentOf(h) === 200, 'the first calls');
  const { pid } = await h.plane.health();
  const loading = load(h, 300, '/hello');
  await until(() => arrived(h) > 240, 'calls under way');
  process.kill(pid, 'SIGKILL');
  await loading;
  await until(async () => {
    const health = await h.plane.health();
    return health.healthy && health.pid !== pid;
  }, 'another Envoy');
  const [status] = await load(h, 1, '/hello');
  expect(status).toBe(200);
  await until(() => h.ledger.health().open === 0, 'that nothing is open', 20_000);
  const sent = sentOf(h);
  const unknown = callsOf(h, 'Unknown');
  const gaps = recordsOf(h.journal, 'incident');
  expect(gaps.map(({ kind }) => kind)).toEqual(unknown > 0 ? ['Gap'] : []);
  expect(gaps.reduce((sum, { count }) => sum + count, 0)).toBe(unknown);
  // What arrived is what was settled as Sent, and at most what nobody knows more.
  expect(arrived(h)).toBeGreaterThanOrEqual(sent);
  expect(arrived(h)).toBeLessThanOrEqual(sent + unknown);
  // All that was written before the kill is known: the first calls are not among the unknown.
  const first = new Set(h.decisions.slice(0, 200).map(({ decision }) => decision.id as string));
  const lost = journaled(join(h.dir, 's'), 'settlement').filter(({ kind }) => kind === 'Unknown');
  expect(lost.filter(({ id }) => first.has(id))).toEqual([]);
}, 60_000);
