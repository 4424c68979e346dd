/** Requests that were seen → rules that cover them and as little else as can be said. */
import { limits } from '../config/limits.ts';
import { durationText, type Policy, type PolicyRule } from '../config/policy/schema.ts';
import type { Outcome, Seen } from './suggest-collect.ts';
import { createPathTree } from './suggest-paths.ts';

/** A rule as a policy file has it. */
export type RuleText = Readonly<{
  name: string;
  agents: readonly string[];
  to: Readonly<{
    hosts: readonly string[];
    schemes: readonly string[];
    ports: readonly number[];
    methods?: readonly string[];
    paths?: readonly string[];
    mcp?: Readonly<{ methods: readonly string[]; tools?: readonly string[] }>;
    internal?: true;
  }>;
  allow?: object;
  forbid?: object;
  hold?: object;
  mode?: 'shadow';
}>;

export type Suggestion = Readonly<{
  rule: RuleText;
  outcome: Outcome;
  shadowRule: string;
  seen: readonly Seen[];
}>;

/** What a rule is before it has its name and agents. */
type Draft = Omit<Suggestion, 'rule'> & Readonly<{ agent: string; rule: Omit<RuleText, 'name' | 'agents'> }>;

export type Names = Readonly<{ agentName(id: string): string; isTaken(rule: string): boolean }>;

export function suggestRules(
  seen: readonly Seen[],
  policy: Policy | undefined,
  names: Names,
): readonly Suggestion[] {
  const places = groupBy(seen, ({ agent, outcome, shadowRule, destination: { scheme, host, port } }) => [
    agent,
    outcome,
    // Which rule would have let it pass is of no matter; what it asks of the address is.
    outcome === 'allow' ? isInternal(policy, shadowRule) : shadowRule,
    ...[scheme, host, port],
  ]);
  const drafts = [...places.values()].flatMap((place) => draftsOf(place, policy));
  return named(sharedByAgents(drafts, names).sort(byWidth), names);
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => unknown): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = JSON.stringify(keyOf(item));
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}

const ruleOf = (policy: Policy | undefined, name: string): PolicyRule | undefined =>
  policy?.rules.find((rule) => rule.name === name);

const isInternal = (policy: Policy | undefined, rule: string): boolean =>
  ruleOf(policy, rule)?.to.internal === true;

/** Rules for one agent at one host and port. */
function draftsOf(place: readonly Seen[], policy: Policy | undefined): Draft[] {
  const [first] = place;
  if (first === undefined) return [];
  const { agent, outcome, shadowRule, destination } = first;
  const { scheme, host, port } = destination;
  const internal = outcome !== 'forbid' && isInternal(policy, shadowRule) ? { internal: true as const } : {};
  const draft = (
    to: Partial<RuleText['to']>,
    rest: Omit<RuleText, 'name' | 'agents' | 'to'>,
    of: readonly Seen[],
  ): Draft => ({
    ...{ agent, outcome, shadowRule, seen: of },
    rule: { to: { hosts: [host], schemes: [scheme], ports: [port], ...to, ...internal }, ...rest },
  });
  // Its requests were never seen: in shadow mode they are, and what comes of it is denied as before.
  if (scheme === 'tcp') return [draft({ schemes: ['https'] }, { allow: {}, mode: 'shadow' }, place)];

  const tree = createPathTree<Seen[]>();
  for (const one of place) tree.at(one.path, useOf(one), () => []).push(one);
  const globs = tree.globs((into, from) => {
    for (const one of from) into.push(one);
    return into;
  });
  const rest = outcomeText(outcome, ruleOf(policy, shadowRule));
  return [...plainDrafts(globs), ...mcpDrafts(globs)].flatMap(({ paths, to, of }) =>
    chunks(paths, limits.policyPathsPerRuleMax).map((some) => {
      const here = new Set(some);
      const covered = of.filter(({ glob }) => here.has(glob)).map(({ seen }) => seen);
      return draft({ methods: to.methods ?? [], paths: some, ...(to.mcp && { mcp: to.mcp }) }, rest, covered);
    }),
  );
}

const chunks = <T>(items: readonly T[], size: number): T[][] =>
  Array.from({ length: Math.ceil(items.length / size) }, (_, index) =>
    items.slice(index * size, (index + 1) * size),
  );

const useOf = ({ destination: { method, mcp } }: Seen): string =>
  JSON.stringify(mcp.kind === 'call' ? [method, mcp.method, mcp.tool] : [method]);

type Globs = readonly Readonly<{ path: string; uses: ReadonlyMap<string, Seen[]> }>[];
type Placed = Readonly<{ glob: string; seen: Seen }>;
type PathDraft = Readonly<{ paths: readonly string[]; to: Partial<RuleText['to']>; of: readonly Placed[] }>;

const unique = (items: readonly string[]): string[] => [...new Set(items)].sort();

/** Paths with the same methods are one rule: methods and paths of a rule multiply. */
function plainDrafts(globs: Globs): PathDraft[] {
  const entries = globs.flatMap(({ path, uses }) => {
    const plain = [...uses.values()].flat().filter(({ destination }) => destination.mcp.kind === 'none');
    return plain.length === 0
      ? []
      : [{ path, plain, methods: unique(plain.map((one) => one.destination.method)) }];
  });
  return [...groupBy(entries, ({ methods }) => methods).values()].map((group) => ({
    paths: group.map(({ path }) => path),
    to: { methods: group[0]?.methods ?? [] },
    of: group.flatMap(({ path, plain }) => plain.map((seen) => ({ glob: path, seen }))),
  }));
}

