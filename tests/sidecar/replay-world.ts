/** Policies, requests and the records that a check of them leaves. */

import type { ErrorCode } from '../../config/errors.ts';
import { decisionRecord } from '../../ext-authz/record.ts';
import type { DecisionId, HoldId } from '../../filters/common/brand.ts';
import type { DecisionRecord } from '../../filters/common/record.ts';
import { methodsWithoutMessage } from '../../filters/content/mcp.ts';
import type { Decision, DecisionHead, LeaseTerms } from '../../filters/decision.ts';
import type { Body, Destination, McpCall } from '../../filters/facts.ts';
import type { CompiledPolicy, RequestFacts } from '../../filters/policy/compiled.ts';
import type { Fate } from '../../sidecar/replay-record.ts';
import { decisionOf, type RecordedDecision } from '../../sidecar/replay-record.ts';
import { agentOf, destinationOf } from '../filters/policy/compiled-policy.ts';
import { someCall } from '../support/call.ts';

/** A request with all that is in it, most of which no record holds. */
export type Asked = Readonly<{
  agent: string;
  destination: Partial<Omit<Destination, 'mcp'>>;
  /** What its body says, if anybody reads it as MCP. */
  message: McpCall;
  headers: Readonly<Record<string, string>>;
  body: Body;
  nowMs: number;
}>;

/** As the data plane reads it for this policy (see `readAsNeeded`). */
export function factsFor(policy: CompiledPolicy, asked: Asked): RequestFacts {
  const destination = destinationOf({ ...asked.destination, mcp: { kind: 'none' } });
  const readsMcp = policy.needsOf(destination.host, destination.path, destination.method).mcp;
  const mcp =
    readsMcp && !methodsWithoutMessage.includes(destination.method) ? asked.message : destination.mcp;
  const { headers, body, nowMs } = asked;
  return { agent: agentOf(policy, asked.agent), destination: { ...destination, mcp }, headers, body, nowMs };
}

const fates = { none: 'denied', forbid: 'denied', hold: 'held', allow: 'passed' } as const;

export const fateUnder = (policy: CompiledPolicy, asked: Asked): Fate =>
  fates[policy.evaluate(factsFor(policy, asked)).kind];

/** The record of this request's check under this policy, through JSON as the journal keeps it. */
export function recordUnder(policy: CompiledPolicy, asked: Asked, lease?: LeaseTerms): DecisionRecord {
  const facts = factsFor(policy, asked);
  const verdict = policy.evaluate(facts);
  const head: DecisionHead = {
    id: 'dec_01ARZ3NDEKTSV4RRFFQ69G5FAV' as DecisionId,
    at: { logical: 0, physical: BigInt(asked.nowMs) * 1_000_000n },
    policyVersion: policy.version,
    rule: verdict.kind === 'none' ? undefined : verdict.rule,
    agent: facts.agent,
    chain: [facts.agent.id],
    destination: facts.destination,
    shadow: verdict.shadow,
    quotas: [],
  };
  return JSON.parse(
    JSON.stringify(decisionRecord(decisionBy(verdict, head, lease), someCall(), 10)),
  ) as DecisionRecord;
}

const hold = 'hold_01ARZ3NDEKTSV4RRFFQ69G5FAV' as HoldId;

function decisionBy(
  verdict: ReturnType<CompiledPolicy['evaluate']>,
  head: DecisionHead,
  lease: LeaseTerms | undefined,
): Decision {
  const deny = (code: ErrorCode): Decision => ({
    ...head,
    ...{ kind: 'Deny', code, reason: '', retryAfterMs: undefined, hold: undefined },
  });
  const pin = { address: '192.0.2.1', port: 443, class: 'public' } as const;
  switch (verdict.kind) {
    case 'none':
      return deny('EgressDenied');
    case 'forbid':
      return deny('Forbidden');
    case 'allow':
      return { ...head, kind: 'Allow', inspect: 'tls', pin, hold: undefined, lease };
    case 'hold':
      return { ...head, kind: 'Allow', inspect: 'tls', pin, hold };
  }
}

export function recorded(record: object): RecordedDecision {
  const decision = decisionOf({ at: { logical: 0, physical_ns: '0' }, type: '', ...record });
  if (decision === undefined) throw new Error('not the record of a decision');
  return decision;
}
