/**
 * Rules that would cover what was seen, written as a policy and then tried: what a rule is said to cover, the
 * policy with all suggestions added decides so. The agents and approvers of the text are there to make it whole.
 */
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import { formatIssue } from '../config/policy/issue.ts';
import { parsePolicy } from '../config/policy/parse.ts';
import type { Policy } from '../config/policy/schema.ts';
import { parseYaml } from '../config/yaml-source.ts';
import type { Agent } from '../filters/facts.ts';
import { compilePolicy } from '../filters/policy/compile.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';
import type { Collected, Seen } from './suggest-collect.ts';
import { type RuleText, type Suggestion, slug, suggestRules } from './suggest-rules.ts';

export type Tried = Suggestion &
  Readonly<{
    /** Calls and decisions that the policy with the suggestions decides as the rule says. */
    covers: Readonly<{ calls: number; decisions: number }>;
    /** Calls that another rule of the policy would still decide otherwise, by that rule. */
    stopped: ReadonlyMap<string, number>;
  }>;

export type Suggested = Readonly<{
  rules: readonly Tried[];
  leftOut: ReadonlyMap<string, number>;
  /** A policy of its own, for `sallyport check`; the rules are what is to be added. */
  fragment: Readonly<Record<string, unknown>> & Readonly<{ rules: readonly RuleText[] }>;
}>;

/** @param live the policy that the rules are to be added to: its text and what it is compiled to. */
export function suggest(
  collected: Collected,
  live: Readonly<{ text: string; policy: CompiledPolicy }> | undefined,
): Suggested {
  const source = live?.policy.source;
  const leftOut = new Map(collected.leftOut());
  const seen = collected.seen().filter((one) => {
    const isDone = live !== undefined && stoppedBy(one, live.policy) === undefined;
    const why = isDone ? 'the policy by now decides so' : lacking(one, source);
    if (why !== undefined) leftOut.set(why, (leftOut.get(why) ?? 0) + one.calls);
    return why === undefined;
  });
  const names = agentNames(seen, live?.policy);
  const rules = suggestRules(seen, source, {
    agentName: (id) => names.get(id) ?? '',
    isTaken: (rule) => source?.rules.some(({ name }) => name === rule) === true,
  });
  const fragment = {
    version: 1,
    agents: Object.fromEntries([...names].map(([id, name]) => [name, { identity: id }])),
    ...approversOf(rules, source),
    rules: rules.map(({ rule }) => rule),
  };
  const together = compiled(fragment, live?.text);
  return { rules: rules.map((rule) => tried(rule, together)), leftOut, fragment };
}

/** Why a request that could be named gets no rule; undefined where it does. */
function lacking(
  { outcome, shadowRule, destination: { host } }: Seen,
  source: Policy | undefined,
): string | undefined {
  if (source !== undefined && Object.hasOwn(source.hosts, host))
    return 'a group of hosts in the policy has the name of the host';
  if (outcome !== 'hold') return undefined;
  const rule = source?.rules.find(({ name }) => name === shadowRule);
  return rule?.hold === undefined
    ? 'the rule in shadow mode that would hold is not in the policy any more'
    : undefined;
}

/** The policy's own names; an agent that it does not know any more gets the end of its id. */
function agentNames(seen: readonly Seen[], policy: CompiledPolicy | undefined): Map<string, string> {
  const names = new Map<string, string>();
  const taken = new Set(Object.keys(policy?.source.agents ?? {}));
  for (const id of [...new Set(seen.map(({ agent }) => agent))].sort()) {
    const known = policy?.agentBySpiffeId(id)?.name;
    const base = slug(id.split('/').at(-1) ?? '').replace(/^[^a-z0-9]+/, '') || 'agent';
    let name: string = known ?? base;
    for (let number = 2; known === undefined && taken.has(name); number += 1) name = `${base}-${number}`;
    taken.add(name);
    names.set(id, name);
  }
  return names;
}

