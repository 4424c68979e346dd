/** What a newcomer does in the first minute, with the real programs: start, the five calls, approve, look, stop. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../support/cli.ts';
import { type Bench, curl, makeBench, type Running, startRunning } from '../support/sidecar.ts';

let bench: Bench;
let running: Running;
beforeAll(async () => {
  bench = await makeBench();
  running = await startRunning(bench);
});
afterAll(async () => bench.close());

const pendingHold = () =>
  until('a pending hold', async () => {
    const { out } = await bench.cli(['holds', 'list', '--state', 'Pending', '--json']);
    const { holds } = JSON.parse(out) as { holds: { id: string }[] };
    return holds[0]?.id;
  });

describe('the calls of an agent', () => {
  test('that a rule allows arrive', async () => {
    expect(await curl(running.status, [`${bench.plain}/hello`])).toMatchObject({ code: 200 });
  });

  test('that no rule allows are denied in words, and never arrive', async () => {
    const { code, body } = await curl(running.status, [`${bench.plain}/admin/users`]);
    expect(code).toBe(403);
    expect(JSON.parse(body)).toMatchObject({ status: 403, code: 'EgressDenied' });
    expect(bench.upstream.requests().some((request) => request.path.startsWith('/admin'))).toBe(false);
  });

  test('beyond the quota are throttled', async () => {
    const codes: number[] = [];
    for (let i = 0; i < 4; i += 1) codes.push((await curl(running.status, [`${bench.plain}/limited`])).code);
    expect(codes).toEqual([200, 200, 200, 429]);
  });

  test('over HTTPS are seen with method and path', async () => {
    expect(await curl(running.status, [`${bench.secure}/hello`])).toMatchObject({ code: 200 });
    expect(await curl(running.status, [`${bench.secure}/admin`])).toMatchObject({ code: 403 });
  });

  test('that a person must approve wait for them, and go out once', async () => {
    const before = bench.upstream.requests().filter((request) => request.path === '/orders').length;
    const answer = curl(running.status, ['-d', '{"item":"book"}', `${bench.plain}/orders`]);
    const id = await pendingHold();
    const shown = await bench.cli(['holds', 'show', id]);
    expect(shown.out).toContain('orders cost money');
    expect((await bench.cli(['holds', 'show', id.slice(0, -1)])).out).toBe(shown.out);
    const stranger = await bench.cli(['holds', 'approve', id, '--by', 'mallory']);
    expect([stranger.code, stranger.err]).toEqual([1, expect.stringContaining('mallory')]);
    const approved = await bench.cli(['holds', 'approve', '--by', 'dana', '--note', 'fine']);
    expect([approved.code, approved.out]).toEqual([0, expect.stringContaining(`${id} is Approved`)]);
    expect((await answer).code).toBeLessThan(300);
    const sent = bench.upstream.requests().filter((request) => request.path === '/orders').length;
    expect(sent - before).toBe(1);
    const after = await until('the hold to be settled', async () => {
      const { out } = await bench.cli(['holds', 'show', id]);
      return out.includes('is Released') ? undefined : out;
    });
    expect(after).toMatch(/^hold_\w+ is Sent, approved by dana\n/);
  });

  test('that a person denies are told so', async () => {
    const answer = curl(running.status, ['-d', '{"item":"yacht"}', `${bench.plain}/orders`]);
    const id = await pendingHold();
    expect(await bench.cli(['holds', 'deny', id, '--by', 'lee', '--json'])).toMatchObject({ code: 0 });
    const { code, body } = await answer;
    expect([code, JSON.parse(body)]).toEqual([403, expect.objectContaining({ code: 'HoldDenied' })]);
  });
});

test('the log has one line for each decision, without query or body', async () => {
  await curl(running.status, ['-H', 'authorization: Bearer cAnArY', `${bench.plain}/hello?token=cAnArY`]);
  await until('the line', () => (running.log().match(/"kind":"Allow"/g)?.length ?? 0) > 0 || undefined);
  expect(running.log()).toContain('"what":"GET"');
  expect(running.log()).not.toContain('cAnArY');
  expect(running.log()).not.toContain('yacht');
});

test('status tells what runs and where', async () => {
  const { code, out } = await bench.cli(['status']);
  expect(code).toBe(0);
  expect(out).toContain(running.status.data_plane.proxy);
  expect(out).toContain('embedded');
  const json = JSON.parse((await bench.cli(['status', '--json'])).out);
  expect(json).toMatchObject({ pid: running.child.pid, health: { status: 'Healthy' } });
});

test('decisions shows the newest first, each with its rule', async () => {
  const { out } = await bench.cli(['decisions', '--limit', '5', '--json']);
  const { decisions } = JSON.parse(out) as { decisions: { id: string; kind: string }[] };
  expect(decisions.length).toBe(5);
  expect([...decisions].sort((a, b) => (a.id < b.id ? 1 : -1))).toEqual(decisions);
  expect((await bench.cli(['decisions'])).out).toContain('EgressDenied');
});

test('a second sidecar of the same state is refused with the pid of the first', async () => {
  const second = await bench.cli(['start']);
  expect(second.code).toBe(1);
  expect(second.err).toContain(`pid ${running.child.pid}`);
  expect(await bench.cli(['status'])).toMatchObject({ code: 0 });
});

test('stop ends the sidecar and all it started, and says so', async () => {
  const { code, out } = await bench.cli(['stop']);
  expect([code, out]).toEqual([0, expect.stringContaining(`sidecar (pid ${running.child.pid})`)]);
  expect((await running.ended).code).toBe(0);
  expect(await bench.cli(['status'])).toMatchObject({
    code: 1,
    err: expect.stringContaining('no sidecar runs here'),
  });
  expect(await bench.cli(['stop'])).toMatchObject({ code: 0, out: 'nothing runs here\n' });
});
