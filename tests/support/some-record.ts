/** A record of the journal, with what a test cares about replaced. */
import type { DecisionRecord, HoldRecord } from '../../filters/common/record.ts';

export const someDecision = (changes: Partial<DecisionRecord> = {}): DecisionRecord => ({
  type: 'decision',
  at: { logical: 0, physical_ns: '1800000000000000000' },
  agent: 'spiffe://example.org/deployer',
  delegation_chain: ['spiffe://example.org/deployer'],
  policy_version: '0123456789ab',
  id: 'dec_01ARYZ6S410000000000000000',
  kind: 'Allow',
  code: '',
  rule: 'github-read',
  what: 'GET',
  resource: 'https://api.github.com:443/',
  why: '',
  outcome: 'Success',
  pin: '140.82.121.6:443',
  hold: '',
  shadow: [],
  via: 'envoy',
  request_id: '',
  duration_us: 100,
  ...changes,
});

export const someHoldRecord = (changes: Partial<HoldRecord> = {}): HoldRecord => ({
  type: 'hold',
  at: { logical: 1, physical_ns: '1800000000000000000' },
  agent: 'spiffe://example.org/deployer',
  delegation_chain: ['spiffe://example.org/deployer'],
  policy_version: '0123456789ab',
  id: 'hold_01ARYZ6S410000000000000000',
  state: 'Pending',
  rule: 'github-write',
  digest: 'd'.repeat(64),
  by: '',
  why: '',
  outcome: 'Success',
  what: 'POST',
  resource: 'https://api.github.com:443/',
  ...changes,
});
