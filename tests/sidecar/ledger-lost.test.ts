/** Lines that no reading brings, and marks that nobody else may set: the ledger tells what it cannot know. */
import { appendFileSync, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import type { LedgerUse } from '../../filters/metering/use.ts';
import { embeddedLogFile } from '../../sidecar/embedded/ledger.ts';
import { recordsOf } from '../support/ledger.ts';
import { ledgerWorld, startMs } from '../support/ledger-world.ts';
import { decisionId, lineOf, someUse } from '../support/some-use.ts';

const call = (number: number, changes: Partial<LedgerUse> = {}): Partial<LedgerUse> => ({
  decision: decisionId(number),
  stream: `${number}`,
  ...changes,
});

/** The limits as they are, but for these, until the test is over. */
function withLimits(changes: Partial<Record<keyof typeof limits, number>>): void {
  const before = { ...limits };
  Object.assign(limits, changes);
  onTestFinished(() => void Object.assign(limits, before));
}

const longLine = (): string =>
  lineOf(someUse(call(1, { path: `/${'a'.repeat(limits.ledgerReadBytesMax * 2)}` })));

test.each([
  ['longer than one reading', longLine],
  ['not JSON', () => '{"at":"1.0","authority":oops}'],
  ['not an object', () => '17'],
  ['without its connection', () => '{"at":"1800000000.0","type":"DownstreamEnd"}'],
  ['of a type that Envoy does not have', () => '{"at":"1800000000.0","connection":"1","type":"Other"}'],
])('a line %s is a gap, once, and what it may have told of is Unknown', (_, line) => {
  const w = ledgerWorld();
  w.allow(1);
  appendFileSync(w.file, `${line()}\n`);
  w.allow(2);
  w.log(call(2));
  w.read();
  w.clock.pass(60_000);
  w.read();
  expect(w.incidents()).toEqual(['Gap 1']);
  expect(w.settled()).toEqual(['02 Sent 1', '01 Unknown 1']);
  w.kill();
  w.start();
  w.read();
  expect(w.incidents()).toEqual(['Gap 1']);
});

test('the embedded plane’s log is judged the same', () => {
  const w = ledgerWorld();
  const file = embeddedLogFile(w.stateDir);
  mkdirSync(dirname(file));
  w.allow(1, { via: 'embedded' });
  writeFileSync(file, `${longLine()}\n`);
  w.read();
  expect(w.incidents()).toEqual(['Gap 1']);
});

test('a line that is read to its half before a restart is one gap', () => {
  const w = ledgerWorld();
  withLimits({ ledgerStateMs: 0 });
  const line = longLine();
  const half = limits.ledgerReadBytesMax + 10;
  appendFileSync(w.file, line.slice(0, half));
  w.read();
  w.allow(2);
  w.kill();
  appendFileSync(w.file, `${line.slice(half)}\n`);
  w.log(call(2));
  w.start();
  expect([w.incidents(), w.settled()]).toEqual([['Gap 1'], ['02 Sent 1']]);
});

test('lines of a type that tells of a part of a stream are no gap', () => {
  const w = ledgerWorld();
  for (const type of ['NotSet', 'DownstreamStart', 'UpstreamEnd', 'TcpUpstreamConnected'])
    appendFileSync(w.file, `{"at":"1800000000.0","connection":"1","type":"${type}"}\n`);
  w.read();
  expect(w.incidents()).toEqual([]);
});

test('the line that a kill of the data plane cuts is no gap of its own', () => {
  const w = ledgerWorld();
  w.allow(1);
  const torn = lineOf(someUse(call(9))).slice(0, 80);
  appendFileSync(w.file, torn);
  w.log(call(1));
  w.read();
  appendFileSync(w.file, torn);
  renameSync(w.file, `${w.file}.1`);
  writeFileSync(w.file, '');
  w.read();
  expect([w.settled(), w.incidents()]).toEqual([['01 Sent 1'], []]);
});

test('a flood of lines that cannot be read is bounded in the journal, and its number is told', () => {
  const w = ledgerWorld();
  const number = limits.incidentsPerSecondMax + 50;
  appendFileSync(w.file, 'nonsense\n'.repeat(number));
  w.read();
  w.clock.pass(2_000);
  w.read();
  const counts = recordsOf(w.written, 'incident').map(({ count }) => count);
  expect(counts).toEqual([...Array<number>(limits.incidentsPerSecondMax).fill(1), 50]);
});

test('lines that the data plane could not write are a gap, once the journal can be written again', () => {
  const w = ledgerWorld();
  w.allow(1);
  w.allow(2);
  w.refuse.add('incident');
  w.ledger.plane.lost(2);
  expect(() => w.read()).toThrow('the disk is full');
  w.refuse.clear();
  w.log(call(2));
  w.read();
  w.clock.pass(60_000);
  w.read();
  expect(w.incidents()).toEqual(['Gap 2']);
  expect(w.settled()).toEqual(['02 Sent 1', '01 Unknown 1']);
});

test('a caller’s request id is no mark of the ledger: what was forwarded without a decision is told', () => {
  const w = ledgerWorld();
  const { ino } = statSync(writtenAnew(w.file), { bigint: true });
  w.read();
  for (const [number, via] of [
    [1, 'authzen'],
    [2, 'ext_authz'],
  ] as const)
    w.allow(number, { kind: 'Deny', code: 'EgressDenied', via, request_id: `log:${ino}:999999` });
  w.kill();
  for (let number = 0; number < 20; number += 1) w.log({ decision: '', stream: `bypass ${number}` });
  w.start();
  expect(w.incidents().length).toBe(20);
});

function writtenAnew(file: string): string {
  writeFileSync(file, '');
  return file;
}

test('a mark behind the end of the log is none', () => {
  const w = ledgerWorld();
  const { ino } = statSync(writtenAnew(w.file), { bigint: true });
  w.allow(1, { kind: 'Deny', code: 'HeadersTooLarge', line: `${ino}:999999` });
  w.kill();
  w.log({ decision: '', stream: 'bypass' });
  w.start();
  expect(w.incidents()).toEqual(['NoDecision 1']);
});

test('a refusal is told once, though its line is read again: its record has the line', () => {
  const w = ledgerWorld();
  withLimits({ ledgerStateMs: 1e9 });
  w.log({ decision: '', upstream: '', left: false, status: 400, error: 'RequestMalformed', stream: 'a' });
  w.read();
  w.kill();
  w.start();
  const refusals = recordsOf(w.written, 'decision');
  expect(refusals).toMatchObject([{ via: 'envoy', request_id: '' }]);
  expect(refusals[0]?.line).toMatch(/^\d+:0$/);
});

test('one agent’s unsettled calls leave room for the others’', () => {
  const w = ledgerWorld();
  withLimits({ ledgerOpenPerAgentMax: 2 });
  w.allow(1);
  w.allow(2, { calls: 3, lease_ms: 500 });
  expect(() => w.allow(3)).toThrow(
    '2 calls of this agent are let pass and not settled, and that is the limit',
  );
  w.allow(4, { agent: 'spiffe://example.org/other' });
  w.log(call(1));
  w.read();
  w.allow(5);
  w.kill();
  w.start();
  expect(() => w.allow(6)).toThrow('that is the limit');
  w.ledger.plane.notSent(decisionId(5));
  w.allow(7);
});

test('refusals past what is written one by one are one record for each code, with their number', async () => {
  const w = ledgerWorld();
  const number = limits.refusalsPerSecondMax + 30;
  for (let at = 0; at < number; at += 1)
    w.log({
      ...{ decision: '', upstream: '', left: false, status: 400, stream: `${at}`, atMs: startMs },
      error: at % 3 === 0 ? 'HeadersTooLarge' : 'RequestMalformed',
    });
  w.read();
  w.clock.pass(2_000);
  w.refuse.add('decision');
  expect(() => w.read()).toThrow('the disk is full');
  w.refuse.clear();
  w.read();
  const records = recordsOf(w.written, 'decision');
  expect(records.filter(({ count }) => count === undefined).length).toBe(limits.refusalsPerSecondMax);
  expect(records.slice(limits.refusalsPerSecondMax)).toMatchObject([
    { kind: 'Deny', code: 'RequestMalformed', via: 'envoy', agent: '', count: 20 },
    { kind: 'Deny', code: 'HeadersTooLarge', via: 'envoy', agent: '', count: 10 },
  ]);
  expect(records.reduce((sum, { count = 1 }) => sum + count, 0)).toBe(number);
  const counted = await w.counted('sallyport_decisions_total');
  expect(counted.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)).toBe(number);
});
