import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decodeHold } from '../../../filters/oversight/rows.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { refusalOf } from '../../support/refusal.ts';

const row = {
  seq: 1,
  id: 'hold_01ARYZ6S410000000000000000',
  state: 'Approved',
  agent: 'deployer',
  agent_id: 'spiffe://example.org/deployer',
  chain: '["spiffe://example.org/deployer"]',
  rule: 'github-write',
  rule_digest: 'aa',
  policy_version: '0123456789ab',
  approvers: 'maintainers',
  quorum: 1,
  not_requester: 1,
  digest: 'dd',
  request: '{"method":"POST","url":"https://x/","headers":{"a":"b"},"bodyBytes":0,"bodyPreview":"","mcp":""}',
  reason: '',
  created_logical: 0,
  created_physical_ns: '1800000000000000000',
  created_ms: 1_800_000_000_000,
  expires_ms: 1_900_000_000_000,
  decided_ms: null,
  decided_by: '',
  note: '',
  approvals: '[{"by":"dana","note":"","at":{"logical":0,"physical_ns":"1"}}]',
  settled_by: '',
};

it('reads a row as the hold it was', () => {
  expect(decodeHold(row, 'holds.db')).toMatchObject({
    seq: 1,
    notRequester: true,
    hold: { state: 'Approved', request: { headers: { a: 'b' } }, approvals: [{ by: 'dana' }] },
  });
});

it('reads any row as a hold or refuses it', () => {
  const field = fc.oneof(fc.anything(), fc.integer(), fc.json(), fc.string());
  const change = fc.dictionary(fc.constantFrom(...Object.keys(row)), field, { minKeys: 1, maxKeys: 3 });
  fc.assert(
    fc.property(change, (fields) => {
      const refusal = refusalOf(() => decodeHold({ ...row, ...fields }, 'holds.db'));
      expect(['none', 'StateUnavailable']).toContain(refusal);
    }),
    fuzzRuns,
  );
});
