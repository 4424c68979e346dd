/** A decision on record → the request again, as far as the record holds it, and what became of it then. */
import { isIP } from 'node:net';
import type { ErrorCode } from '../config/errors.ts';
import { msOf, type ScannedRecord } from '../filters/common/journal-scan.ts';
import type { Destination, McpCall } from '../filters/facts.ts';

/** What a caller meets: its request passes, waits for a person, or is refused. */
export type Fate = 'passed' | 'held' | 'denied';

export type RecordedDecision = Readonly<{
  id: string;
  atMs: number;
  /** SPIFFE ID; empty where the caller was unknown. */
  agent: string;
  policyVersion: string;
  kind: string;
  code: string;
  rule: string;
  what: string;
  resource: string;
  via: string;
  hold: string;
  shadow: readonly Readonly<{ rule: string; would: string }>[];
  /** Requests that it stood for. */
  calls: number;
  stage: 'request' | 'connect' | 'tunnel';
  tunnelled: boolean;
  /** An allowed connection that was passed unread. */
  unread: boolean;
  mcp: McpCall;
  /** Of a lease for a whole directory: the directory's segments. */
  directory: readonly string[] | undefined;
}>;

const texts = [
  'id',
  'agent',
  'policy_version',
  'kind',
  'code',
  'rule',
  'what',
  'resource',
  'via',
  'hold',
] as const;

/** A line of the journal, untrusted; undefined where it is not a decision. */
export function decisionOf(record: ScannedRecord): RecordedDecision | undefined {
  if (record.type !== 'decision' || texts.some((name) => typeof record[name] !== 'string')) return undefined;
  const text = (name: string): string => {
    const value = record[name];
    return typeof value === 'string' ? value : '';
  };
  const { calls, stage, shadow } = record;
  const leasePath = record['lease_exact'] === true ? '' : text('lease_path');
  return {
    id: text('id'),
    atMs: msOf(record.at),
    agent: text('agent'),
    policyVersion: text('policy_version'),
    kind: text('kind'),
    code: text('code'),
    rule: text('rule'),
    what: text('what'),
    resource: text('resource'),
    via: text('via'),
    hold: text('hold'),
    shadow: Array.isArray(shadow) ? shadow.filter(isShadow) : [],
    calls: typeof calls === 'number' && Number.isSafeInteger(calls) && calls > 0 ? calls : 1,
    stage: stage === 'tunnel' ? 'tunnel' : text('resource').startsWith('tcp:') ? 'connect' : 'request',
    tunnelled: record['tunnelled'] === true,
    unread: text('inspect') !== '',
    mcp: mcpOf(record),
    directory: leasePath.endsWith('/') ? leasePath.split('/').slice(1, -1) : undefined,
  };
}

const isShadow = (value: unknown): value is { rule: string; would: string } =>
  typeof value === 'object' &&
  value !== null &&
  'rule' in value &&
  typeof value.rule === 'string' &&
  'would' in value &&
  typeof value.would === 'string';

function mcpOf(record: ScannedRecord): McpCall {
  const { mcp_method: method, mcp_tool: tool } = record;
  if (typeof method === 'string') return { kind: 'call', method, tool: typeof tool === 'string' ? tool : '' };
  return record['mcp_invalid'] === true ? { kind: 'invalid', reason: 'not strict MCP' } : { kind: 'none' };
}

const resourcePattern = /^(https?|tcp):\/\/(\[[0-9a-f:.]+\]|[a-z0-9._-]+):([1-9]\d{0,4})(\/[\x21-\x7e]*)?$/;
const methodPattern = /^[A-Z][A-Z0-9_-]{0,31}(?= |$)/;

/** The inverse of `resourceOf` and `whatOf`; undefined where the journal had to cut the path, or there was none. */
export function destinationOf(decision: RecordedDecision): Destination | undefined {
  const match = resourcePattern.exec(decision.resource);
  const method = methodPattern.exec(decision.what)?.[0];
  if (match === null) return undefined;
  const [, scheme, authority = '', port, path = ''] = match;
  const host = authority.replace(/^\[|\]$/g, '');
  const rest = { host, hostIsAddress: isIP(host) !== 0, port: Number(port), path, query: '' };
  if (scheme === 'tcp')
    return path === '' ? { ...rest, scheme: 'tcp', method: 'CONNECT', mcp: { kind: 'none' } } : undefined;
  if (method === undefined || path === '') return undefined;
  return { ...rest, scheme: scheme === 'https' ? 'https' : 'http', method, mcp: decision.mcp };
}

/** Refusals that the rules made, by the fate that they are. */
const byRules: Partial<Record<ErrorCode, Fate>> = {
  EgressDenied: 'denied',
  Forbidden: 'denied',
  McpInvalid: 'denied',
  RequestTooLarge: 'denied',
  HoldPending: 'held',
  HoldDenied: 'held',
  HoldTimedOut: 'held',
  HoldCancelled: 'held',
  HoldOutcomeUnknown: 'held',
  HoldLimitReached: 'held',
};

/** Undefined where something else than the rules refused it: a quota, an address, a limit, a fault. */
export function fateOf(decision: RecordedDecision): Fate | undefined {
  switch (decision.kind) {
    case 'Allow':
      return decision.hold === '' ? 'passed' : 'held';
    case 'RequiresOversight':
      return 'held';
    case 'Deny':
      return new Map(Object.entries(byRules)).get(decision.code);
    default:
      return undefined;
  }
}
