/** What a decision's record holds beyond the obvious, and that it holds nothing it may not. */
import { expect, test } from 'vitest';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { decisionRecord } from '../../ext-authz/record.ts';
import { refusal } from '../../ext-authz/refusal.ts';
import type { Decision } from '../../filters/decision.ts';
import { fakeAllow, fakeCall } from '../support/decisions.ts';
import { movingClock } from '../support/moving-clock.ts';

const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
const { destination } = fakeAllow();
if (destination === undefined) throw new Error('an allow has a destination');

test('a plain request has the short record', () => {
  const record = decisionRecord({ ...fakeAllow(), quotas: [] }, fakeCall(), 12.6);
  expect(Object.keys(record)).toEqual([
    ...[
      'type',
      'id',
      'at',
      'agent',
      'delegation_chain',
      'policy_version',
      'kind',
      'code',
      'rule',
      'what',
      'resource',
    ],
    ...['why', 'outcome', 'pin', 'hold', 'shadow', 'via', 'request_id', 'duration_us'],
  ]);
});

test('a lease has its calls, its life and its paths', () => {
  const lease = { calls: 32, lifeMs: 500, path: '/v1/', exact: false };
  expect(decisionRecord({ ...fakeAllow(), lease }, fakeCall(), 1)).toMatchObject({
    ...{ calls: 32, lease_ms: 500, lease_path: '/v1/', lease_exact: false },
  });
});

test('a method that no rule can name is not written down', () => {
  const decision: Decision = { ...fakeAllow(), destination: undefined };
  const whatOf = (method: string) => decisionRecord(decision, fakeCall({ method }), 1).what;
  expect(['GET', 'PROPFIND', '', 'dec_01ARYZ6S410000000000000000', 'x'].map(whatOf)).toEqual([
    ...['GET', 'PROPFIND', '', '_OTHER', '_OTHER'],
  ]);
});

test('a path of any length makes a short record, and stands in it once', () => {
  const path = `/${'x'.repeat(30_000)}`;
  const long = { ...destination, path };
  const { host, port } = long;
  const denied = (reason: string): Decision =>
    refusal(new SallyportError('EgressDenied', reason), movingClock(), fakeAllow().id, { destination: long });
  const record = decisionRecord(denied(`no rule lets GET ${host}:${port}${path} pass`), fakeCall(), 1);
  expect(record.why).toBe(`no rule lets GET ${host}:${port} pass`);
  expect(record.resource).toHaveLength(limits.journalLongFieldCharsMax + '… (28000 more)'.length);
  const said = decisionRecord(denied(path), fakeCall(), 1);
  expect(JSON.stringify(said).length).toBeLessThan(3 * limits.journalLongFieldCharsMax);
  const lease = { calls: 32, lifeMs: 500, path, exact: true };
  const leased = decisionRecord({ ...fakeAllow(), destination: long, lease }, fakeCall(), 1);
  expect(JSON.stringify(leased).length).toBeLessThan(3 * limits.journalLongFieldCharsMax);
});

test('MCP names stand by themselves, whatever they are made of', () => {
  const called: Decision = {
    ...fakeAllow(),
    destination: { ...destination, mcp: { kind: 'call', method: 'tools/call', tool: 'a b' } },
  };
  expect(decisionRecord(called, fakeCall(), 1)).toMatchObject({
    what: 'GET tools/call a b',
    mcp_method: 'tools/call',
    mcp_tool: 'a b',
  });
  const invalid: Decision = {
    ...fakeAllow(),
    destination: { ...destination, mcp: { kind: 'invalid', reason: 'a batch' } },
  };
  expect(decisionRecord(invalid, fakeCall(), 1)).toMatchObject({ what: 'GET', mcp_invalid: true });
});

test('where in a connection it was made, and how that goes on', () => {
  const connection = { ...fakeCall().connection, tunnelAuthority: 'demo.sallyport.test:443' };
  expect(decisionRecord(fakeAllow(), fakeCall({ connection }), 1)).toMatchObject({ tunnelled: true });
  const unread = decisionRecord(
    { ...fakeAllow(), inspect: 'sni' },
    fakeCall({ stage: 'connect', method: 'CONNECT' }),
    1,
  );
  expect(unread).toMatchObject({ stage: 'connect', inspect: 'sni' });
  expect(unread).not.toHaveProperty('tunnelled');
});

test('quotas as they were after the call', () => {
  expect(decisionRecord(fakeAllow(), fakeCall(), 1).quotas).toEqual([{ name: 'demo', used: 1, limit: 3 }]);
});

test('a valid traceparent, and no other header', () => {
  const headers = { traceparent, tracestate: 'k=v', authorization: 'Bearer hunter2', 'x-other': 'y' };
  const record = decisionRecord(fakeAllow(), fakeCall({ headers }), 1);
  expect(record.traceparent).toBe(traceparent);
  expect(JSON.stringify(record)).not.toMatch(/hunter2|k=v/);
  expect(
    decisionRecord(fakeAllow(), fakeCall({ headers: { traceparent: 'hunter2' } }), 1),
  ).not.toHaveProperty('traceparent');
});
