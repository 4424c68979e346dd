/** A record of the journal, with what a test cares about replaced. */
import type {
  AuditRecord,
  DecisionRecord,
  HoldRecord,
  SettlementRecord,
} from '../../filters/common/record.ts';

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

export const someAuditRecord = (changes: Partial<AuditRecord> = {}): AuditRecord => ({
  type: 'audit',
  at: { logical: 2, physical_ns: '1800000000000000000' },
  agent: '',
  delegation_chain: [],
  policy_version: '0123456789ab',
  id: 'aud_01ARYZ6S410000000000000000',
  action: 'content_pruned',
  by: '',
  what: 'content_pruned',
  resource: 'decisions-0000000001.jsonl',
  why: 'older than audit.retention_days, 90 days',
  outcome: 'Success',
  details: { files: 1 },
  ...changes,
});

export const someSettlement = (changes: Partial<SettlementRecord> = {}): SettlementRecord => ({
  ...{ type: 'settlement', at: { logical: 0, physical_ns: '1800000001500000000' } },
  ...{ agent: 'spiffe://example.org/deployer', delegation_chain: ['spiffe://example.org/deployer'] },
  ...{ policy_version: '0123456789ab', id: 'dec_01ARYZ6S410000000000000000', kind: 'Sent', calls: 1 },
  ...{ bytes_in: 10, bytes_out: 200, duration_ms: 30, status: 200, upstream: '140.82.121.6:443' },
  ...{ first_ms: 1_800_000_000_100, last_ms: 1_800_000_000_130, rule: 'github-read', what: 'GET' },
  ...{ resource: 'https://api.github.com:443/', outcome: 'Success', line: '' },
  ...changes,
});
