/** The answers of the admin API: one spelling of every name, and faults told with field, value and what may stand there. */
import { request } from 'node:http';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../../support/cli.ts';
import { type Bench, curl, makeBench, type Running, startRunning } from '../../support/sidecar.ts';

let bench: Bench;
let running: Running;
let hold: string;
beforeAll(async () => {
  bench = await makeBench();
  running = await startRunning(bench);
  await curl(running.status, [`${bench.plain}/hello`]);
  const held = curl(running.status, ['-d', '{"item":"book"}', `${bench.plain}/orders`]).catch(
    () => undefined,
  );
  hold = await until('a pending hold', async () => {
    const { holds } = (await ask('/v1/holds?state=Pending')) as { holds: { id: string }[] };
    return holds[0]?.id;
  });
  await ask(`/v1/holds/${hold}/deny`, { by: 'dana', note: 'no' });
  await held;
});
afterAll(async () => bench.close());

const ask = (path: string, body?: unknown): Promise<unknown> =>
  new Promise((resolve, reject) => {
    const call = request(
      {
        socketPath: running.status.admin.socket,
        path,
        method: body === undefined ? 'GET' : 'POST',
        headers: body === undefined ? {} : { 'content-type': 'application/json' },
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          text += part;
        });
        response.on('end', () => resolve(JSON.parse(text)));
      },
    );
    call.on('error', reject);
    call.end(body === undefined ? undefined : JSON.stringify(body));
  });

/** Every name in a value, but the names of headers and of states: those are values. */
function namesIn(value: unknown, path = ''): readonly string[] {
  if (Array.isArray(value)) return value.flatMap((one) => namesIn(one, path));
  if (typeof value !== 'object' || value === null || /\.(headers|counts|holds)$/.test(path)) return [];
  return Object.entries(value).flatMap(([name, inner]) => [
    `${path}.${name}`,
    ...namesIn(inner, `${path}.${name}`),
  ]);
}

test('every name is in snake_case', async () => {
  const answers = [
    await ask('/v1/status'),
    await ask('/v1/policy'),
    await ask('/v1/decisions'),
    ...((await ask('/v1/holds')) as { holds: unknown[] }).holds,
    await ask(`/v1/holds/${hold}`),
    await ask('/v1/explain', { method: 'GET', url: `${bench.plain}/hello`, agent: 'tester' }),
    await ask('/health'),
    await ask('/v1/nothing'),
  ];
  const names = answers.flatMap((answer) => namesIn(answer));
  for (const known of [
    '.decided_by',
    '.request.body_bytes',
    '.processes.start_ticks',
    '.decisions.policy_version',
  ])
    expect(names).toContain(known);
  expect(names.filter((name) => !/^(\.[a-z][a-z0-9]*(_[a-z0-9]+)*)+$/.test(name))).toEqual([]);
});

test('so it is in what the commands print', async () => {
  const { out } = await bench.cli(['holds', 'show', hold, '--json']);
  expect(JSON.parse(out)).toEqual(await ask(`/v1/holds/${hold}`));
  const shown = await bench.cli(['holds', 'show', hold]);
  expect(shown.out).toContain(`${hold} is Denied, by dana`);
});

const states =
  '"Pending", "Approved", "Denied", "Escalated", "TimedOut", "Cancelled", "Released", "Unknown", "Sent", "NotSent"';

test.each([
  ['/v1/holds?state=Bogus', undefined, `state[0]: expected one of ${states}, found "Bogus"`],
  [
    '/v1/holds?state=Pending,Pendin',
    undefined,
    `state[1]: expected one of ${states}, found "Pendin"; did you mean "Pending"?`,
  ],
  [
    '/v1/holds?limit=0&colour=red',
    undefined,
    'limit: expected a number of at least 1, found "0"; colour: unknown key',
  ],
  ['/v1/holds?limit=many', undefined, 'limit: expected a number, found "many"'],
  [
    '/v1/holds/hold_bad',
    undefined,
    'id: expected hold_ and 26 characters of Crockford base 32, found "hold_bad"',
  ],
  ['/v1/holds/ID/deny', { note: 'x' }, 'by: missing; expected text'],
  ['/v1/explain', { method: 'GET', url: 'notaurl', agent: 'tester' }, '"notaurl" is not a URL such as'],
  ['/v1/explain', [], 'the request: expected a mapping, found a list of 0'],
  [
    '/v1/explain',
    { method: 'GET', url: 'http://x/', headers: { a: 1 } },
    'headers.a: expected text, found 1',
  ],
] as const)('%s %j is told in words', async (path, body, told) => {
  const answer = (await ask(path.replace('ID', hold), body)) as { code: string; detail: string };
  expect([answer.code, answer.detail]).toEqual(['RequestMalformed', expect.stringContaining(told)]);
});

test('what may be secret is not repeated', async () => {
  const body = { method: 'GET', url: 'http://x/', headers: { authorization: ['cAnArY'] }, body: ['cAnArY'] };
  expect(JSON.stringify(await ask('/v1/explain', body))).not.toContain('cAnArY');
});
