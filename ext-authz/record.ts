/** Decisions and hold transitions as the journal keeps them. */
import { shorten } from '../filters/common/journal-record.ts';
import type { DecisionRecord, HoldRecord, Outcome } from '../filters/common/record.ts';
import { type Timestamp, toWireTimestamp } from '../filters/common/time.ts';
import { traceparentOf } from '../filters/common/traceparent.ts';
import { type Allow, type Decision, errorCodeOf, type LeaseTerms } from '../filters/decision.ts';
import { methodName } from '../filters/egress/canonical.ts';
import type { Call, Destination } from '../filters/facts.ts';
import type { Hold, HoldState } from '../filters/oversight/holds.ts';
import type { RefusedRequest } from './refusal.ts';

/** A method that no rule can name is whatever a caller made up: it is not written down. */
const knownMethod = (method: string): string =>
  method === '' || methodName.test(method) ? method : '_OTHER';

/** `GET`, or `POST tools/call search_docs` for MCP. */
export function whatOf(destination: Destination | undefined, call: Pick<Call, 'method'>): string {
  const method = destination?.method ?? knownMethod(call.method);
  if (destination?.mcp.kind !== 'call') return method;
  return [method, destination.mcp.method, destination.mcp.tool].filter((part) => part !== '').join(' ');
}

/** `https://host:443/path`: canonical, without the query, which often carries secrets. */
export function resourceOf(destination: Destination | undefined): string {
  if (destination === undefined) return '';
  const host = destination.host.includes(':') ? `[${destination.host}]` : destination.host;
  return `${destination.scheme}://${host}:${destination.port}${destination.path}`;
}

/** All that a lease is for: a directory ends in two stars, as in a policy. */
const leasedOf = (destination: Destination | undefined, { path, exact }: LeaseTerms): string =>
  destination === undefined ? '' : resourceOf({ ...destination, path: exact ? path : `${path}**` });

function outcomeOf(decision: Decision): Outcome {
  if (decision.kind === 'Allow') return 'Success';
  if (decision.kind === 'Deny' && decision.code === 'HoldTimedOut') return 'Timeout';
  return 'Denied';
}

/** A CONNECT whose requests are read: it has no pin, since each of them gets its own. */
export const isOpened = (decision: Allow): boolean => decision.pin === undefined;
export const openedWhy = 'opened to be read; each request is decided';

/** The path stands in `resource`: a caller who makes it long makes the record long once. */
const withoutPath = (reason: string, destination: Destination | undefined): string =>
  destination === undefined
    ? reason
    : reason.replace(`:${destination.port}${destination.path}`, `:${destination.port}`);

function whyOf(decision: Decision): string {
  switch (decision.kind) {
    case 'Allow':
      if (isOpened(decision)) return openedWhy;
      if (decision.lease !== undefined)
        return `lease of ${decision.lease.calls} calls for ${decision.lease.lifeMs} ms`;
      return decision.hold === undefined ? '' : `approved by hold ${decision.hold}`;
    case 'Deny':
      return withoutPath(decision.reason, decision.destination);
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
type Told = Pick<Call, 'method' | 'via' | 'requestId'> &
  Partial<Pick<Call, 'stage' | 'connection' | 'headers'>> &
  Pick<RefusedRequest, 'line' | 'count'>;

type Facts = Pick<
  DecisionRecord,
  | 'calls'
  | 'lease_ms'
  | 'lease_path'
  | 'lease_exact'
  | 'stage'
  | 'inspect'
  | 'tunnelled'
  | 'mcp_method'
  | 'mcp_tool'
  | 'mcp_invalid'
  | 'quotas'
  | 'traceparent'
  | 'line'
  | 'count'
>;

/** What most records have not: each is there only where it says something, so that a plain line stays short. */
function factsOf(decision: Decision, call: Told): Facts {
  const { destination, quotas } = decision;
  const lease = decision.kind === 'Allow' ? decision.lease : undefined;
  const mcp = destination?.mcp;
  const traceparent = traceparentOf(call.headers?.['traceparent']);
  return {
    ...(lease && {
      calls: lease.calls,
      lease_ms: lease.lifeMs,
      lease_path: shorten(lease.path),
      lease_exact: lease.exact,
    }),
    ...(call.stage === 'connect' || call.stage === 'tunnel' ? { stage: call.stage } : {}),
    ...(decision.kind === 'Allow' && decision.inspect !== 'tls' ? { inspect: decision.inspect } : {}),
    ...(call.stage === 'request' && call.connection?.tunnelAuthority ? { tunnelled: true } : {}),
    ...(mcp?.kind === 'call' ? { mcp_method: mcp.method, mcp_tool: mcp.tool } : {}),
    ...(mcp?.kind === 'invalid' ? { mcp_invalid: true } : {}),
    ...(quotas.length === 0
      ? {}
      : { quotas: quotas.map(({ name, used, limit }) => ({ name, used, limit })) }),
    ...(traceparent === undefined ? {} : { traceparent }),
    ...(call.line === undefined ? {} : { line: call.line }),
    ...(call.count === undefined ? {} : { count: call.count }),
  };
}

export function decisionRecord(decision: Decision, call: Told, durationUs: number): DecisionRecord {
  const { pin = undefined, lease = undefined } = decision.kind === 'Allow' ? decision : {};
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
    resource: shorten(
      lease === undefined ? resourceOf(decision.destination) : leasedOf(decision.destination, lease),
    ),
    why: shorten(whyOf(decision)),
    outcome: outcomeOf(decision),
    pin: pin === undefined ? '' : `${pin.address}:${pin.port}`,
    hold: holdOf(decision),
    shadow: decision.shadow,
    via: call.via,
    request_id: call.requestId,
    duration_us: Math.round(durationUs),
    ...factsOf(decision, call),
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
    resource: shorten(hold.request.url.split('?', 1)[0] ?? ''),
  };
}