/** Tools belong to `tools/call` alone, so that one rule names tools and another the other methods. */
function mcpDrafts(globs: Globs): PathDraft[] {
  const entries = globs.flatMap(({ path, uses }) => {
    const calls = [...uses.values()].flat().flatMap((seen) => {
      const { mcp, method } = seen.destination;
      return mcp.kind === 'call' ? [{ seen, path, method, mcp }] : [];
    });
    return [...groupBy(calls, ({ method, mcp }) => [method, mcp.method === 'tools/call']).values()].map(
      (some) => ({
        path,
        some,
        method: some[0]?.method ?? '',
        methods: unique(some.map(({ mcp }) => mcp.method)),
        tools: unique(some.map(({ mcp }) => mcp.tool).filter((tool) => tool !== '')),
      }),
    );
  });
  return [...groupBy(entries, ({ method, methods, tools }) => [method, methods, tools]).values()].flatMap(
    (group) => {
      const [{ method, methods, tools } = { method: '', methods: [], tools: [] }] = group;
      const of = group.flatMap(({ path, some }) =>
        some.map(({ seen, mcp }) => ({ glob: path, seen, tool: mcp.tool })),
      );
      const part = (mcp: NonNullable<RuleText['to']['mcp']>, some: readonly Placed[]): PathDraft => ({
        paths: group.map(({ path }) => path),
        to: { methods: [method], mcp },
        of: some,
      });
      if (tools.length === 0)
        return chunks(methods, limits.policyMcpMethodsPerRuleMax).map((names) =>
          part(
            { methods: names },
            of.filter(
              ({
                seen: {
                  destination: { mcp },
                },
              }) => mcp.kind === 'call' && names.includes(mcp.method),
            ),
          ),
        );
      return chunks(tools, limits.policyMcpToolsPerRuleMax).map((names) =>
        part(
          { methods, tools: names },
          of.filter(({ tool }) => names.includes(tool)),
        ),
      );
    },
  );
}

function outcomeText(
  outcome: Outcome,
  shadow: PolicyRule | undefined,
): Pick<RuleText, 'allow' | 'forbid' | 'hold'> {
  switch (outcome) {
    case 'allow':
      return { allow: {} };
    case 'forbid':
      return { forbid: shadow?.forbid?.reason === undefined ? {} : { reason: shadow.forbid.reason } };
    case 'hold':
      return {
        hold: {
          approvers: shadow?.hold?.approvers ?? '',
          ...(shadow?.hold && {
            wait: durationText(shadow.hold.wait),
            timeout: durationText(shadow.hold.timeout),
          }),
          ...(shadow?.hold?.reason === undefined ? {} : { reason: shadow.hold.reason }),
        },
      };
  }
}

/** Agents that did exactly the same share a rule; it covers no more than theirs did. */
function sharedByAgents(drafts: readonly Draft[], names: Names): Suggestion[] {
  return [
    ...groupBy(drafts, ({ rule, shadowRule, outcome }) => [
      rule,
      outcome,
      outcome === 'allow' ? '' : shadowRule,
    ]).values(),
  ].flatMap((group) => {
    const [first] = group;
    if (first === undefined) return [];
    const { rule, outcome, shadowRule } = first;
    const agents = unique(group.map(({ agent }) => names.agentName(agent)));
    return [
      {
        rule: { name: '', agents, ...rule },
        ...{ outcome, shadowRule, seen: group.flatMap(({ seen }) => seen) },
      },
    ];
  });
}

/** Narrowest first: one path before several, exact before `*`; what only makes requests seen comes last. */
function byWidth(a: Suggestion, b: Suggestion): number {
  const [left, right] = [widthOf(a.rule), widthOf(b.rule)];
  for (const [index, width] of left.entries()) {
    const other = right[index] ?? 0;
    if (width !== other) return width - other;
  }
  return JSON.stringify(a.rule) < JSON.stringify(b.rule) ? -1 : 1;
}

function widthOf({ to, mode, agents }: RuleText): number[] {
  const stars = (to.paths ?? []).reduce(
    (sum, path) => sum + path.split('/').filter((part) => part === '*').length,
    0,
  );
  return [
    mode === 'shadow' ? 1 : 0,
    stars,
    (to.paths?.length ?? 0) * (to.methods?.length ?? 1) * (to.mcp?.tools ?? to.mcp?.methods ?? [1]).length,
    agents.length,
  ];
}

function named(suggestions: readonly Suggestion[], names: Names): Suggestion[] {
  const taken = new Set<string>();
  return suggestions.slice(0, limits.policyRulesMax).map((suggestion) => {
    const base = `suggested-${slug(suggestion.rule.to.hosts[0] ?? '')}`;
    let name = base;
    for (let number = 2; taken.has(name) || names.isTaken(name); number += 1) name = `${base}-${number}`;
    taken.add(name);
    return { ...suggestion, rule: { ...suggestion.rule, name } };
  });
}

/** Part of a name of the policy: lower-case letters, digits, dot, underscore and hyphen. */
export const slug = (text: string): string =>
  text
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, '-')
    .slice(0, 80);
