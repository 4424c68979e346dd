import fc from 'fast-check';
import { expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { createOpenDecisions, type LedgerSink } from '../../../filters/metering/open-decisions.ts';
import type { LedgerUse, Settlement } from '../../../filters/metering/use.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { decisionId, someFacts, someUse } from '../../support/some-use.ts';

const none = new Map<string, number>();
/** Long after the log would have told of anything. */
const lateMs = 60_000;

function setUp() {
  const open = createOpenDecisions();
  const told: string[] = [];
  const settlements: Settlement[] = [];
  const sink: LedgerSink = {
    settled: (all) => {
      settlements.push(...all);
      for (const { facts, kind, calls } of all) told.push(`${facts.id.slice(-2)} ${kind} ${calls}`);
    },
    incident: (kind, use) => told.push(`${kind} ${use.stream}`),
    refused: (use) => told.push(`refused ${use.status}`),
  };
  const use = (changes: Partial<LedgerUse> = {}, nowMs = 0): void => open.use(someUse(changes), nowMs, sink);
  const sweep = (nowMs: number, ended = none): boolean => open.sweep(nowMs, nowMs, ended, sink);
  return { open, told, settlements, sink, use, sweep };
}

test('a call is settled once, by its last line', () => {
  const { open, told, settlements, use } = setUp();
  open.open(someFacts(), 0);
  use({ final: false, left: false, upstream: '' });
  use({ final: false });
  expect([told, open.size()]).toEqual([[], 1]);
  use();
  expect([told, open.size()]).toEqual([['01 Sent 1'], 0]);
  expect(settlements[0]).toMatchObject({
    ...{ bytesIn: 3, bytesOut: 10, durationMs: 20, status: 200, upstream: '140.82.121.6:443' },
    ...{ firstMs: 1_800_000_000_000, lastMs: 1_800_000_000_020 },
  });
});

test('the same stream told again is no second call', () => {
  const { open, told, use } = setUp();
  open.open(someFacts(), 0);
  use();
  use();
  expect(told).toEqual(['01 Sent 1']);
});

test.each([
  ['nothing was dialled', { upstream: '', left: false }],
  ['the connection failed', { left: false }],
])('a call is NotSent where %s', (_, changes) => {
  const { open, told, use } = setUp();
  open.open(someFacts(), 0);
  use(changes);
  expect(told).toEqual(['01 NotSent 1']);
});

test('what has left once is Sent, whatever its last line says', () => {
  const { open, told, use } = setUp();
  open.open(someFacts(), 0);
  use({ final: false });
  use({ left: false, upstream: '' });
  expect(told).toEqual(['01 Sent 1']);
});

test.each([
  ['without a decision', { decision: '' }, 'NoDecision'],
  ['with an invented decision', { decision: decisionId(9) }, 'UnknownDecision'],
  ['with a call number where the decision is no lease', { ordinal: 1 }, 'BeyondLease'],
])('a request that was forwarded %s is an incident', (_, changes, kind) => {
  const { open, told, use } = setUp();
  open.open(someFacts(), 0);
  use({ ...changes, stream: 's' });
  expect([told, open.size()]).toEqual([[`${kind} s`], 1]);
});

test.each(['after', 'beside'])('a decision used again %s the first request is an incident', (when) => {
  const { open, told, use } = setUp();
  open.open(someFacts(), 0);
  use({ stream: 'first', final: when === 'after' });
  use({ stream: 'second' });
  expect(told.at(-1)).toBe('Replayed second');
});

test('a stream without a decision is one incident, however long it goes on', () => {
  const { told, use } = setUp();
  for (const final of [false, false, true]) use({ decision: '', stream: 's', final });
  use({ decision: '', stream: 't' });
  expect(told).toEqual(['NoDecision s', 'NoDecision t']);
});

test('of a stream that is over nothing is kept: its name again is another incident', () => {
  const { told, use } = setUp();
  for (const final of [false, true, false, true]) use({ decision: '', stream: 's', final });
  expect(told).toEqual(['NoDecision s', 'NoDecision s']);
});

test('a connection that was only tried without a decision is an incident too', () => {
  const { told, use } = setUp();
  use({ decision: '', stream: 's', left: false });
  expect(told).toEqual(['NoDecision s']);
});

test('what was not forwarded is no incident: refused by a decision, or by the data plane itself', () => {
  const { told, use } = setUp();
  use({ decision: decisionId(8), upstream: '', left: false, status: 403 });
  use({ decision: '', upstream: '', left: false, status: 431 });
  use({ decision: '', upstream: '', left: false, status: 0 });
  use({ decision: '', upstream: '', left: false, status: 503, final: false });
  expect(told).toEqual(['refused 431']);
});

test('a CONNECT that was let pass without a decision is an incident, one that was refused is not', () => {
  const { told, use } = setUp();
  use({ kind: 'connect', decision: '', upstream: '', left: false, status: 503 });
  use({ kind: 'connect', decision: '', upstream: '', left: false, status: 200, stream: 's' });
  expect(told).toEqual(['refused 503', 'NoDecision s']);
});

test('an unread tunnel settles its CONNECT and its first bytes', () => {
  const { open, told, use } = setUp();
  open.open(someFacts({ stage: 'connect' }), 0);
  open.open(someFacts({ id: decisionId(2), stage: 'tunnel' }), 0);
  use({ kind: 'connect', upstream: '', left: false, stream: 'outer' });
  use({ kind: 'tunnel', decision: decisionId(2), connectDecision: decisionId(1), stream: 'inner' });
  expect([told, open.size()]).toEqual([['02 Sent 1', '01 Sent 1'], 0]);
});

test('an unread tunnel that no CONNECT let pass is an incident', () => {
  const { told, use } = setUp();
  use({ kind: 'tunnel', decision: '', connectDecision: '', stream: 's' });
  use({ kind: 'tunnel', decision: '', connectDecision: decisionId(7), stream: 't' });
  expect(told).toEqual(['NoDecision s', 'UnknownDecision t']);
});

test('a CONNECT that ended and of whose inside nothing was told is NotSent, once something would have been', () => {
  const { open, told, use, sweep } = setUp();
  open.open(someFacts({ stage: 'connect' }), 0);
  use({ kind: 'connect', upstream: '', left: false }, 100);
  sweep(1_000);
  expect(told).toEqual([]);
  sweep(2_500);
  expect(told).toEqual(['01 NotSent 1']);
});

test('a CONNECT that stays open waits for what is inside, however late that begins', () => {
  const { open, told, use, sweep } = setUp();
  open.open(someFacts({ stage: 'connect' }), 0);
  for (let nowMs = 0; nowMs <= lateMs; nowMs += 10_000) {
    use({ kind: 'connect', final: false, upstream: '', left: false }, nowMs);
    sweep(nowMs);
  }
  expect(told).toEqual([]);
  use({ kind: 'tunnel', decision: '', connectDecision: decisionId(1), stream: 'inner' }, lateMs);
  expect(told).toEqual(['01 Sent 1']);
});

test('of a CONNECT that was open when the process ended nobody knows what was inside', () => {
  const { open, told, use, sweep } = setUp();
  open.open(someFacts({ stage: 'connect' }), 0);
  use({ kind: 'connect', final: false, upstream: '', left: false }, 9_000);
  sweep(10_000, new Map([['e1', 9_900]]));
  expect(told).toEqual(['01 Unknown 1']);
});

test('a decision that no line tells of is Expired, once one would have', () => {
  const { open, told, sweep } = setUp();
  open.open(someFacts(), 0);
  sweep(limits.ledgerInterimMs);
  expect(told).toEqual([]);
  sweep(lateMs);
  expect(told).toEqual(['01 Expired 1']);
});

test('a decision is not Expired while the log is not read', () => {
  const { open, told, sink } = setUp();
  open.open(someFacts(), 0);
  open.sweep(lateMs, 500, none, sink);
  expect(told).toEqual([]);
});

test('a stream that goes on is never given up while it is told of', () => {
  const { open, told, use, sweep } = setUp();
  open.open(someFacts(), 0);
  for (let nowMs = 0; nowMs < 10 * lateMs; nowMs += 20_000) {
    use({ final: false }, nowMs);
    sweep(nowMs);
  }
  expect(told).toEqual([]);
  sweep(20 * lateMs);
  expect(told).toEqual(['01 Sent 1']);
  use();
  expect(told).toEqual(['01 Sent 1']);
});

test('where lines were lost, a decision that none told of is Unknown', () => {
  const { open, told, sweep } = setUp();
  open.open(someFacts(), 0);
  open.doubt();
  sweep(lateMs);
  expect(told).toEqual(['01 Unknown 1']);
});

test('where the process ended: what was told to have left did, and of the rest nobody knows', () => {
  const { open, told, use, sweep } = setUp();
  for (const number of [1, 2, 3, 4])
    open.open(someFacts({ id: decisionId(number), epoch: number === 4 ? 'e2' : 'e1' }), 0);
  use({ final: false });
  use({ decision: decisionId(2), final: false, left: false, upstream: '' });
  sweep(1_000, new Map([['e1', 0]]));
  expect(told).toEqual(['01 Sent 1', '02 Unknown 1', '03 Unknown 1']);
});

test('a decision that was there long before the process ended is Expired: its stream would have been told of', () => {
  const { open, told, sweep } = setUp();
  open.open(someFacts(), 0);
  sweep(3_000, new Map([['e1', 2_500]]));
  expect(told).toEqual(['01 Expired 1']);
});

const lease = (changes = {}) => someFacts({ calls: 4, leaseMs: 500, ...changes });

test('a lease is settled once, with the kinds that its calls came to', () => {
  const { open, told, settlements, use, sweep } = setUp();
  open.open(lease(), 0);
  use({ ordinal: 1 });
  use({ ordinal: 2 });
  use({ ordinal: 3, left: false, upstream: '' });
  sweep(1_000);
  expect(told).toEqual([]);
  sweep(lateMs);
  expect(told).toEqual(['01 Sent 2', '01 NotSent 1', '01 Expired 1']);
  expect(settlements[0]).toMatchObject({ bytesIn: 6, bytesOut: 20 });
});

test('a lease all of whose calls have ended is settled at once', () => {
  const { open, told, use, sweep } = setUp();
  open.open(lease(), 0);
  for (const ordinal of [4, 2, 1, 3]) use({ ordinal });
  sweep(1);
  expect(told).toEqual(['01 Sent 4']);
});

test('a lease waits for the calls that go on', () => {
  const { open, told, use, sweep } = setUp();
  open.open(lease(), 0);
  for (let nowMs = 0; nowMs <= lateMs; nowMs += 10_000) {
    use({ ordinal: 2, final: false }, nowMs);
    sweep(nowMs);
  }
  expect(told).toEqual([]);
  use({ ordinal: 2 }, lateMs);
  sweep(lateMs);
  expect(told).toEqual(['01 Sent 1', '01 Expired 3']);
});

test.each([
  ['past its last', { ordinal: 5 }, 'BeyondLease'],
  ['without a number', { ordinal: undefined }, 'BeyondLease'],
  ['a second time', { ordinal: 1 }, 'Replayed'],
])('a call of a lease %s is an incident', (_, changes, kind) => {
  const { open, told, use } = setUp();
  open.open(lease(), 0);
  use({ ordinal: 1, stream: 'first' });
  use({ ...changes, stream: 's' });
  expect(told).toEqual([`${kind} s`]);
});

test('where the process ended in the life of a lease, the calls that no line told of are Unknown', () => {
  const { open, told, use, sweep } = setUp();
  open.open(lease(), 0);
  use({ ordinal: 1 });
  use({ ordinal: 2, final: false });
  use({ ordinal: 3, final: false, left: false, upstream: '' });
  sweep(600, new Map([['e1', 400]]));
  expect(told).toEqual(['01 Sent 2', '01 Unknown 2']);
});

test('a sink that refuses leaves the decision open, and the line can be given again', () => {
  const { open, told, use, sink } = setUp();
  open.open(someFacts(), 0);
  const refusing: LedgerSink = {
    ...sink,
    settled: () => {
      throw new Error('the disk is full');
    },
  };
  expect(() => open.use(someUse(), 0, refusing)).toThrow('the disk is full');
  expect(open.has(decisionId(1))).toBe(true);
  expect(() => open.sweep(lateMs, lateMs, none, refusing)).toThrow('the disk is full');
  use();
  expect(told).toEqual(['01 Sent 1']);
});

test('one look settles a bounded number, and tells that more wait', () => {
  const { open, told, sweep } = setUp();
  const number = limits.ledgerSettledPerTickMax + 1;
  for (let at = 0; at < number; at += 1) open.open(someFacts({ id: decisionId(at) }), 0);
  expect(sweep(lateMs)).toBe(true);
  expect(told.length).toBe(limits.ledgerSettledPerTickMax);
  expect(sweep(lateMs)).toBe(false);
  expect(told.length).toBe(number);
});

test('every call of every decision is settled exactly once, whatever lines come in whatever order', () => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constant('use' as const),
      decision: fc.nat(5),
      ordinal: fc.nat(6),
      stream: fc.nat(3),
      final: fc.boolean(),
      left: fc.boolean(),
    }),
    fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(4_000), ends: fc.boolean() }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { open, settlements, sink } = setUp();
      let nowMs = 0;
      for (let number = 0; number < 6; number += 1)
        open.open(number < 3 ? someFacts({ id: decisionId(number) }) : lease({ id: decisionId(number) }), 0);
      for (const one of steps) {
        if (one.kind === 'pass') {
          nowMs += one.ms;
          open.sweep(nowMs, nowMs, one.ends ? new Map([['e1', nowMs]]) : none, sink);
          continue;
        }
        const { decision, stream, final, left } = one;
        const ordinal = decision < 3 ? undefined : one.ordinal;
        open.use(
          someUse({
            decision: decisionId(decision),
            ordinal,
            stream: `${decision}.${ordinal}.${stream}`,
            final,
            left,
            upstream: left ? 'x' : '',
          }),
          nowMs,
          sink,
        );
      }
      open.sweep(1e9, 1e9, new Map([['e1', 1e9]]), sink);
      expect(open.size()).toBe(0);
      const calls = Map.groupBy(settlements, ({ facts }) => facts.id);
      for (const [id, all] of calls) {
        const total = all.reduce((sum, one) => sum + one.calls, 0);
        expect([id, total]).toEqual([id, all[0]?.facts.calls]);
        expect(new Set(all.map(({ kind }) => kind)).size).toBe(all.length);
      }
      expect(calls.size).toBe(6);
    }),
    fuzzRuns,
  );
});
