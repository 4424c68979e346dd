/**
 * Replay, suggest and trace over what a real sidecar wrote, and its spans at a real receiver. The sidecar has ended
 * by then: what is on record is enough.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { cli, type Ran, until } from '../../support/cli.ts';
import { stateWith } from '../../support/journal-lines.ts';
import { type Collector, startCollector } from '../../support/otlp-collector.ts';
import { type Bench, curl, makeBench, type Running, startRunning } from '../../support/sidecar.ts';
import { someDecision } from '../../support/some-record.ts';

const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
const shadowRule = (ports: string): string => `  - name: learn
    to: { hosts: [demo.sallyport.test], ports: ${ports}, internal: true }
    allow: {}
    mode: shadow
`;

let bench: Bench;
let collector: Collector;
let ids: Record<'allowed' | 'denied' | 'held', string>;

/** The last: before it stands the answer to the CONNECT. */
const idOf = (headers: string): string =>
  [...headers.matchAll(/x-sallyport-decision: (dec_\w+)/gi)].at(-1)?.[1] ?? '';

/** With the response's headers in what is returned. */
const ask = async (running: Running, ...args: string[]): Promise<string> =>
  idOf((await curl(running.status, ['-i', ...args])).body);

beforeAll(async () => {
  bench = await makeBench();
  collector = await startCollector();
  const policy = readFileSync(bench.policyFile, 'utf8');
  const ports = `[${bench.upstream.httpPort}, ${bench.upstream.httpsPort}]`;
  writeFileSync(bench.policyFile, policy.replace('quotas:', `${shadowRule(ports)}quotas:`));
  const running = await startRunning(bench, [], { SALLYPORT_TELEMETRY_OTLP_ENDPOINT: collector.url });
  const allowed = await ask(running, '-H', `traceparent: ${traceparent}`, `${bench.plain}/hello`);
  const denied = await ask(running, '-X', 'DELETE', `${bench.secure}/v1/things/17`);
  const held = curl(running.status, ['-i', '-X', 'POST', '-d', '{}', `${bench.plain}/orders`]);
  const pending = await until('a hold', async () => {
    const { holds } = JSON.parse((await bench.cli(['holds', 'list', '--json'])).out) as {
      holds: { id: string }[];
    };
    return holds[0]?.id;
  });
  expect((await bench.cli(['holds', 'approve', pending, '--by', 'dana', '--note', 'go ahead'])).code).toBe(0);
  ids = { allowed, denied, held: idOf((await held).body) };
  await until('the settlements', () =>
    collector.spans.filter(({ kind }) => kind === 3).length >= 2 ? true : undefined,
  );
  await bench.cli(['stop']);
  await running.ended;
}, 60_000);
afterAll(async () => {
  await collector.close();
  await bench.close();
});

const json = (ran: Ran): Record<string, unknown> => JSON.parse(ran.out) as Record<string, unknown>;

