/** Decisions and hold transitions as the journal keeps them. */
import type { DecisionRecord, HoldRecord, Outcome } from '../filters/common/record.ts';
import { type Timestamp, toWireTimestamp } from '../filters/common/time.ts';
import { type Decision, errorCodeOf } from '../filters/decision.ts';
import type { Call, Destination } from '../filters/facts.ts';
import type { Hold, HoldState } from '../filters/oversight/holds.ts';

/** `GET`, or `POST tools/call search_docs` for MCP. */
export function whatOf(destination: Destination | undefined, call: Pick<Call, 'method'>): string {
  const method = destination?.method ?? call.method;
  if (destination?.mcp.kind !== 'call') return method;
  return [method, destination.mcp.method, destination.mcp.tool].filter((part) => part !== '').join(' ');
}

/** `https://host:443/path`: canonical, without the query, which often carries secrets. */
export function resourceOf(destination: Destination | undefined): string {
  if (destination === undefined) return '';
  const host = destination.host.includes(':') ? `[${destination.host}]` : destination.host;
  return `${destination.scheme}://${host}:${destination.port}${destination.path}`;
}

function outcomeOf(decision: Decision): Outcome {
  if (decision.kind === 'Allow') return 'Success';
  if (decision.kind === 'Deny' && decision.code === 'HoldTimedOut') return 'Timeout';
  return 'Denied';
}

function whyOf(decision: Decision): string {
  switch (decision.kind) {
    case 'Allow':
      return decision.hold === undefined ? '' : `approved by hold ${decision.hold}`;
    case 'Deny':
      return decision.reason;
    case 'RequiresOversight':
      return `held by ${decision.policy_id}`;
    case 'QuotaExceeded':
      return `quota ${decision.quota}: ${decision.used} of ${decision.limit} used`;
    case 'RateLimited':
      return `rate ${decision.quota}`;
  }
}

const holdOf = (decision: Decision): string =>
  decision.kind === 'QuotaExceeded' || decision.kind === 'RateLimited' ? '' : (decision.hold ?? '');

/** What a record takes from the call itself; all of it is empty where the call could not be read. */
type Told = Pick<Call, 'method' | 'via' | 'requestId'>;

export function decisionRecord(decision: Decision, call: Told, durationUs: number): DecisionRecord {
  const pin = decision.kind === 'Allow' ? decision.pin : undefined;
  return {
    type: 'decision',
    id: decision.id,
    at: toWireTimestamp(decision.at),
    agent: decision.agent?.id ?? '',
    delegation_chain: decision.chain,
    policy_version: decision.policyVersion,
    kind: decision.kind,
    code: errorCodeOf(decision) ?? '',
    rule: decision.rule ?? '',
    what: whatOf(decision.destination, call),
    resource: resourceOf(decision.destination),
    why: whyOf(decision),
    outcome: outcomeOf(decision),
    pin: pin === undefined ? '' : `${pin.address}:${pin.port}`,
    hold: holdOf(decision),
    shadow: decision.shadow,
    via: call.via,
    request_id: call.requestId,
    duration_us: Math.round(durationUs),
  };
}

const holdOutcomes: Readonly<Record<HoldState, Outcome>> = {
  Pending: 'Success',
  Escalated: 'Success',
  Approved: 'Success',
  Released: 'Success',
  Sent: 'Success',
  Denied: 'Denied',
  Cancelled: 'Denied',
  TimedOut: 'Timeout',
  NotSent: 'Failure',
  Unknown: 'Failure',
};

export function holdRecord(hold: Hold, at: Timestamp): HoldRecord {
  return {
    type: 'hold',
    id: hold.id,
    at: toWireTimestamp(at),
    agent: hold.agentId,
    delegation_chain: hold.chain,
    policy_version: hold.policyVersion,
    state: hold.state,
    rule: hold.rule,
    digest: hold.digest,
    by: hold.decidedBy,
    why: hold.note,
    outcome: holdOutcomes[hold.state],
    what: hold.request.method,
    resource: hold.request.url.split('?', 1)[0] ?? '',
  };
}
