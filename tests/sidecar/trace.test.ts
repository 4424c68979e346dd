/** What a trace gathers and draws, of records and access logs that a test wrote. */
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { DecisionRecord } from '../../filters/common/record.ts';
import { picture } from '../../sidecar/cli/trace-picture.ts';
import { traceOf } from '../../sidecar/trace.ts';
import { findMeant } from '../../sidecar/trace-find.ts';
import { atOf, type StateDir, stateWith } from '../support/journal-lines.ts';
import { someDecision, someHoldRecord, someSettlement } from '../support/some-record.ts';

const id = 'dec_01M7J8Q0ZK3V5N8R2T4W6Y9ABC';
const other = 'dec_01M7J8Q0ZK3V5N8R2T4W6Y9ABD';
const hold = 'hold_01M7J8Q0ZK3V5N8R2T4W6Y9ABC';

let state: StateDir;
afterEach(() => state.remove());

async function drawn(ordinal?: number): Promise<string> {
  const trace = await traceOf(state.dir, id);
  if (trace === undefined) throw new Error('not on record');
  return picture(trace, ordinal).join('\n');
}

const line = (ordinal: number, more: object = {}): string =>
  `${JSON.stringify({
    ...{
      agent: 'a',
      at: `180000000${ordinal}.000000000`,
      bytes_in: 10,
      bytes_out: 2_048,
      connection: `e-${ordinal}`,
    },
    ...{
      decision: `${id}#${ordinal}`,
      duration_ms: 12,
      flags: '-',
      method: 'GET',
      stage: 'mitm',
      status: 200,
    },
    ...{ type: 'DownstreamEnd', upstream: '140.82.121.6:443' },
    ...more,
  })}\n`;

function accessLog(text: string, name = 'access.jsonl', plane = 'envoy'): void {
  mkdirSync(join(state.dir, plane), { recursive: true });
  appendFileSync(join(state.dir, plane, name), text);
}

describe('a lease', () => {
  const lease = (more: Partial<DecisionRecord> = {}) =>
    someDecision({ id, calls: 32, lease_ms: 500, lease_path: '/v1/', lease_exact: false, ...more });

  test('each of its calls as the access log tells it, the one asked for alone', async () => {
    state = stateWith([
      lease(),
      someSettlement({ id, kind: 'Sent', calls: 3 }),
      someSettlement({ id, kind: 'Expired', calls: 29, status: 0 }),
    ]);
    accessLog(line(1), 'access.jsonl.1');
    accessLog(
      line(2) +
        line(3, { type: 'DownstreamPeriodic', duration_ms: 1_000 }) +
        line(3, { duration_ms: 1_200, status: 503 }),
    );
    const all = await drawn();
    expect(all).toContain('32 calls of GET /v1/…, for 500 ms until 08:00:00.500');
    expect(all).toMatch(
      /upstream +08:00:01\.000 #1 200 from 140\.82\.121\.6:443, 10 B out, 2\.0 KiB back, 12 ms\n│ +08:00:02\.000 #2 200/,
    );
    expect(all).toContain('#3 503 from');
    expect(all.match(/#3 /g)).toHaveLength(1);
    expect(all).toMatch(
      /settled +Sent: 3 calls, last status 200.*\n│ +Expired: 29 calls, never made, and paid back/,
    );
    expect(all).not.toContain('not settled yet');
    const third = await drawn(3);
    expect([third.includes('#1 '), third.includes('#3 503'), third.includes('use 3 of 32')]).toEqual([
      false,
      true,
      true,
    ]);
    expect(await drawn(9)).toContain('the access log has no line of this call');
  });

  test('many calls are counted, and lines of other decisions are not its own', async () => {
    state = stateWith([lease({ quotas: [{ name: 'all', used: 35, limit: 60 }] })]);
    accessLog(
      Array.from({ length: 15 }, (_, index) => line(index + 1, { at: `18000000${10 + index}.0` })).join(''),
    );
    accessLog(line(1, { decision: `${other}#1`, authority: id }));
    expect(await drawn()).toContain('and 5 more; --json has them');
    expect(await drawn()).toContain('32 of them not settled yet; what was not used is paid back');
    expect(await drawn()).toContain('all: 35 of 60 used, with all 32 calls of the lease');
  });

  test('a call that goes on is told so far', async () => {
    state = stateWith([someDecision({ id })]);
    accessLog(line(1, { decision: id, type: 'DownstreamPeriodic' }), 'access.jsonl', 'embedded');
    expect(await drawn()).toContain('12 ms so far');
  });
});

