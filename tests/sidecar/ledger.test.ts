import { appendFileSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import type { LedgerUse } from '../../filters/metering/use.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { recordsOf } from '../support/ledger.ts';
import { ledgerWorld, startMs } from '../support/ledger-world.ts';
import { decisionId, lineOf, someUse } from '../support/some-use.ts';

const call = (number: number, changes: Partial<LedgerUse> = {}): Partial<LedgerUse> => ({
  decision: decisionId(number),
  stream: `${number}`,
  ...changes,
});

test('a call that ended is settled in the journal, with one usage event', async () => {
  const w = ledgerWorld();
  w.allow(1);
  w.log(call(1));
  w.read();
  expect([w.settled(), w.used()]).toEqual([['01 Sent 1'], ['01 1']]);
  expect(await w.counted('sallyport_settled_calls_total')).toEqual([
    'sallyport_settled_calls_total{kind="Sent"} 1',
  ]);
  expect(recordsOf(w.written, 'usage')[0]?.event).toMatchObject({
    ...{ specversion: '1.0', source: 'urn:sallyport:ledger', subject: 'spiffe://example.org/deployer' },
    time: new Date(startMs + 20).toISOString(),
    data: { rule: 'github-read', bytes_in: 3, bytes_out: 10, status: 200 },
  });
});

test('only what our own data plane may send is waited for', () => {
  const w = ledgerWorld();
  w.allow(1, { via: 'authzen' });
  w.allow(2, { kind: 'Deny', code: 'EgressDenied' });
  w.allow(3, { pin: '' });
  expect(w.ledger.health().open).toBe(0);
  w.allow(4, { via: 'embedded' });
  expect(w.ledger.health().open).toBe(1);
});

test('a lease is one settlement and one usage event with its quantity', () => {
  const w = ledgerWorld();
  w.allow(1, { calls: 5, lease_ms: 500 });
  for (const ordinal of [1, 2, 3]) w.log(call(1, { ordinal, stream: `1.${ordinal}` }));
  w.read();
  expect(w.settled()).toEqual([]);
  w.clock.pass(10_000);
  w.read();
  expect([w.settled(), w.used()]).toEqual([['01 Sent 3', '01 Expired 2'], ['01 3']]);
});

test('listeners hear of every line of a decision, and of every settlement', () => {
  const w = ledgerWorld();
  const told: string[] = [];
  w.ledger.onUse(({ decision, ordinal, final }) => told.push(`${decision.slice(-2)}#${ordinal} ${final}`));
  w.ledger.onSettled(({ facts, kind, calls }) => told.push(`${facts.id.slice(-2)} ${kind} ${calls}`));
  w.allow(1, { calls: 4, lease_ms: 500 });
  w.allow(2);
  w.log(
    call(1, { ordinal: 2, final: false }),
    call(1, { ordinal: 2 }),
    call(2, { left: false, upstream: '' }),
  );
  w.log({ decision: '', upstream: '', left: false, status: 400 });
  w.read();
  expect(told).toEqual(['01#2 false', '01#2 true', '02 NotSent 1', '02#undefined true']);
});

test('twenty requests that nothing let pass are twenty incidents, each once', async () => {
  const w = ledgerWorld();
  w.allow(1);
  w.log(call(1));
  for (let number = 0; number < 20; number += 1) {
    const decision = ['', decisionId(50 + number), decisionId(1)][number % 3] ?? '';
    w.log({ decision, stream: `bypass ${number}`, path: `/secret?no` });
  }
  w.read();
  const incidents = recordsOf(w.written, 'incident');
  expect(incidents.length).toBe(20);
  expect(
    Map.groupBy(incidents, ({ kind }) => kind)
      .keys()
      .toArray()
      .sort(),
  ).toEqual(['NoDecision', 'Replayed', 'UnknownDecision']);
  expect(incidents[0]).toMatchObject({ upstream: '140.82.121.6:443', what: 'GET', outcome: 'Failure' });
  expect(await w.counted('sallyport_incidents_total')).toHaveLength(3);
  w.kill();
  w.start();
  expect(w.incidents().length).toBe(20);
});

test('a flood of incidents is bounded in the journal, and its number is told', () => {
  const w = ledgerWorld();
  const number = limits.incidentsPerSecondMax + 500;
  for (let at = 0; at < number; at += 1) w.log({ decision: '', stream: `bypass ${at}` });
  w.read();
  w.clock.pass(2_000);
  w.read();
  const counts = recordsOf(w.written, 'incident').map(({ count }) => count);
  expect(counts.length).toBeLessThanOrEqual(limits.incidentsPerSecondMax + 3);
  expect(counts.reduce((sum, count) => sum + count, 0)).toBe(number);
});

test('what Envoy refused by itself is a denial in the journal, with the code that its caller was told', () => {
  const w = ledgerWorld();
  const refusal = { decision: '', upstream: '', left: false, method: '', authority: '', path: '' };
  w.log({
    ...refusal,
    status: 431,
    error: 'HeadersTooLarge',
    details: 'http1.headers_too_large',
    stream: 'a',
  });
  w.log({ ...refusal, status: 408, error: '', details: 'request_header_timeout', stream: 'b' });
  w.log({ ...refusal, status: 503, error: 'not a code', details: 'x', stream: 'c' });
  w.read();
  expect(recordsOf(w.written, 'decision')).toMatchObject([
    { kind: 'Deny', code: 'HeadersTooLarge', via: 'envoy', outcome: 'Denied' },
    { kind: 'Deny', code: 'RequestMalformed' },
    { kind: 'Deny', code: 'ServiceUnavailable' },
  ]);
  expect(w.incidents()).toEqual([]);
  w.kill();
  w.start();
  expect(recordsOf(w.written, 'decision').length).toBe(3);
});

test('a flood of refusals is bounded in the journal, and counted whole', async () => {
  const w = ledgerWorld();
  const number = limits.refusalsPerSecondMax + 300;
  for (let at = 0; at < number; at += 1)
    w.log({
      decision: '',
      upstream: '',
      left: false,
      status: 400,
      error: 'RequestMalformed',
      stream: `${at}`,
    });
  w.read();
  expect(recordsOf(w.written, 'decision').length).toBe(limits.refusalsPerSecondMax);
  expect(await w.counted('sallyport_decisions_total')).toEqual([
    `sallyport_decisions_total{kind="Deny",code="RequestMalformed"} ${number}`,
  ]);
});

test.each(['settlement', 'usage'])(
  'where a %s cannot be written, it is written later, and nothing twice',
  (type) => {
    const w = ledgerWorld();
    w.allow(1);
    w.allow(2);
    w.log(call(1), call(2));
    w.refuse.add(type);
    expect(() => w.read()).toThrow('the disk is full');
    expect(() => w.read()).toThrow('the disk is full');
    w.refuse.clear();
    w.read();
    expect([w.settled(), w.used()]).toEqual([
      ['01 Sent 1', '02 Sent 1'],
      ['01 1', '02 1'],
    ]);
  },
);

test('a crash between the records of one settlement: what is missing is written by the next sidecar', () => {
  const w = ledgerWorld();
  w.allow(1);
  w.log(call(1));
  w.cut.add('usage');
  expect(() => w.read()).toThrow('killed');
  w.kill();
  w.cut.clear();
  w.start();
  expect([w.settled(), w.used()]).toEqual([['01 Sent 1'], ['01 1']]);

  w.allow(2, { calls: 5, lease_ms: 500 });
  w.log(call(2, { ordinal: 1, stream: '2.1' }));
  w.clock.pass(10_000);
  w.cut.add('usage');
  expect(() => w.read()).toThrow('killed');
  w.kill();
  w.cut.clear();
  w.start();
  const [last] = w.settled().slice(-1);
  expect([last, w.used()]).toEqual(['02 Unknown 4', ['01 1', '02 1']]);
});

test('a lease that was settled by time is not told again after a crash, though its lines are read again', () => {
  const w = ledgerWorld();
  w.allow(1, { calls: 5, lease_ms: 500 });
  for (const ordinal of [1, 2]) w.log(call(1, { ordinal, stream: `1.${ordinal}` }));
  const { ledgerStateMs } = limits;
  Object.assign(limits, { ledgerStateMs: 1e9 });
  onTestFinished(() => void Object.assign(limits, { ledgerStateMs }));
  w.read();
  w.clock.pass(10_000);
  w.read();
  w.kill();
  w.start();
  expect([w.settled(), w.incidents()]).toEqual([['01 Sent 2', '01 Expired 3'], []]);
});

test('what time settled behind the place that was kept does not hide the lines that follow', () => {
  const w = ledgerWorld();
  w.allow(1, { calls: 5, lease_ms: 500 });
  w.log(call(1, { ordinal: 1, stream: '1.1' }));
  const { ledgerStateMs } = limits;
  onTestFinished(() => void Object.assign(limits, { ledgerStateMs }));
  Object.assign(limits, { ledgerStateMs: 0 });
  w.read();
  Object.assign(limits, { ledgerStateMs: 1e9 });
  w.clock.pass(10_000);
  w.read();
  w.allow(2);
  w.kill();
  w.log(call(2));
  w.start();
  expect(w.settled()).toEqual(['01 Sent 1', '01 Expired 4', '02 Sent 1']);
});

test('a process that was killed: of what no line told nobody knows, and that is told as a gap', async () => {
  const w = ledgerWorld();
  w.ledger.plane.began('e1');
  for (const number of [1, 2, 3]) w.allow(number);
  w.log(call(1), call(2, { final: false }));
  w.read();
  appendFileSync(w.file, lineOf(someUse(call(3))).slice(0, 100));
  w.ledger.plane.ended('e1');
  w.ledger.plane.began('e2');
  w.allow(4);
  w.clock.pass(10);
  w.read();
  expect(w.settled()).toEqual(['01 Sent 1', '02 Sent 1', '03 Unknown 1']);
  expect(recordsOf(w.written, 'incident')).toMatchObject([{ kind: 'Gap', count: 1 }]);
  expect(await w.counted('sallyport_settled_calls_total{kind="Unknown"}')).toHaveLength(1);
  w.log(call(4));
  w.read();
  expect(w.settled().at(-1)).toBe('04 Sent 1');
});

test('a process that ended in order leaves no gap', () => {
  const w = ledgerWorld();
  w.ledger.plane.began('e1');
  w.allow(1);
  w.log(call(1));
  w.ledger.plane.ended('e1');
  w.clock.pass(10);
  w.read();
  expect([w.settled(), w.incidents()]).toEqual([['01 Sent 1'], []]);
});

test('a process that ended while no sidecar ran is noticed when the next one begins', () => {
  const w = ledgerWorld();
  w.ledger.plane.began('e1');
  w.allow(1);
  w.allow(2);
  w.kill();
  w.log(call(1));
  w.start();
  expect(w.settled()).toEqual(['01 Sent 1']);
  w.ledger.plane.began('e2');
  w.clock.pass(10);
  w.read();
  expect([w.settled(), w.incidents()]).toEqual([['01 Sent 1', '02 Unknown 1'], ['Gap 1']]);
});

test('an adopted process goes on: what it has not told yet is still waited for', () => {
  const w = ledgerWorld();
  w.ledger.plane.began('e1');
  w.allow(1);
  w.kill();
  w.start();
  w.ledger.plane.began('e1');
  w.clock.pass(100);
  w.read();
  w.log(call(1));
  w.read();
  expect([w.settled(), w.incidents()]).toEqual([['01 Sent 1'], []]);
});

test('a log that was cut is a gap, and what it may have told is Unknown', () => {
  const w = ledgerWorld();
  w.allow(1);
  w.allow(2);
  w.log(call(1));
  w.read();
  truncateSync(w.file);
  w.log(call(3, { upstream: '', left: false }));
  w.clock.pass(60_000);
  w.read();
  w.clock.pass(60_000);
  w.read();
  expect([w.settled(), w.incidents()]).toEqual([['01 Sent 1', '02 Unknown 1'], ['Gap 1']]);
});

test('without its state the ledger begins anew from the journal, and settles nothing twice', () => {
  const w = ledgerWorld();
  for (const number of [1, 2]) w.allow(number);
  w.log(call(1), { decision: '', stream: 'bypass' });
  w.read();
  w.kill();
  writeFileSync(join(w.stateDir, 'ledger.json'), 'garbage');
  w.start();
  expect([w.settled(), w.used(), w.incidents()]).toEqual([['01 Sent 1'], ['01 1'], ['NoDecision 1']]);
  w.log(call(2));
  w.read();
  expect(w.settled()).toEqual(['01 Sent 1', '02 Sent 1']);
});

test('a log of a time that neither state nor journal knows is not judged', () => {
  const w = ledgerWorld();
  w.log(call(1), { decision: '', stream: 'bypass' });
  w.kill();
  rmSync(join(w.stateDir, 'ledger.json'));
  w.clock.pass(5_000);
  w.start();
  expect(w.incidents()).toEqual([]);
  w.log({ decision: '', stream: 'now', atMs: startMs + 6_000 });
  w.read();
  expect(w.incidents()).toEqual(['NoDecision 1']);
});

test('whatever stands in the state’s file, the ledger begins', () => {
  const w = ledgerWorld();
  w.allow(1);
  const state = join(w.stateDir, 'ledger.json');
  const whole = (): Record<string, unknown> =>
    JSON.parse(readFileSync(state, 'utf8')) as Record<string, unknown>;
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        fc
          .dictionary(fc.constantFrom('places', 'journal', 'open', 'epoch', 'version'), fc.jsonValue())
          .map((fields) => JSON.stringify({ ...whole(), ...fields })),
      ),
      (text) => {
        w.kill();
        writeFileSync(state, text);
        w.start();
        expect(w.ledger.health().open).toBeLessThanOrEqual(1);
      },
    ),
    { ...fuzzRuns, numRuns: 40 },
  );
});

