/**
 * Recorded decisions under a candidate policy: what it would let pass, refuse or hold that went otherwise. Only what
 * the rules say is compared. Quotas, addresses, approvals and faults are those of then; and where a rule reads what no
 * record holds (headers, query, body), the answer is that it cannot be said, unless that rule is the same as then.
 */
import { isDeepStrictEqual } from 'node:util';
import { methodsWithoutMessage } from '../filters/content/mcp.ts';
import type { Agent, Destination } from '../filters/facts.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';
import type { RecordedVerdict } from '../filters/policy/recorded.ts';
import { destinationOf, type Fate, fateOf, type RecordedDecision } from './replay-record.ts';

export const changes = ['newly-allowed', 'newly-denied', 'newly-held'] as const;
export type Change = (typeof changes)[number];

export type Replayed =
  | Readonly<{ kind: 'unchanged' }>
  | Readonly<{ kind: Change; before: Fate; after: Fate; rule: string }>
  /** `rule` is empty where it is not a rule that cannot tell. */
  | Readonly<{ kind: 'undetermined'; rule: string; reads: string }>
  /** Refused by something else than the rules, which a replay does not repeat. */
  | Readonly<{ kind: 'beside'; code: string }>
  /** The first bytes of a tunnel, whose CONNECT is replayed. */
  | Readonly<{ kind: 'repeat' }>;

const changeTo: Readonly<Record<Fate, Change>> = {
  passed: 'newly-allowed',
  denied: 'newly-denied',
  held: 'newly-held',
};

const strengths: Readonly<Record<string, number>> = { forbid: 3, hold: 2, allow: 1 };

type Outcome = Readonly<{ fate: Fate; rule: string }> | Readonly<{ reads: string; rule: string }>;

/**
 * @param earlier policies that records may have been made under; they are told by their version, and tell which rules
 * of the candidate are the same as then.
 */
export function createReplay(
  candidate: CompiledPolicy,
  earlier: readonly CompiledPolicy[] = [],
): (decision: RecordedDecision) => Replayed {
  const sameRules = new Map(
    [candidate, ...earlier].map((policy) => [policy.version as string, unchangedRules(policy, candidate)]),
  );

  const outcomeOf = (
    decision: RecordedDecision,
    destination: Destination,
    fate: Fate | undefined,
  ): Outcome => {
    const known = candidate.agentBySpiffeId(decision.agent);
    if (known === undefined) return { fate: 'denied', rule: '' };
    const agent: Agent = { ...known, by: 'pod' };
    if (destination.scheme === 'tcp') return connectOutcome(candidate, decision, agent, destination);
    if (decision.tunnelled) {
      const { host, hostIsAddress, port } = destination;
      const tunnel: Destination = {
        ...{ scheme: 'tcp', host, hostIsAddress, port, method: 'CONNECT', path: '', query: '' },
        mcp: { kind: 'none' },
      };
      const opened = candidate.connect(agent, tunnel, decision.atMs);
      if (opened.kind === 'forbid') return { fate: 'denied', rule: opened.verdict.rule };
      if (opened.kind === 'none') return { fate: 'denied', rule: '' };
      // It would not be looked at at all.
      if (opened.kind === 'unread') return { fate: 'passed', rule: opened.verdict.rule };
    }
    const same = sameRules.get(decision.policyVersion);
    const then = strengthThen(decision, fate);
    return certain(
      candidate.recorded({
        agent,
        destination,
        nowMs: decision.atMs,
        mcpUnread: isMcpUnread(candidate, decision, destination),
        directory: decision.directory,
        matchedThen: (rule) => {
          if (then === undefined || same?.(rule.name, decision.agent) !== true) return undefined;
          if (rule.name === decision.rule) return true;
          // A stronger rule that matched would have decided.
          return (strengths[rule.outcome] ?? 0) > then ? false : undefined;
        },
      }),
    );
  };

  return (decision) => {
    if (decision.stage === 'tunnel') return { kind: 'repeat' };
    const before = fateOf(decision);
    if (before === undefined && decision.code !== 'AddressDenied')
      return { kind: 'beside', code: decision.code };
    const found = destinationOf(decision);
    const destination = found && asRead(candidate, decision, found);
    if (destination === undefined)
      return decision.resource === ''
        ? { kind: 'beside', code: decision.code }
        : { kind: 'undetermined', rule: '', reads: 'a path too long for the journal' };
    const after = outcomeOf(decision, destination, before);
    if (before === undefined) return addressDenied(candidate, decision, after, sameRules);
    if ('reads' in after) return { kind: 'undetermined', ...after };
    if (after.fate === before) return { kind: 'unchanged' };
    return { kind: changeTo[after.fate], before, after: after.fate, rule: after.rule };
  };
}