describe('a decision', () => {
  test('its hold from the opening to the release, and the questions before', async () => {
    const at = (seconds: number) => atOf(1_800_000_000_000 + seconds * 1_000);
    state = stateWith([
      someHoldRecord({ id: hold, state: 'Pending', at: at(0) }),
      someDecision({ id: other, kind: 'RequiresOversight', code: 'HoldPending', hold, at: at(30) }),
      someHoldRecord({ id: hold, state: 'Approved', by: 'dana', why: 'fine', at: at(60) }),
      someHoldRecord({ id: hold, state: 'Released', at: at(61) }),
      someDecision({ id, hold, at: at(61) }),
      someHoldRecord({ id: 'hold_01M7J8Q0ZK3V5N8R2T4W6Y9ABZ', state: 'Denied', by: 'lee' }),
    ]);
    accessLog(line(1, { decision: id, duration_ms: 3_000 }));
    const shown = await drawn();
    expect(shown).toMatch(/upstream +asked at 08:00:01\.000: 200 from .*, answered after 3 s/);
    expect(shown).toContain(`hold       ${hold}`);
    expect(shown).toContain('approved by dana, after 1 min: fine');
    expect(shown).toContain(`asked 2 times: ${other}`);
    expect(shown).not.toContain('lee');
    expect(findMeant(state.dir, hold)).toEqual({ kind: 'one', id, ordinal: undefined });
  });

  test('a refusal with its reason, quota and shadow', async () => {
    state = stateWith([
      someDecision({
        ...{
          id,
          kind: 'QuotaExceeded',
          code: 'QuotaExceeded',
          why: 'quota day: 5 of 5 used',
          pin: '',
          duration_us: 1_500,
        },
        ...{ quotas: [{ name: 'day', used: 5, limit: 5 }], shadow: [{ rule: 'soon', would: 'forbid' }] },
        ...{
          delegation_chain: ['spiffe://example.org/person', 'spiffe://example.org/deployer'],
          tunnelled: true,
        },
      }),
    ]);
    const shown = await drawn();
    expect(shown).toMatch(
      /^dec_\w+ {2}THROTTLE QuotaExceeded {2}2027-01-15 08:00:00\.000 UTC, decided in 2 ms$/m,
    );
    expect(shown).toContain('for spiffe://example.org/person');
    expect(shown).toContain('day: 5 of 5 used');
    expect(shown).toContain('rule soon would forbid it');
    expect(shown).toContain('inside a CONNECT');
    expect(shown).not.toContain('upstream');
    expect(shown).toMatch(/└─ audit +there is no audit log here$/);
  });

  test('text that an agent chose does not reach the terminal as it is', async () => {
    state = stateWith([someDecision({ id, request_id: '\u001b[2J\u202e' })]);
    expect(await drawn()).toContain('request id \\u{1b}[2J\\u{202e}');
  });

  test('a damaged audit log hides nothing else', async () => {
    state = stateWith([someDecision({ id })]);
    mkdirSync(join(state.dir, 'audit'));
    writeFileSync(join(state.dir, 'audit', 'checkpoint'), 'garbage');
    writeFileSync(join(state.dir, 'audit', 'state.json'), 'garbage');
    expect(await drawn()).toMatch(/GET https[\s\S]*the audit log cannot be read: /);
  });
});

describe('which decision is meant', () => {
  test('a beginning in any case, where one has it', () => {
    state = stateWith([someDecision({ id }), someDecision({ id: other })]);
    expect(findMeant(state.dir, id.slice(4, 29).toLowerCase())).toMatchObject({
      kind: 'many',
      ids: [id, other],
    });
    expect(findMeant(state.dir, `${id}#12`)).toEqual({ kind: 'one', id, ordinal: 12 });
    expect(findMeant(state.dir, 'dec_02')).toEqual({ kind: 'none' });
    for (const text of ['', 'dec_', 'usage_1', '#1', 'dec_01M7#0', '../x'])
      expect(findMeant(state.dir, text)).toEqual({ kind: 'malformed' });
  });

  test('a settlement or an audit record with the id is not a decision', () => {
    state = stateWith([someSettlement({ id })]);
    expect(findMeant(state.dir, id)).toEqual({ kind: 'none' });
  });

  test('a trace of the caller’s that several decisions are in', () => {
    const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
    state = stateWith([someDecision({ id, traceparent }), someDecision({ id: other, traceparent })]);
    expect(findMeant(state.dir, traceparent.slice(3, 35))).toMatchObject({ kind: 'many' });
  });
});
