/** Holds on disk: one row of `holds` (schema: `filters/common/migrations.ts`), read and written whole or by transition. */
import { SallyportError } from '../../config/errors.ts';
import type { AgentName, Digest, HoldId, PolicyVersion, RuleName, SpiffeId } from '../common/brand.ts';
import { type Approval, type Hold, type HoldState, holdStates, type NewHold } from './holds.ts';

/** States that nothing leads out of; only these are ever forgotten. */
export const terminalStates = [
  'Denied',
  'TimedOut',
  'Cancelled',
  'Sent',
  'NotSent',
] as const satisfies readonly HoldState[];

export const isTerminal = (state: HoldState): boolean => terminalStates.some((one) => one === state);

/** A hold with what only the store reads. */
export type KeptHold = Readonly<{ seq: number; hold: Hold; notRequester: boolean }>;

type Row = Readonly<Record<string, unknown>>;

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isStrings = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((one) => typeof one === 'string');

function isApproval(value: unknown): value is Approval {
  if (!isRecord(value) || !isRecord(value['at'])) return false;
  return (
    typeof value['by'] === 'string' &&
    typeof value['note'] === 'string' &&
    typeof value['at']['logical'] === 'number' &&
    typeof value['at']['physical_ns'] === 'string'
  );
}

function isRequest(value: unknown): value is Hold['request'] {
  if (!isRecord(value) || !isRecord(value['headers'])) return false;
  return (
    (['method', 'url', 'bodyPreview', 'mcp'] as const).every((name) => typeof value[name] === 'string') &&
    typeof value['bodyBytes'] === 'number' &&
    isStrings(Object.values(value['headers']))
  );
}

/** A row as it was read, untrusted: whatever is damaged makes the hold unusable, never approved. */
export function decodeHold(row: Row, file: string): KeptHold {
  const damaged = (field: string): never => {
    throw new SallyportError('StateUnavailable', `${file}: the row of a hold is damaged in ${field}`);
  };
  const text = (field: string): string => {
    const value = row[field];
    return typeof value === 'string' ? value : damaged(field);
  };
  const integer = (field: string): number => {
    const value = row[field];
    return typeof value === 'number' && Number.isSafeInteger(value) ? value : damaged(field);
  };
  const json = <T>(field: string, fits: (value: unknown) => value is T): T => {
    let value: unknown;
    try {
      value = JSON.parse(text(field));
    } catch {
      return damaged(field);
    }
    return fits(value) ? value : damaged(field);
  };
  const state = holdStates.find((one) => one === row['state']);
  const hold: Hold = {
    id: text('id') as HoldId,
    state: state ?? damaged('state'),
    agent: text('agent') as AgentName,
    agentId: text('agent_id') as SpiffeId,
    chain: json('chain', isStrings) as SpiffeId[],
    rule: text('rule') as RuleName,
    ruleDigest: text('rule_digest') as Digest,
    policyVersion: text('policy_version') as PolicyVersion,
    approvers: text('approvers'),
    quorum: integer('quorum'),
    digest: text('digest') as Digest,
    request: json('request', isRequest),
    reason: text('reason'),
    createdAt: { logical: integer('created_logical'), physical_ns: text('created_physical_ns') },
    createdMs: integer('created_ms'),
    expiresMs: integer('expires_ms'),
    decidedMs: row['decided_ms'] === null ? undefined : integer('decided_ms'),
    approvals: json('approvals', (value) => Array.isArray(value) && value.every(isApproval)) as Approval[],
    decidedBy: text('decided_by'),
    note: text('note'),
    settledBy: text('settled_by'),
  };
  return { seq: integer('seq'), hold, notRequester: integer('not_requester') !== 0 };
}

const columns = [
  'id',
  'state',
  'agent',
  'agent_id',
  'chain',
  'rule',
  'rule_digest',
  'policy_version',
  'approvers',
  'quorum',
  'not_requester',
  'digest',
  'request',
  'reason',
  'created_logical',
  'created_physical_ns',
  'created_ms',
  'expires_ms',
] as const;

export const insertHold = `INSERT INTO holds (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')}) RETURNING *`;

/** The values of `insertHold`, in its order. A new hold is Pending. */
export const valuesOf = (hold: NewHold, born: Pick<Hold, 'id' | 'createdAt' | 'createdMs'>) => [
  born.id,
  'Pending',
  hold.agent,
  hold.agentId,
  JSON.stringify(hold.chain),
  hold.rule,
  hold.ruleDigest,
  hold.policyVersion,
  hold.approvers,
  hold.quorum,
  hold.notRequester === false ? 0 : 1,
  hold.digest,
  JSON.stringify(hold.request),
  hold.reason,
  born.createdAt.logical,
  born.createdAt.physical_ns,
  born.createdMs,
  born.createdMs + hold.timeoutMs,
];