describe('trace', () => {
  test('one picture from request to bytes', async () => {
    const { code, out } = await bench.cli(['trace', ids.allowed]);
    expect(code).toBe(0);
    expect(out).toMatch(/^dec_\w+ {2}ALLOW /);
    expect(out).toContain(`GET ${bench.plain}/hello`);
    expect(out).toContain('spiffe://sallyport.test/agent/tester');
    expect(out).toMatch(/rule +read \(policy [0-9a-f]{12}\)/);
    expect(out).toMatch(/pin +127\.0\.0\.1:\d+/);
    expect(out).toMatch(/upstream +[\d:.]+ 200 from 127\.0\.0\.1:\d+, \d+ B out, \d+ B back/);
    expect(out).toMatch(/settled +Sent: 1 call, last status 200/);
    expect(out).toContain('trace 4bf92f3577b34da6a3ce929d0e0e4736');
    expect(out).toMatch(/audit +leaf \d+ of \d+ in log .*: proven by its checkpoint/);
  });

  test('who approved, when and why', async () => {
    const { out } = await bench.cli(['trace', ids.held]);
    expect(out).toMatch(/approved by dana, after .*: go ahead/);
    expect(out).toContain('released for this request');
  });

  test('a beginning, a hold and a trace lead to it too', async () => {
    const held = json(await bench.cli(['trace', ids.held, '--json']))['decision'] as { hold: string };
    const same = async (text: string) =>
      (json(await bench.cli(['trace', text, '--json']))['decision'] as { id: string }).id;
    expect(await same(held.hold)).toBe(ids.held);
    expect(await same(ids.allowed.slice(4).toLowerCase())).toBe(ids.allowed);
    expect(await same('4bf92f3577b34da6a3ce929d0e0e4736')).toBe(ids.allowed);
    const { span } = json(await bench.cli(['trace', ids.denied, '--json'])) as { span: { trace_id: string } };
    expect(await same(span.trace_id)).toBe(ids.denied);
  });

  test('a record that was changed afterwards is not proven', async () => {
    const journal = join(
      bench.home.env['SALLYPORT_STATE_DIR'] ?? '',
      'journal',
      'decisions-0000000001.jsonl',
    );
    const kept = readFileSync(journal, 'utf8');
    writeFileSync(journal, kept.replace('"rule":"read"', '"rule":"raed"'));
    try {
      const { out } = await bench.cli(['trace', ids.allowed]);
      expect(out).toMatch(/rule +raed/);
      expect(out).toMatch(/audit +leaf \d+ of \d+ in log .*: NOT proven, the leaf commits to another line/);
    } finally {
      writeFileSync(journal, kept);
    }
  });

  test('what is no id, not unique or not there is told apart', async () => {
    const many = await bench.cli(['trace', 'dec_0']);
    expect([many.code, many.err]).toEqual([2, expect.stringContaining('is the beginning of')]);
    const none = await bench.cli(['trace', 'dec_7ZZZZZZZZZZZZZZZZZZZZZZZZZ']);
    expect([none.code, none.err]).toEqual([1, expect.stringContaining('no decision')]);
    expect((await bench.cli(['trace', 'what?'])).code).toBe(2);
    expect((await bench.cli(['trace', 'dec_0', '--state-dir', bench.home.dir])).err).toContain(
      'there is no journal',
    );
  });
});

describe('replay', () => {
  const candidate = (change: (text: string) => string): string => {
    const file = join(bench.home.dir, 'candidate.yaml');
    writeFileSync(file, change(readFileSync(bench.policyFile, 'utf8')));
    return file;
  };

  test('the policy that holds changes nothing', async () => {
    const { code, out } = await bench.cli([
      'replay',
      bench.policyFile,
      '--fail-on',
      'newly-allowed,newly-denied,newly-held,undetermined',
      '--json',
    ]);
    const report = JSON.parse(out) as {
      total: { decisions: number };
      unchanged: { decisions: number };
      beside: object;
    };
    expect([code, report.unchanged, report.beside]).toEqual([0, report.total, {}]);
    expect(report.total.decisions).toBeGreaterThanOrEqual(4);
  });

  test('a rule that is gone is told with its requests, and fails', async () => {
    const file = candidate((text) =>
      text
        .replace('paths: [/hello, /stream]', 'paths: [/stream]')
        .replace(/hold: \{ approvers.*\}/, 'allow: {}'),
    );
    const { code, out } = await bench.cli(['replay', file]);
    expect(code).toBe(1);
    expect(out).toMatch(/newly allowed +1\n/);
    expect(out).toMatch(/newly denied +1\n/);
    expect(out).toContain(`tester GET ${bench.plain}/hello`);
    expect(out).toContain('passed by read → denied by no rule');
    expect(out).toContain('held by orders → passed by orders');
    expect(out).toContain(ids.allowed);
  });

  test('only the kinds that are asked for fail', async () => {
    const file = candidate((text) => text.replace('paths: [/hello, /stream]', 'paths: [/stream]'));
    expect((await bench.cli(['replay', file, '--fail-on', 'newly-allowed,newly-held'])).code).toBe(0);
    expect((await bench.cli(['replay', file, '--fail-on', 'none'])).code).toBe(0);
    expect((await bench.cli(['replay', file, '--fail-on', 'newly-denied'])).code).toBe(1);
  });

  test('bad input is 2, and so is a time without decisions', async () => {
    const broken = candidate((text) => text.replace('methods: [GET]', 'methods: [get]'));
    const wrong = await bench.cli(['replay', broken]);
    expect([wrong.code, wrong.err]).toEqual([2, expect.stringContaining('candidate.yaml:')]);
    expect((await bench.cli(['replay', bench.policyFile, '--fail-on', 'newly'])).code).toBe(2);
    expect((await bench.cli(['replay', bench.policyFile, '--since', 'yesterday'])).code).toBe(2);
    expect((await bench.cli(['replay', bench.policyFile, '--state-dir', bench.home.dir])).code).toBe(2);
    const none = await bench.cli(['replay', bench.policyFile, '--since', '0s']);
    expect([none.code, none.err]).toEqual([2, expect.stringContaining('nothing was compared')]);
  });
});

