/** Rules of the policy → compiled rules, or everything that is wrong with them. */
import { limits } from '../../config/limits.ts';
import type { FieldPath, Issue } from '../../config/policy/issue.ts';
import type { ParsedPolicy } from '../../config/policy/parse.ts';
import type { Policy, PolicyQuota, PolicyRule } from '../../config/policy/schema.ts';
import { printable } from '../../config/source.ts';
import type { Digest, RuleName } from '../common/brand.ts';
import type { Steps } from '../common/slices.ts';
import type { Inspect } from '../facts.ts';
import { type Condition, compileCondition } from './condition.ts';
import type { Environments } from './condition-scope.ts';
import { ruleDigest } from './digest.ts';
import { type HostPattern, type Parsed, parseHostPattern } from './host-pattern.ts';
import { type PathPattern, parsePathPattern } from './path-pattern.ts';
import { type Target, wordPattern } from './target.ts';

/** none < allow < hold < forbid. */
export const strengths = { none: 0, allow: 1, hold: 2, forbid: 3 } as const;

export type Hold = Readonly<{
  approvers: string;
  quorum: number;
  members: readonly string[];
  notRequester: boolean;
  waitMs: number;
  timeoutMs: number;
}>;

export type Rule = Readonly<{
  name: RuleName;
  outcome: 'forbid' | 'hold' | 'allow';
  shadow: boolean;
  target: Target;
  inspect: Inspect;
  internal: boolean;
  condition: Condition | undefined;
  reason: string;
  hold: Hold | undefined;
  /** Made when it is first asked for: most rules of a large policy never decide. */
  digest: () => Digest;
}>;

export type Compiler = Readonly<{
  parsed: ParsedPolicy;
  environment: Environments;
  report: (path: FieldPath, message: string) => void;
  hosts: (names: readonly string[], path: FieldPath) => readonly HostPattern[];
  /** One set for every list of these words: thousands of rules have one of a few lists. */
  wordSet: (words: readonly string[]) => ReadonlySet<string>;
}>;

export function* createCompiler(
  parsed: ParsedPolicy,
  environment: Environments,
  issues: Issue[],
): Steps<Compiler> {
  const report = (path: FieldPath, message: string): void => {
    if (issues.length < limits.policyErrorsFoundMax)
      issues.push(parsed.issueAt(path, printable(message, 1_000)));
  };
  /** Reports once per group, however many rules name it. */
  const groups = new Map<string, readonly HostPattern[]>();
  const patterns = (texts: readonly string[], path: FieldPath): readonly HostPattern[] =>
    collect(texts, path, parseHostPattern, report);
  for (const [name, texts] of Object.entries(parsed.policy.hosts)) {
    groups.set(name, patterns(texts, ['hosts', name]));
    yield;
  }
  const sets = new Map<string, ReadonlySet<string>>();
  return {
    parsed,
    environment,
    report,
    wordSet: (words) => {
      const key = words.join(' ');
      const set = sets.get(key) ?? new Set(words);
      sets.set(key, set);
      return set;
    },
    hosts: (names, path) => {
      const found = new Map<string, HostPattern>();
      for (const [index, name] of names.entries()) {
        const group = groups.get(name);
        if (group !== undefined) for (const pattern of group) found.set(pattern.text, pattern);
        else {
          const pattern = parseHostPattern(name);
          if (pattern.ok) found.set(pattern.value.text, pattern.value);
          else report([...path, index], `expected ${pattern.message}`);
        }
      }
      return [...found.values()];
    },
  };
}

function collect<T>(
  texts: readonly string[],
  path: FieldPath,
  parse: (text: string) => Parsed<T>,
  report: Compiler['report'],
): readonly T[] {
  const values: T[] = [];
  for (const [index, text] of texts.entries()) {
    const parsed = parse(text);
    if (parsed.ok) values.push(parsed.value);
    else report([...path, index], `expected ${parsed.message}`);
  }
  return values.slice();
}

/** Up to so many hosts are compared one by one; a set of them costs more than it spares. */
const comparedHostsMax = 8;

type To = NonNullable<PolicyQuota['to']>;

