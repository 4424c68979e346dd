/**
 * What the parts of a policy say of each other: names that must exist, be unique, or agree. Reads the raw
 * document, not the parsed one, so that it also tells these where other fields are wrong.
 */
import { hint } from '../nearest.ts';
import type { Problem } from '../source.ts';
import { found } from '../zod-issues.ts';
import type { FieldPath } from './issue.ts';

type Fields = Readonly<Record<string, unknown>>;

const fieldsOf = (value: unknown): Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};
const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const own = (fields: Fields, key: string): unknown => (Object.hasOwn(fields, key) ? fields[key] : undefined);

/** One label that stands for itself: no dot, no wildcard, no address. Elsewhere it can only be a host group. */
const isGroupName = (host: string): boolean => host !== 'localhost' && !/[.:*[\]]/.test(host);

export function referenceProblems(document: unknown): Problem[] {
  const policy = fieldsOf(document);
  const agents = fieldsOf(own(policy, 'agents'));
  const groups = fieldsOf(own(policy, 'hosts'));
  const approvers = fieldsOf(own(policy, 'approvers'));
  const rules = listOf(own(policy, 'rules')).map(fieldsOf);
  const quotas = listOf(own(policy, 'quotas')).map(fieldsOf);
  const ruleNames = new Set(
    rules.map((rule) => own(rule, 'name')).filter((name) => typeof name === 'string'),
  );

  const problems: Problem[] = [];
  const add = (path: FieldPath, message: () => string, at: Problem['at'] = 'value'): void => {
    problems.push({ path, at, message });
  };
  const unique = (items: readonly Fields[], list: string): void => {
    const first = new Map<string, number>();
    for (const [index, item] of items.entries()) {
      const name = own(item, 'name');
      if (typeof name !== 'string') continue;
      const earlier = first.get(name);
      if (earlier === undefined) first.set(name, index);
      else
        add(
          [list, index, 'name'],
          () => `expected a name of its own, found ${found(name)} as in ${list}[${earlier}]`,
        );
    }
  };
  const knownAgents = (item: Fields, path: FieldPath): void => {
    for (const [index, name] of listOf(own(item, 'agents')).entries())
      if (typeof name === 'string' && name !== '*' && !Object.hasOwn(agents, name))
        add(
          [...path, 'agents', index],
          () => `expected an agent of \`agents\`, found ${found(name)}${hint(name, Object.keys(agents))}`,
        );
  };
  const knownHosts = (to: Fields, path: FieldPath): void => {
    const internal = own(to, 'internal') === true;
    for (const [index, host] of listOf(own(to, 'hosts')).entries()) {
      if (typeof host !== 'string') continue;
      const group = Object.hasOwn(groups, host);
      if (!group && isGroupName(host))
        add(
          [...path, 'hosts', index],
          () =>
            `expected a host group of \`hosts\`, found ${found(host)}${hint(host, Object.keys(groups))} (a host of one label is named through a group)`,
        );
      if (!internal) continue;
      const wild = (group ? listOf(own(groups, host)) : [host]).find(
        (pattern) => typeof pattern === 'string' && pattern.includes('*'),
      );
      if (wild !== undefined)
        add(
          [...path, 'hosts', index],
          () =>
            `\`internal: true\` needs hosts named exactly, found ${found(wild)}${group ? ` in the group ${host}` : ''}`,
        );
    }
  };

  unique(rules, 'rules');
  unique(quotas, 'quotas');
  agentProblems(agents, add);
  groupProblems(groups, add);
  for (const [name, value] of Object.entries(approvers)) {
    const { members, quorum } = fieldsOf(value);
    if (!Array.isArray(members) || typeof quorum !== 'number') continue;
    const people = new Set(members).size;
    if (quorum > people)
      add(
        ['approvers', name, 'quorum'],
        () => `expected at most ${people}, the number of different members, found ${quorum}`,
      );
  }
  for (const [index, rule] of rules.entries()) {
    knownAgents(rule, ['rules', index]);
    knownHosts(fieldsOf(own(rule, 'to')), ['rules', index, 'to']);
    const group = own(fieldsOf(own(rule, 'hold')), 'approvers');
    if (typeof group === 'string' && !Object.hasOwn(approvers, group))
      add(
        ['rules', index, 'hold', 'approvers'],
        () =>
          `expected a group of \`approvers\`, found ${found(group)}${hint(group, Object.keys(approvers))}`,
      );
  }
  for (const [index, quota] of quotas.entries()) {
    knownAgents(quota, ['quotas', index]);
    knownHosts(fieldsOf(own(quota, 'to')), ['quotas', index, 'to']);
    for (const [position, name] of listOf(own(quota, 'rules')).entries())
      if (typeof name === 'string' && !ruleNames.has(name))
        add(
          ['quotas', index, 'rules', position],
          () => `expected the name of a rule, found ${found(name)}${hint(name, ruleNames)}`,
        );
  }
  return problems;
}

type Add = (path: FieldPath, message: () => string, at?: Problem['at']) => void;

/** A connection must lead to one agent: no Unix user and no SPIFFE ID stands with two. */
function agentProblems(agents: Fields, add: Add): void {
  const byUser = new Map<string, string>();
  const byIdentity = new Map<string, string>();
  for (const [name, value] of Object.entries(agents)) {
    const agent = fieldsOf(value);
    const identity = own(agent, 'identity');
    if (typeof identity === 'string') {
      const other = byIdentity.get(identity);
      if (other === undefined) byIdentity.set(identity, name);
      else
        add(
          ['agents', name, 'identity'],
          () => `expected an identity of its own, found that of agent ${found(other)}`,
        );
    }
    for (const [index, user] of listOf(own(agent, 'users')).entries()) {
      if (typeof user !== 'string' && typeof user !== 'number') continue;
      const other = byUser.get(String(user));
      if (other === undefined) byUser.set(String(user), name);
      else if (other !== name)
        add(
          ['agents', name, 'users', index],
          () => `expected a user of no other agent, found ${found(user)}, who is agent ${found(other)}`,
        );
    }
  }
}

function groupProblems(groups: Fields, add: Add): void {
  for (const [name, hosts] of Object.entries(groups)) {
    if (name.includes('.'))
      add(['hosts', name], () => 'expected a group name without a dot: with one it reads as a host', 'key');
    for (const [index, host] of listOf(hosts).entries())
      if (typeof host === 'string' && host !== name && Object.hasOwn(groups, host))
        add(
          ['hosts', name, index],
          () => `expected a host, found the group ${found(host)}; groups do not stand in groups`,
        );
  }
}
