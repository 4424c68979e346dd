/** A hold to be opened, with what a test cares about replaced. */
import type { AgentName, Digest, PolicyVersion, RuleName, SpiffeId } from '../../filters/common/brand.ts';
import type { NewHold } from '../../filters/oversight/holds.ts';

export const digestOf = (letter: string): Digest => letter.repeat(64) as Digest;

export const someHold = (changes: Partial<NewHold> = {}): NewHold => ({
  agent: 'deployer' as AgentName,
  agentId: 'spiffe://example.org/deployer' as SpiffeId,
  chain: ['spiffe://example.org/deployer' as SpiffeId],
  rule: 'github-write' as RuleName,
  ruleDigest: digestOf('a'),
  policyVersion: '0123456789ab' as PolicyVersion,
  approvers: 'maintainers',
  quorum: 1,
  digest: digestOf('d'),
  request: {
    method: 'POST',
    url: 'https://api.github.com/repos/a/b/issues',
    headers: { 'content-type': 'application/json' },
    bodyBytes: 2,
    bodyPreview: '{}',
    mcp: '',
  },
  reason: 'writes are looked at',
  timeoutMs: 60_000,
  ...changes,
});