function approversOf(rules: readonly Suggestion[], source: Policy | undefined): object {
  const held = new Set(rules.filter(({ outcome }) => outcome === 'hold').map(({ shadowRule }) => shadowRule));
  const groups = (source?.rules ?? []).flatMap(({ name, hold }) =>
    held.has(name) && hold ? [hold.approvers] : [],
  );
  if (groups.length === 0) return {};
  return { approvers: Object.fromEntries(groups.map((name) => [name, source?.approvers[name]])) };
}

const noUsers = { uidOf: (): number => 0 };

/** The policy with the suggested rules added, or the suggestions alone. */
function compiled(fragment: Suggested['fragment'], liveText: string | undefined): CompiledPolicy {
  const live = parseYaml(liveText ?? '', 'policy', limits.policyTokensMax);
  const whole = live.ok && isMapping(live.value.value) ? joined(live.value.value, fragment) : fragment;
  const parsed = parsePolicy(JSON.stringify(whole), 'suggested rules');
  const result = parsed.ok ? compilePolicy(parsed.value, noUsers) : parsed;
  if (result.ok) return result.value;
  throw new SallyportError(
    'Internal',
    `the suggested rules are no policy: ${result.issues.map(formatIssue).join('; ')}`,
  );
}

const isMapping = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const mappingAt = (value: Readonly<Record<string, unknown>>, key: string): object => {
  const found = value[key];
  return isMapping(found) ? found : {};
};

/** What stands in the policy stays: only its rules are added to, and agents that it lacks. */
const joined = (live: Readonly<Record<string, unknown>>, fragment: Suggested['fragment']): object => ({
  ...live,
  agents: { ...mappingAt(fragment, 'agents'), ...withoutUsers(mappingAt(live, 'agents')) },
  approvers: { ...mappingAt(fragment, 'approvers'), ...mappingAt(live, 'approvers') },
  rules: [...(Array.isArray(live['rules']) ? live['rules'] : []), ...fragment.rules],
});

/** Who runs as which user decides nothing here, and this machine may not be the sidecar's. */
const withoutUsers = (agents: object): object =>
  Object.fromEntries(
    Object.entries(agents).map(([name, agent]) => [name, isMapping(agent) ? { ...agent, users: [] } : agent]),
  );

function tried(suggestion: Suggestion, policy: CompiledPolicy): Tried {
  const covers = { calls: 0, decisions: 0 };
  const stopped = new Map<string, number>();
  for (const seen of suggestion.seen) {
    const by = stoppedBy(seen, policy);
    if (by === undefined) {
      covers.calls += seen.calls;
      covers.decisions += seen.decisions;
    } else stopped.set(by, (stopped.get(by) ?? 0) + seen.calls);
  }
  return { ...suggestion, covers, stopped };
}

/** The rule by which it would be decided otherwise; empty where no rule would decide it; undefined where it is covered. */
function stoppedBy(seen: Seen, policy: CompiledPolicy): string | undefined {
  const known = policy.agentBySpiffeId(seen.agent);
  if (known === undefined) return '';
  const agent: Agent = { ...known, by: 'pod' };
  const { destination, lastMs, outcome } = seen;
  if (destination.scheme === 'tcp') {
    const verdict = policy.connect(agent, destination, lastMs);
    if (verdict.kind === 'forbid') return verdict.verdict.rule;
    return verdict.kind === 'none' ? '' : undefined;
  }
  const { verdict, doubts } = policy.recorded({
    ...{ agent, destination, nowMs: lastMs, directory: undefined },
    mcpUnread:
      destination.mcp.kind === 'none' &&
      policy.needsOf(destination.host, destination.path, destination.method).mcp,
    matchedThen: () => undefined,
  });
  if (doubts[0] !== undefined) return doubts[0].rule;
  if (verdict.kind === outcome) return undefined;
  return verdict.kind === 'none' ? '' : verdict.rule;
}
