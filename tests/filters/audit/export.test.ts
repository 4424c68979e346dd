import fc from 'fast-check';
import { expect, it } from 'vitest';
import { cloudEventOf, rfc3339 } from '../../../filters/audit/cloudevents.ts';
import { entryOf } from '../../../filters/audit/entry.ts';
import { ocsfOf } from '../../../filters/audit/ocsf.ts';
import type { JournalRecord, UsageRecord } from '../../../filters/common/record.ts';
import { someAuditRecord, someDecision, someHoldRecord } from '../../support/some-record.ts';

const product = { version: '0.1.0', origin: 'example.org/log' };
const user = 'spiffe://example.org/user';
const agent = 'spiffe://example.org/deployer';
const ocsf = (record: JournalRecord) => ocsfOf(entryOf(record, 7), product);

const usage: UsageRecord = {
  ...someAuditRecord(),
  ...{ type: 'usage', id: 'dec_1', agent, what: 'GET', resource: 'https://api.github.com:443/' },
  event: {
    ...{ specversion: '1.0', id: 'dec_1', source: '//usage', type: 'dev.sallyport.usage', subject: agent },
    ...{ time: '2027-01-15T08:00:00.000Z', datacontenttype: 'application/json' },
    data: {
      ...{
        transaction_id: 'dec_1',
        at: { logical: 0, physical_ns: '1800000000000000000' },
        delegation_chain: [],
        policy_version: '',
        rule: '',
        what: '',
        resource: '',
      },
      ...{ calls: 1, bytes_in: 2, bytes_out: 3, duration_ms: 4, status: 200 },
    },
  },
};

it('is an OCSF event of the class API Activity, with what the class requires', () => {
  const event = ocsf(
    someDecision({
      delegation_chain: [user, agent],
      pin: '2001:db8::1:443',
      request_id: 'r-1',
      resource: 'https://api.github.com:443/repos',
    }),
  );
  expect(event).toMatchObject({
    ...{
      class_uid: 6_003,
      category_uid: 6,
      activity_id: 2,
      type_uid: 600_302,
      severity_id: 1,
      time: 1_800_000_000_000,
    },
    ...{ status_id: 1, action_id: 1, disposition_id: 1, type_name: 'API Activity: Read' },
    metadata: {
      ...{
        version: '1.8.0',
        uid: 'dec_01ARYZ6S410000000000000000/decision/7',
        event_code: 'egress_attempted',
      },
      ...{
        sequence: 7,
        profiles: ['security_control'],
        product: { vendor_name: 'Sallyport', uid: 'example.org/log' },
      },
    },
    actor: { user: { uid: agent, name: 'deployer' }, invoked_by: user },
    api: { operation: 'GET', request: { uid: 'r-1' } },
    src_endpoint: { uid: agent },
    dst_endpoint: { hostname: 'api.github.com', port: 443, ip: '2001:db8::1' },
    http_request: {
      http_method: 'GET',
      url: { url_string: 'https://api.github.com:443/repos', path: '/repos' },
    },
    firewall_rule: { uid: 'github-read' },
    unmapped: { delegation_chain: [user, agent], logical: 0 },
  });
});

it('says in OCSF what was refused, held, answered by a person, and done to the log', () => {
  expect(
    ocsf(
      someDecision({ kind: 'Deny', code: 'AddressDenied', outcome: 'Denied', why: 'private', what: 'POST' }),
    ),
  ).toMatchObject({
    ...{
      activity_id: 1,
      status_id: 2,
      status_code: 'AddressDenied',
      status_detail: 'private',
      severity_id: 3,
    },
    ...{ action_id: 2, disposition_id: 2, api: { response: { error: 'AddressDenied' } } },
  });
  expect(ocsf(someDecision({ kind: 'RequiresOversight', outcome: 'Denied' }))).toMatchObject({
    action_id: 2,
    disposition_id: 14,
  });
  const hold = ocsf(someHoldRecord({ state: 'TimedOut', outcome: 'Timeout' }));
  expect(hold).toMatchObject({ status_id: 2, status_code: 'Timeout', metadata: { event_code: 'timed_out' } });
  expect(hold).not.toHaveProperty('action_id');
  // Nobody is the actor of an act of the log's own; OCSF wants one.
  expect(ocsf(someAuditRecord())).toMatchObject({
    ...{
      activity_id: 99,
      activity_name: 'content_pruned',
      type_uid: 600_399,
      actor: { user: { uid: 'unknown' } },
    },
    resources: [{ name: 'decisions-0000000001.jsonl' }],
  });
});

it('is a CloudEvent whose id is one record’s', () => {
  const decision = cloudEventOf(entryOf(someDecision(), 7), 'example.org/log');
  expect(decision).toMatchObject({
    ...{ specversion: '1.0', source: '//example.org/log', type: 'dev.sallyport.audit.egress_attempted' },
    ...{
      id: 'dec_01ARYZ6S410000000000000000/decision/7',
      subject: agent,
      time: '2027-01-15T08:00:00.000000000Z',
    },
    data: { who: agent, outcome: 'Success', timestamp: { logical: 0 }, agent_seq: 7 },
  });
  // An empty attribute is left out; usage is an event already.
  expect(cloudEventOf(entryOf(someAuditRecord(), 1), 'example.org/log')).not.toHaveProperty('subject');
  expect(cloudEventOf(entryOf(usage, 1), 'example.org/log')).toBe(usage.event);
  expect(ocsf(usage)).toMatchObject({
    metadata: { event_code: 'usage_recorded' },
    status_detail: 'dev.sallyport.usage',
  });
});

it('writes times to the nanosecond', () => {
  expect(rfc3339('1800000000123456789')).toBe('2027-01-15T08:00:00.123456789Z');
  expect(rfc3339('0')).toBe('1970-01-01T00:00:00.000000000Z');
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 4_000_000_000_000_000_000n }), (ns) => {
      const text = rfc3339(String(ns));
      expect(BigInt(Date.parse(text)) * 1_000_000n + (ns % 1_000_000n)).toBe(ns);
      expect(text).toMatch(/\.\d{9}Z$/);
    }),
  );
});