describe('suggest', () => {
  test('what shadow mode saw, as a policy that check accepts and that allows it', async () => {
    const { code, out } = await bench.cli(['suggest']);
    expect(code).toBe(0);
    const file = join(bench.home.dir, 'suggested.yaml');
    writeFileSync(file, out);
    expect((await bench.cli(['check', file])).code).toBe(0);
    const { rules } = parse(out) as { rules: { to: object }[] };
    expect(rules).toMatchObject([
      {
        agents: ['tester'],
        to: { hosts: ['demo.sallyport.test'], methods: ['DELETE'], paths: ['/v1/things/17'], internal: true },
        allow: {},
      },
    ]);
    expect(out).toContain(ids.denied);
    // Added to the policy, it is what makes the replay say newly allowed.
    const added = join(bench.home.dir, 'added.yaml');
    const policy = parse(readFileSync(bench.policyFile, 'utf8')) as { rules: object[] };
    writeFileSync(added, JSON.stringify({ ...policy, rules: [...policy.rules, ...rules] }));
    const replayed = json(await bench.cli(['replay', added, '--json']));
    expect(replayed['newly_allowed']).toEqual({ decisions: 1, calls: 1 });
    expect(replayed['newly_denied']).toEqual({ decisions: 0, calls: 0 });
  });
});

describe('spans', () => {
  test('a decision is in its caller’s trace, and what was sent below it', () => {
    const check = collector.spans.find(
      ({ attributes }) => attributes['sallyport.decision.id'] === ids.allowed,
    );
    const upstream = collector.spans.find(
      ({ attributes, kind }) => attributes['sallyport.decision.id'] === ids.allowed && kind === 3,
    );
    expect(check).toMatchObject({
      name: 'check GET',
      traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
      parentSpanId: '00f067aa0ba902b7',
    });
    expect(upstream).toMatchObject({
      name: 'GET',
      parentSpanId: check?.spanId,
      attributes: { 'http.response.status_code': 200 },
    });
  });

  test('a denial and a hold have theirs', () => {
    const named = (id: string) =>
      collector.spans
        .filter(({ attributes }) => attributes['sallyport.decision.id'] === id)
        .map(({ name }) => name);
    expect(named(ids.denied)).toEqual(['check DELETE']);
    expect(named(ids.held).sort()).toEqual(['POST', 'check POST', 'hold']);
  });
});

test('a lease counts for its calls, and what was erased or damaged is told', async () => {
  const now = BigInt(Date.now() - 60_000) * 1_000_000n;
  const at = { logical: 0, physical_ns: String(now) };
  const lease = someDecision({
    at,
    calls: 32,
    lease_ms: 500,
    lease_path: '/v1/',
    lease_exact: false,
    resource: 'https://api.github.com:443/v1/a',
  });
  const state = stateWith([lease, { erased: 'leaf' }, { at: 1 }]);
  const policy = join(bench.home.dir, 'none.yaml');
  writeFileSync(policy, 'version: 1\nagents: { deployer: { identity: spiffe://example.org/deployer } }\n');
  try {
    const { code, out, err } = await cli(['replay', policy, '--state-dir', state.dir], {});
    expect(code).toBe(1);
    expect(out).toContain('newly denied   1 (32 calls)');
    expect(err).toContain('1 lines could not be read');
    expect(err).toContain('1 records are erased');
    const drawn = await cli(['trace', `${lease.id}#3`, '--state-dir', state.dir], {});
    expect(drawn.out).toContain('32 calls of GET /v1/…, for 500 ms until');
    expect(drawn.out).toContain('use 3 of 32 is asked for');
  } finally {
    state.remove();
  }
});
