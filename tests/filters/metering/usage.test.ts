import { expect, test } from 'vitest';
import { settlementRecord, usageEvent, usageRecord } from '../../../filters/metering/usage.ts';
import { type Settlement, settlementKinds } from '../../../filters/metering/use.ts';
import { someFacts } from '../../support/some-use.ts';

const at = { logical: 2, physical_ns: '1800000000000000000' };
const some = (changes: Partial<Settlement> = {}): Settlement => ({
  facts: someFacts(),
  ...{
    kind: 'Sent',
    calls: 1,
    bytesIn: 3,
    bytesOut: 10,
    durationMs: 20,
    status: 200,
    upstream: '10.0.0.1:443',
  },
  ...{ firstMs: 1_800_000_000_000.25, lastMs: 1_800_000_000_020.75 },
  ...changes,
});

test('a usage event has the attributes that CloudEvents 1.0 asks for', () => {
  const event = usageEvent(some(), at);
  // CloudEvents 1.0, section 3: required, non-empty strings; time as RFC 3339.
  for (const name of ['specversion', 'id', 'source', 'type', 'subject'] as const)
    expect(event?.[name]).toMatch(/./);
  expect(event?.specversion).toBe('1.0');
  expect(event?.time).toBe('2027-01-15T08:00:00.020Z');
  expect(() => new URL(event?.source ?? '')).not.toThrow();
  expect(event?.data).toMatchObject({ transaction_id: event?.id, at, calls: 1 });
});

test.each(settlementKinds)('of calls that are %s a usage event tells only where they were made', (kind) => {
  expect(usageEvent(some({ kind }), at) !== undefined).toBe(kind === 'Sent');
});

test('the first bytes of a tunnel are no use of their own: its CONNECT is', () => {
  expect(usageEvent(some({ facts: someFacts({ stage: 'tunnel' }) }), at)).toBeUndefined();
  expect(usageEvent(some({ facts: someFacts({ stage: 'connect' }) }), at)).toBeDefined();
});

test('a lease is one event with its quantity', () => {
  expect(usageEvent(some({ calls: 40, facts: someFacts({ calls: 64, leaseMs: 500 }) }), at)?.data.calls).toBe(
    40,
  );
});

test('records carry agent, chain, policy, what and why of their decision', () => {
  const head = {
    ...{ agent: 'spiffe://example.org/deployer', delegation_chain: ['spiffe://example.org/deployer'] },
    ...{ policy_version: '0123456789ab', at, what: 'GET', resource: 'https://api.github.com:443/' },
  };
  const settlement = some();
  expect(settlementRecord(settlement, at, '7:99')).toMatchObject({
    ...head,
    ...{ outcome: 'Success', line: '7:99', first_ms: 1_800_000_000_000, last_ms: 1_800_000_000_020 },
  });
  const event = usageEvent(settlement, at);
  expect(event && usageRecord(settlement.facts, event, at)).toMatchObject({ ...head, event });
});

test('what nobody used has no times', () => {
  const unused = some({ kind: 'Expired', firstMs: undefined, lastMs: undefined });
  expect(settlementRecord(unused, at, '')).toMatchObject({ first_ms: 0, last_ms: 0, outcome: 'Timeout' });
});
