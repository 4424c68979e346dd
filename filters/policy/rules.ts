/** Rules of the policy → compiled rules, or everything that is wrong with them. */
import type { Environment } from '@marcbachmann/cel-js';
import type { FieldPath, Issue } from '../../config/policy/issue.ts';
import type { ParsedPolicy } from '../../config/policy/parse.ts';
import type { Policy, PolicyQuota, PolicyRule } from '../../config/policy/schema.ts';
import { printable } from '../../config/source.ts';
import type { Digest, RuleName } from '../common/brand.ts';
import type { Inspect } from '../facts.ts';
import { type Condition, compileCondition } from './condition.ts';
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
  environment: Environment;
  report: (path: FieldPath, message: string) => void;
  hosts: (names: readonly string[], path: FieldPath) => readonly HostPattern[];
}>;

/** After this many, what is wrong is known well enough. */
const foundMax = 1_000;

export function createCompiler(parsed: ParsedPolicy, environment: Environment, issues: Issue[]): Compiler {
  const report = (path: FieldPath, message: string): void => {
    if (issues.length < foundMax) issues.push(parsed.issueAt(path, printable(message, 1_000)));
  };
  /** Reports once per group, however many rules name it. */
  const groups = new Map<string, readonly HostPattern[]>();
  const patterns = (texts: readonly string[], path: FieldPath): readonly HostPattern[] =>
    collect(texts, path, parseHostPattern, report);
  for (const [name, texts] of Object.entries(parsed.policy.hosts))
    groups.set(name, patterns(texts, ['hosts', name]));
  return {
    parsed,
    environment,
    report,
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
  return values;
}

type To = NonNullable<PolicyQuota['to']>;

export function compileTarget(
  compiler: Compiler,
  to: To | undefined,
  agents: readonly string[] | undefined,
  path: FieldPath,
  kind: Readonly<{ restricting: boolean; portsAbsent: 'default' | 'any' }>,
): Target {
  const hosts = to?.hosts === undefined ? undefined : compiler.hosts(to.hosts, [...path, 'hosts']);
  const paths: readonly PathPattern[] | undefined =
    to?.paths === undefined
      ? undefined
      : collect(to.paths, [...path, 'paths'], parsePathPattern, compiler.report);
  return {
    restricting: kind.restricting,
    agents: agents === undefined || agents.includes('*') ? undefined : new Set(agents),
    hosts,
    exactHosts: new Set(hosts?.filter((host) => !host.wildcard).map((host) => host.text)),
    wildcardHosts: hosts?.filter((host) => host.wildcard) ?? [],
    schemes: to?.schemes === undefined ? undefined : new Set(to.schemes),
    ports: to?.ports === undefined ? kind.portsAbsent : new Set(to.ports),
    methods: to?.methods === undefined ? undefined : new Set(to.methods),
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
  if (rule.to.inspect === 'sni' && target.schemes !== undefined && !target.schemes.has('https'))
    compiler.report([...path, 'to', 'schemes'], 'expected https: `inspect: sni` passes TLS only');
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

function compileWhen(compiler: Compiler, rule: PolicyRule, path: FieldPath): Condition | undefined {
  if (rule.when === undefined) return undefined;
  const condition = compileCondition(compiler.environment, rule.when);
  if (!condition.ok) {
    compiler.report([...path, 'when'], condition.message);
    return undefined;
  }
  if (rule.to.inspect !== 'tls' && condition.value.mentions.request)
    compiler.report(
      [...path, 'when'],
      `expected a condition over agent, destination and now: \`inspect: ${rule.to.inspect}\` reads no request`,
    );
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