/** A CONNECT is answered; what its requests meet is on record where it was intercepted, and nowhere else. */
function connectOutcome(
  candidate: CompiledPolicy,
  decision: RecordedDecision,
  agent: Agent,
  destination: Destination,
): Outcome {
  const verdict = candidate.connect(agent, destination, decision.atMs);
  switch (verdict.kind) {
    case 'forbid':
      return { fate: 'denied', rule: verdict.verdict.rule };
    case 'none':
      return { fate: 'denied', rule: '' };
    case 'unread':
      return { fate: 'passed', rule: verdict.verdict.rule };
    case 'intercept':
      return decision.kind === 'Allow' && !decision.unread
        ? { fate: 'passed', rule: '' }
        : { rule: '', reads: 'the requests inside the tunnel' };
  }
}

const fates: Readonly<Record<string, Fate>> = {
  none: 'denied',
  forbid: 'denied',
  hold: 'held',
  allow: 'passed',
};
const fateAs = (outcome: string): Fate => fates[outcome] ?? 'denied';

/** The verdict, where no rule that is in doubt could make another fate of it. */
function certain({ verdict, doubts }: RecordedVerdict): Outcome {
  const fate = fateAs(verdict.kind);
  const doubt = doubts.find(({ outcome }) => fateAs(outcome) !== fate);
  if (doubt !== undefined) return { rule: doubt.rule, reads: doubt.reads };
  return { fate, rule: verdict.kind === 'none' ? '' : verdict.rule };
}

/** How strong the rule was that decided then; 0 where none did, undefined where it was not the rules. */
function strengthThen(decision: RecordedDecision, fate: Fate | undefined): number | undefined {
  if (fate === undefined) return undefined;
  if (fate === 'held') return strengths['hold'];
  if (fate === 'passed') return strengths['allow'];
  return decision.code === 'Forbidden' ? strengths['forbid'] : 0;
}

/** Others say themselves what the message is. */
const isFromDataPlane = ({ via }: RecordedDecision): boolean => via !== 'authzen' && via !== 'cli';

/** Whether the candidate reads an MCP message where nobody read one then. */
function isMcpUnread(
  candidate: CompiledPolicy,
  decision: RecordedDecision,
  destination: Destination,
): boolean {
  if (decision.mcp.kind !== 'none' || !isFromDataPlane(decision)) return false;
  if (['envoy', 'ext_authz'].includes(decision.via) && methodsWithoutMessage.includes(destination.method))
    return false;
  return candidate.needsOf(destination.host, destination.path, destination.method).mcp;
}

/** Without the MCP message that the candidate reads of nobody there: its conditions then see none. */
function asRead(
  candidate: CompiledPolicy,
  decision: RecordedDecision,
  destination: Destination,
): Destination {
  const { host, path, method, mcp } = destination;
  if (mcp.kind === 'none' || !isFromDataPlane(decision) || candidate.needsOf(host, path, method).mcp)
    return destination;
  return { ...destination, mcp: { kind: 'none' } };
}

/** Whether its address would still be refused is not known where another rule now calls the host internal. */
function addressDenied(
  candidate: CompiledPolicy,
  decision: RecordedDecision,
  after: Outcome,
  sameRules: ReadonlyMap<string, (rule: string, agent: string) => boolean>,
): Replayed {
  const beside: Replayed = { kind: 'beside', code: decision.code };
  if ('reads' in after || after.fate === 'denied') return beside;
  const rule = candidate.source.rules.find(({ name }) => name === after.rule);
  if (rule?.to.internal !== true) return beside;
  const isSame =
    after.rule === decision.rule &&
    sameRules.get(decision.policyVersion)?.(after.rule, decision.agent) === true;
  return isSame ? beside : { kind: 'undetermined', rule: after.rule, reads: 'the address of the host' };
}

/** Whether a rule of the candidate says in `earlier` the very same, of this agent. */
function unchangedRules(
  earlier: CompiledPolicy,
  candidate: CompiledPolicy,
): (rule: string, agentId: string) => boolean {
  const resolved = ({ source }: CompiledPolicy, rule: string): unknown => {
    const found = source.rules.find(({ name }) => name === rule);
    return (
      found && {
        ...found,
        hosts: found.to.hosts.map((host) => source.hosts[host] ?? host),
        approvers: found.hold && source.approvers[found.hold.approvers],
      }
    );
  };
  const known = new Map<string, boolean>();
  const isSameRule = (rule: string): boolean => {
    let same = known.get(rule);
    if (same === undefined) {
      const before = resolved(earlier, rule);
      same = before !== undefined && isDeepStrictEqual(before, resolved(candidate, rule));
      known.set(rule, same);
    }
    return same;
  };
  return (rule, agentId) =>
    isSameRule(rule) &&
    isDeepStrictEqual(earlier.agentBySpiffeId(agentId), candidate.agentBySpiffeId(agentId));
}