export function compileTarget(
  compiler: Compiler,
  to: To | undefined,
  agents: readonly string[] | undefined,
  path: FieldPath,
  kind: Readonly<{ restricting: boolean; portsAbsent: 'default' | 'any' }>,
): Target {
  const hosts = to?.hosts === undefined ? undefined : compiler.hosts(to.hosts, [...path, 'hosts']);
  const isLong = hosts !== undefined && hosts.length > comparedHostsMax;
  const paths: readonly PathPattern[] | undefined =
    to?.paths === undefined
      ? undefined
      : collect(to.paths, [...path, 'paths'], parsePathPattern, compiler.report);
  return {
    restricting: kind.restricting,
    agents: agents === undefined || agents.includes('*') ? undefined : new Set(agents),
    hosts,
    exactHosts: isLong
      ? new Set(hosts?.filter((host) => !host.wildcard).map((host) => host.text))
      : undefined,
    otherHosts: (isLong ? hosts?.filter((host) => host.wildcard) : hosts) ?? [],
    schemes: to?.schemes === undefined ? undefined : compiler.wordSet(to.schemes),
    ports: to?.ports === undefined ? kind.portsAbsent : new Set(to.ports),
    methods: to?.methods === undefined ? undefined : compiler.wordSet(to.methods),
    paths,
    mcp:
      to?.mcp === undefined
        ? undefined
        : { methods: to.mcp.methods?.map(wordPattern), tools: to.mcp.tools?.map(wordPattern) },
  };
}

export function compileRule(compiler: Compiler, rule: PolicyRule, index: number): Rule {
  const { policy } = compiler.parsed;
  const path: FieldPath = ['rules', index];
  const outcome = rule.forbid !== undefined ? 'forbid' : rule.hold !== undefined ? 'hold' : 'allow';
  const target = compileTarget(compiler, rule.to, rule.agents, [...path, 'to'], {
    restricting: outcome !== 'allow',
    // What is forbidden must not be reached by another port; what lets pass opens the usual ones only.
    portsAbsent: outcome === 'forbid' ? 'any' : 'default',
  });
  const condition = compileWhen(compiler, rule, path);
  for (const flaw of unreadFlaws(rule.to.inspect, rule.to.schemes, condition))
    compiler.report([...path, ...flaw.path], flaw.message);
  const group = rule.hold === undefined ? undefined : policy.approvers[rule.hold.approvers];
  let digest: Digest | undefined;
  return {
    name: rule.name as RuleName,
    outcome,
    shadow: rule.mode === 'shadow',
    target,
    inspect: rule.to.inspect,
    internal: rule.to.internal,
    condition,
    reason: rule.forbid?.reason ?? rule.hold?.reason ?? `rule ${rule.name} ${outcome}s this`,
    hold: rule.hold === undefined ? undefined : holdOf(rule.hold, group),
    digest: () => {
      digest ??= ruleDigest(rule, target.hosts?.map((host) => host.text) ?? [], group);
      return digest;
    },
  };
}

/** What a rule that passes connections unread cannot ask. Schema-free, so that a draft is asked too. */
export function unreadFlaws(
  inspect: unknown,
  schemes: unknown,
  condition: Condition | undefined,
): readonly Readonly<{ path: FieldPath; message: string }>[] {
  if (inspect !== 'sni' && inspect !== 'tunnel') return [];
  const flaws: { path: FieldPath; message: string }[] = [];
  if (inspect === 'sni' && Array.isArray(schemes) && !schemes.includes('https'))
    flaws.push({
      path: ['to', 'schemes'],
      message: `expected https: \`inspect: sni\` passes TLS only; found ${schemes.join(', ')}`,
    });
  if (condition?.mentions.request === true)
    flaws.push({
      path: ['when'],
      message: `expected a condition over agent, destination and now: \`inspect: ${inspect}\` reads no request; found ${printable(JSON.stringify(condition.source))}`,
    });
  return flaws;
}

function compileWhen(compiler: Compiler, rule: PolicyRule, path: FieldPath): Condition | undefined {
  if (rule.when === undefined) return undefined;
  const condition = compileCondition(compiler.environment, rule.when);
  if (!condition.ok) {
    compiler.report([...path, 'when'], condition.message);
    return undefined;
  }
  return condition.value;
}

function holdOf(hold: NonNullable<PolicyRule['hold']>, group: Policy['approvers'][string] | undefined): Hold {
  return {
    approvers: hold.approvers,
    // `config/policy/references.ts` refuses a group that is not there; without members nobody could approve.
    quorum: group?.quorum ?? 1,
    members: group?.members ?? [],
    notRequester: group?.not_requester ?? true,
    waitMs: hold.wait,
    timeoutMs: hold.timeout,
  };
}
