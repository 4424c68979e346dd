/**
 * Leases: one check may stand for many requests only where the policy provably says the same of all of them.
 * What that holds for is a region of paths, of one agent, scheme, host, port and method:
 *
 *   GET https://api.example.org:443  /v1/   every rule and quota of this place covers all of /v1/… or none of it
 *                                    /v1/a  exactly this path, where no directory is that uniform
 *
 * Queries, headers, bodies and the time are free within a region, so a rule that reads one of them and could
 * change the outcome there makes the request one that is not leased. The same for rules and quotas that name
 * MCP. Where a rule is in doubt the region gets smaller.
 *
 * Only what the policy says is compared here. That the authority agrees with CONNECT and SNI, that nothing is
 * upgraded, and how long the pin holds is for whoever grants the lease.
 */
import { limits } from '../../config/limits.ts';
import type { RuleName } from '../common/brand.ts';
import type { Agent, Destination } from '../facts.ts';
import { Scope } from './condition-scope.ts';
import { type LeaseScope, plainPath } from './lease-region.ts';
import { noDirectory, uniformFrom } from './path-uniformity.ts';
import type { Rule } from './rules.ts';
import { pathFits, placeFits, type Subject, subjectOf, type Target } from './target.ts';
import { here, type TargetIndex } from './target-index.ts';
import { conditionHolds, outranks, readsRequests } from './verdict.ts';

/** What a quota is for: its target, and the rules whose calls it counts. */
export type QuotaScope = Readonly<{
  name: string;
  target: Target;
  rules: ReadonlySet<string> | undefined;
}>;

const not = (why: string): LeaseScope => ({ why });

/** Depends on what the requests of a region may differ in. */
const reads = (rule: Rule): boolean => rule.condition?.mentions.changing === true;

/** Why no request that this rule lets pass is ever leased; undefined where some may be. */
function neverLeased(rule: Rule): string | undefined {
  if (rule.outcome === 'hold') return `rule ${rule.name} asks a person about each request`;
  if (rule.outcome !== 'allow' || rule.shadow) return `rule ${rule.name} lets nothing pass`;
  if (rule.inspect !== 'tls')
    return `rule ${rule.name} passes connections unread (inspect: ${rule.inspect}), which are checked once each`;
  if (rule.target.mcp !== undefined) return `rule ${rule.name} reads the MCP message`;
  if (reads(rule)) return `rule ${rule.name} has a condition that reads the request or the time`;
  return undefined;
}

/** Whether this rule, if it matched beside the one that lets pass, would change anything of the verdict. */
function matters(rule: Rule, verdict: Rule): boolean {
  if (rule === verdict) return false;
  if (rule.shadow) return rule.outcome !== 'allow';
  return outranks(rule, verdict) || (rule.internal && !verdict.internal);
}

export function createLeasing(
  rules: readonly Rule[],
  index: TargetIndex<Rule>,
  quotas: TargetIndex<QuotaScope>,
): (agent: Agent, destination: Destination, verdictRule: RuleName) => LeaseScope {
  const byName = new Map(rules.map((rule) => [rule.name, rule]));

  return (agent, destination, verdictRule) => {
    const verdict = byName.get(verdictRule);
    if (verdict === undefined) return not(`the policy has no rule ${verdictRule}`);
    const never = neverLeased(verdict);
    if (never !== undefined) return not(never);
    if (destination.scheme === 'tcp') return not('connections passed unread are checked once each');
    const { path } = destination;
    if (!plainPath(path))
      return not('the path has a character or an empty segment that servers may read in two ways');

    const subject = subjectOf(agent.name, destination);
    if (!placeFits(verdict.target, subject) || !pathFits(verdict.target, subject))
      return not(`rule ${verdictRule} does not match this request`);
    const directories = subject.segments.slice(0, -1);
    let scope: Scope | undefined;
    const holds = (rule: Rule): boolean => {
      if (rule.condition === undefined) return true;
      // Read only by conditions on agent and destination: the rest is the same in every request of a region.
      scope ??= new Scope({ agent, destination, headers: {}, body: { kind: 'unread' }, nowMs: 0 });
      return conditionHolds(rule, scope);
    };
    if (!holds(verdict)) return not(`rule ${verdictRule} does not match this request`);

    const ruled = widen(index, subject, uniformFrom(verdict.target, directories, true), (rule) => {
      if (!matters(rule, verdict) || !readsRequests(rule) || !placeFits(rule.target, subject)) return 'apart';
      if (rule.target.mcp !== undefined || reads(rule))
        return {
          why: `rule ${rule.name} could ${rule.outcome} some of them: it reads ${rule.target.mcp === undefined ? 'the request or the time' : 'the MCP message'}`,
        };
      if (!holds(rule)) return 'apart';
      return rule.shadow || !outranks(rule, verdict)
        ? 'same'
        : { why: `rule ${rule.name} decides this request` };
    });
    if (typeof ruled !== 'number') return ruled;
    const depth = widen(quotas, subject, ruled, (quota) => {
      if (quota.rules !== undefined && !quota.rules.has(verdictRule)) return 'apart';
      if (!placeFits(quota.target, subject)) return 'apart';
      return quota.target.mcp === undefined
        ? 'same'
        : { why: `quota ${quota.name} counts by the MCP message` };
    });
    if (typeof depth !== 'number') return depth;
    if (depth === noDirectory) return { methods: 'this', prefix: path, exact: true };
    return { methods: 'this', prefix: ['', ...directories.slice(0, depth), ''].join('/'), exact: false };
  };
}

/**
 * What one rule or quota is to the requests of a region: nothing, or the same for each whose path it covers,
 * or, where it covers the path, why there is no region.
 */
type Part = 'apart' | 'same' | Readonly<{ why: string }>;

/** How many directories the region needs so that each target covers all of it or nothing, from `depth` on. */
function widen<T extends Readonly<{ target: Target }>>(
  index: TargetIndex<T>,
  subject: Subject,
  depth: number,
  partOf: (item: T) => Part,
): number | Readonly<{ why: string }> {
  const directories = subject.segments.slice(0, -1);
  let needed = depth;
  let refusal: Readonly<{ why: string }> | undefined;
  let left = limits.leaseNeighboursMax;
  index.around(subject, (item, at) => {
    if (at !== here) {
      // What is still to come is uniform from one directory more than `at`.
      if (needed > at) return false;
      left -= 1;
      if (left < 0) {
        needed = at < directories.length ? at + 1 : noDirectory;
        return false;
      }
    }
    const covered = pathFits(item.target, subject);
    const from = uniformFrom(item.target, directories, covered);
    if (!covered && from <= needed) return true;
    const part = partOf(item);
    if (part === 'apart') return true;
    if (covered && part !== 'same') {
      refusal = part;
      return false;
    }
    needed = Math.max(needed, from);
    return true;
  });
  return refusal ?? needed;
}