test('a journal that was written anew behind the state is read from its beginning', () => {
  const w = ledgerWorld();
  w.allow(1, { why: 'x'.repeat(500) });
  w.log(call(1));
  w.read();
  w.kill();
  w.start();
  w.allow(2);
  w.kill();
  const [name = ''] = readdirSync(join(w.stateDir, 'journal')).filter((file) => file.endsWith('.jsonl'));
  const journal = join(w.stateDir, 'journal', name);
  writeFileSync(journal, readFileSync(journal, 'utf8').replace('x'.repeat(500), ''));
  w.log(call(2));
  w.start();
  expect([w.settled(), w.incidents()]).toEqual([['01 Sent 1', '02 Sent 1'], []]);
});

test('past the limit of open decisions nothing more is let pass', () => {
  const w = ledgerWorld();
  for (let number = 0; number < 3; number += 1) w.allow(number);
  const { ledgerOpenMax } = limits;
  Object.assign(limits, { ledgerOpenMax: 3 });
  onTestFinished(() => void Object.assign(limits, { ledgerOpenMax }));
  expect(() => w.allow(4)).toThrow('3 calls are let pass and not settled, and that is the limit');
  expect(recordsOf(w.written, 'decision').length).toBe(3);
  w.allow(5, { kind: 'Deny', code: 'EgressDenied' });
});

test('a request that the sidecar knows was not sent is settled at once', () => {
  const w = ledgerWorld();
  w.allow(1);
  w.ledger.plane.notSent(decisionId(1));
  w.ledger.plane.notSent(decisionId(1));
  expect([w.settled(), w.used()]).toEqual([['01 NotSent 1'], []]);
});

test('caughtUpMs is the begin of the last reading that reached the end', () => {
  const w = ledgerWorld();
  w.clock.pass(100);
  w.read();
  const now = w.clock.monotonicMs();
  expect(w.ledger.caughtUpMs()).toBe(now);
  w.clock.pass(100);
  expect([w.ledger.caughtUpMs(), w.ledger.health().lagMs]).toEqual([now, 100]);
});
