/** Records as spans: ids that lead back, the conventions' names, nothing that may not leave the machine. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import type { JournalRecord, SettlementRecord } from '../../filters/common/record.ts';
import { childSpanId, decisionPlace, hexUlid, ulidHex } from '../../filters/common/trace-ids.ts';
import { exportRequest } from '../../sidecar/otlp-json.ts';
import { createSpanMaker } from '../../sidecar/otlp-spans.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { decodeExport, type ReceivedSpan } from '../support/otlp-collector.ts';
import { someDecision, someHoldRecord, someSettlement as someSettlementOf } from '../support/some-record.ts';

const id = 'dec_01M7J8Q0ZK3V5N8R2T4W6Y9ABC';
const someSettlement = (changes: Partial<SettlementRecord> = {}): SettlementRecord =>
  someSettlementOf({ id, ...changes });

const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';

const spansOf = (records: readonly JournalRecord[], ratio = 1): ReceivedSpan[] => {
  const maker = createSpanMaker(ratio);
  const spans = records.flatMap((record) => maker.spansOf(record));
  return decodeExport(exportRequest(spans, {}, { name: 'x', version: '1' }));
};

describe('ids', () => {
  test('a trace id is the ULID of its decision, both ways', () => {
    fc.assert(
      fc.property(fc.ulid(), (ulid) => {
        const hex = ulidHex(`dec_${ulid}`);
        expect(hex).toMatch(/^[0-9a-f]{32}$/);
        expect(hexUlid(hex ?? '')).toBe(ulid);
        expect(decisionPlace(`dec_${ulid}`, undefined)).toMatchObject({ traceId: hex, parentId: undefined });
      }),
      fuzzRuns,
    );
  });

  test('in the caller’s trace the span keeps its own id', () => {
    const own = decisionPlace(id, undefined);
    expect(decisionPlace(id, traceparent)).toEqual({
      traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
      spanId: own.spanId,
      parentId: '00f067aa0ba902b7',
    });
  });

  test('no id is ever all zeros', () => {
    expect(decisionPlace(`dec_${'0'.repeat(26)}`, undefined)).toMatchObject({
      traceId: `${'0'.repeat(31)}1`,
      spanId: `${'0'.repeat(15)}1`,
    });
    expect(childSpanId(id, 'hold')).not.toBe(childSpanId(id, 'upstream Sent'));
  });
});

describe('a decision', () => {
  test('has the conventions’ attributes and the time that it took', () => {
    const [span] = spansOf([
      someDecision({ id, what: 'GET', resource: 'https://api.github.com:443/users', duration_us: 250 }),
    ]);
    expect(span).toMatchObject({
      name: 'check GET',
      kind: 1,
      error: undefined,
      parentSpanId: undefined,
      flags: 0x101,
    });
    expect(span?.attributes).toMatchObject({
      'http.request.method': 'GET',
      'url.scheme': 'https',
      'server.address': 'api.github.com',
      'server.port': 443,
      'url.path': '/users',
      'sallyport.decision.id': id,
      'sallyport.decision.kind': 'Allow',
      'sallyport.rule': 'github-read',
    });
    expect((span?.endNs ?? 0n) - (span?.startNs ?? 0n)).toBe(250_000n);
  });

  test('is below the caller’s span', () => {
    const [span] = spansOf([someDecision({ id, traceparent })]);
    expect(span).toMatchObject({
      traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
      parentSpanId: '00f067aa0ba902b7',
      flags: 0x301,
    });
  });

  test('a denial is no error, being unable to decide is', () => {
    const error = (code: string) => spansOf([someDecision({ kind: 'Deny', code, pin: '' })])[0];
    expect(error('Forbidden')).toMatchObject({ error: undefined, attributes: { 'error.type': 'Forbidden' } });
    expect(error('StateUnavailable')).toMatchObject({ error: 'StateUnavailable' });
  });

  test('a method of the agent’s making gives no name of its making', () => {
    const [span] = spansOf([someDecision({ what: 'SPAM' })]);
    expect(span).toMatchObject({ name: 'check _OTHER', attributes: { 'http.request.method': '_OTHER' } });
  });

  test('what looks secret in a path stays here', () => {
    const [span] = spansOf([
      someDecision({ resource: 'https://api.telegram.org:443/bot123456:AAEhBP0av28FrTkXZ_abcdef/send' }),
    ]);
    expect(span?.attributes['url.path']).toBe('/•••/send');
  });

  test('MCP and shadow are told by name', () => {
    const [span] = spansOf([
      someDecision({
        what: 'POST tools/call find',
        mcp_method: 'tools/call',
        mcp_tool: 'find',
        shadow: [{ rule: 'r', would: 'forbid' }],
      }),
    ]);
    expect(span?.attributes).toMatchObject({
      'mcp.method.name': 'tools/call',
      'gen_ai.tool.name': 'find',
      'sallyport.shadow': ['r:forbid'],
    });
  });
});

describe('what came of it', () => {
  test('a settlement is a span of the destination below the decision', () => {
    const [decision, upstream] = spansOf([someDecision({ id, traceparent }), someSettlement()]);
    expect(upstream).toMatchObject({
      traceId: decision?.traceId,
      parentSpanId: decision?.spanId,
      name: 'GET',
      kind: 3,
      error: undefined,
      startNs: 1_800_000_000_100_000_000n,
      endNs: 1_800_000_000_130_000_000n,
      attributes: {
        'http.response.status_code': 200,
        'network.peer.address': '140.82.121.6',
        'network.peer.port': 443,
        'http.request.body.size': 10,
        'http.response.body.size': 200,
        'sallyport.settlement.calls': 1,
      },
    });
  });

  test('a status from 400 on, and what was not sent, are errors', () => {
    const error = (changes: Partial<SettlementRecord>) =>
      spansOf([someDecision({ id }), someSettlement(changes)])[1]?.error;
    expect([error({ status: 404 }), error({ kind: 'NotSent', status: 0 }), error({ status: 302 })]).toEqual([
      '404',
      'NotSent',
      undefined,
    ]);
  });

  test('calls of a lease that were never made are no span', () => {
    expect(
      spansOf([someDecision({ id, calls: 10 }), someSettlement({ kind: 'Expired', calls: 3 })]),
    ).toHaveLength(1);
  });

  test('a hold is a span from its opening to its decision, below the decision that followed', () => {
    const hold = 'hold_01ARYZ6S410000000000000000';
    const at = (ms: number) => ({ logical: 0, physical_ns: `${BigInt(ms) * 1_000_000n}` });
    const [decision, held] = spansOf([
      someHoldRecord({ id: hold, state: 'Pending', at: at(1_800_000_000_000) }),
      someHoldRecord({ id: hold, state: 'Approved', by: 'dana', at: at(1_800_000_060_000) }),
      someHoldRecord({ id: hold, state: 'Released', at: at(1_800_000_060_001) }),
      someDecision({ id, hold, at: at(1_800_000_060_002) }),
    ]);
    expect(held).toMatchObject({
      name: 'hold',
      parentSpanId: decision?.spanId,
      attributes: { 'sallyport.hold.id': hold, 'sallyport.hold.state': 'Approved' },
    });
    expect((held?.endNs ?? 0n) - (held?.startNs ?? 0n)).toBe(60_000_000_000n);
    // Who decided stays in the journal.
    expect(JSON.stringify(held?.attributes)).not.toContain('dana');
  });

  test('of decisions that were forgotten, and not sampled, nothing follows', () => {
    const maker = createSpanMaker(1);
    maker.spansOf(someDecision({ id, calls: 2 }));
    for (let index = 0; index < limits.otlpOpenMax; index += 1)
      maker.spansOf(someDecision({ id: `dec_${index}` }));
    expect(maker.spansOf(someSettlement())).toEqual([]);
    expect(spansOf([someDecision({ id }), someSettlement()], 0)).toEqual([]);
  });
});

describe('sampling', () => {
  const next = (index: number) =>
    `dec_${hexUlid((0x0190_0000_0000_0000_0000_0000_0000_0000n + BigInt(index)).toString(16).padStart(32, '0'))}`;

  test('one in so many, also of ids that count up', () => {
    const kept = Array.from(
      { length: 10_000 },
      (_, index) => spansOf([someDecision({ id: next(index) })], 1 / 10).length,
    );
    const share = kept.reduce((sum, count) => sum + count, 0);
    expect(share).toBeGreaterThan(800);
    expect(share).toBeLessThan(1_200);
  });

  test('the caller may ask for its trace, and cannot hide one', () => {
    expect(spansOf([someDecision({ id, traceparent })], 0)).toHaveLength(1);
    const unsampled = traceparent.replace(/-01$/, '-00');
    expect(spansOf([someDecision({ id, traceparent: unsampled })], 1)).toHaveLength(1);
  });
});

test('one agent that asks for every trace is given a part, and the others keep theirs', () => {
  const maker = createSpanMaker(0);
  const second = (agent: string, number: number, atMs: number): number =>
    Array.from({ length: number }, (_, index) =>
      maker.spansOf(
        someDecision({
          ...{ id: `dec_${index}`, agent: `spiffe://example.org/${agent}`, traceparent },
          at: { logical: index, physical_ns: `${BigInt(atMs) * 1_000_000n}` },
        }),
      ),
    ).flat().length;
  const { otlpAskedPerSecondMax: all, otlpAskedPerAgentPerSecondMax: each } = limits;
  expect(second('greedy', 5_000, 1_800_000_000_000)).toBe(each);
  expect(second('other', 10, 1_800_000_000_500)).toBe(10);
  expect(second('greedy', 5_000, 1_800_000_001_000)).toBe(each);
  const agents = Array.from({ length: 20 }, (_, index) => second(`${index}`, each, 1_800_000_001_000));
  expect(agents.reduce((sum, count) => sum + count, each)).toBe(all);
});

test('whatever records hold, what is sent is what the protocol says', () => {
  const text = fc.string({ maxLength: 30 });
  fc.assert(
    fc.property(
      fc.record({
        id: text,
        what: text,
        resource: text,
        rule: text,
        code: text,
        pin: text,
        traceparent: text,
        hold: text,
      }),
      fc.record({
        upstream: text,
        status: fc.nat(),
        first_ms: fc.double({ min: 0, max: 4e12, noNaN: true }),
        bytes_in: fc.nat(),
      }),
      (decision, settlement) => {
        const spans = spansOf([someDecision(decision), someSettlement({ ...settlement, id: decision.id })]);
        expect(spans.length).toBeGreaterThan(0);
      },
    ),
    fuzzRuns,
  );
});
