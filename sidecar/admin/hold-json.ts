/** A hold as the admin API and `--json` tell it. */
import type { Hold } from '../../filters/oversight/holds.ts';

export const holdJson = (hold: Hold) => ({
  id: hold.id,
  state: hold.state,
  agent: hold.agent,
  agent_id: hold.agentId,
  delegation_chain: hold.chain,
  rule: hold.rule,
  rule_digest: hold.ruleDigest,
  policy_version: hold.policyVersion,
  approvers: hold.approvers,
  quorum: hold.quorum,
  digest: hold.digest,
  request: {
    method: hold.request.method,
    url: hold.request.url,
    headers: hold.request.headers,
    body_bytes: hold.request.bodyBytes,
    body_preview: hold.request.bodyPreview,
    mcp: hold.request.mcp,
  },
  reason: hold.reason,
  created_at: hold.createdAt,
  created_ms: hold.createdMs,
  expires_ms: hold.expiresMs,
  decided_ms: hold.decidedMs,
  approvals: hold.approvals,
  decided_by: hold.decidedBy,
  note: hold.note,
  settled_by: hold.settledBy,
});
