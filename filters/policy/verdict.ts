/** The strongest outcome of all rules that match a request. The order of rules and candidates never matters. */
import { limits } from '../../config/limits.ts';
import type { ShadowOutcome } from '../decision.ts';
import type { RequestFacts, Verdict } from './compiled.ts';
import { Scope } from './condition-scope.ts';
import { type Rule, strengths } from './rules.ts';
import { fits, type Subject } from './target.ts';

/** A condition that cannot be evaluated counts as its rule's outcome says: forbid and hold yes, allow no. */
export function conditionHolds(rule: Rule, scope: Scope): boolean {
  if (rule.condition === undefined) return true;
  const result = rule.condition.run(scope);
  return typeof result === 'boolean' ? result : rule.outcome !== 'allow';
}

/** Whether a rule reads requests. A forbid does, however the rule says that its host is inspected. */
export const readsRequests = (rule: Rule): boolean => rule.inspect === 'tls' || rule.outcome === 'forbid';

/** What has been found so far among the enforced rules, and the shadow rules that matched. */
export type Tally = {
  best: Rule | undefined;
  internal: boolean;
  shadow: Rule[];
};

export const createTally = (): Tally => ({ best: undefined, internal: false, shadow: [] });

/** Of two rules that both match, the one that is reported: the stronger, the higher quorum, the smaller name. */
export function outranks(rule: Rule, other: Rule): boolean {
  const byStrength = strengths[rule.outcome] - strengths[other.outcome];
  if (byStrength !== 0) return byStrength > 0;
  const byQuorum = (rule.hold?.quorum ?? 0) - (other.hold?.quorum ?? 0);
  return byQuorum === 0 ? rule.name < other.name : byQuorum > 0;
}

/** Whether the rule, if it matched, would change anything: spares conditions their evaluation. */
function wouldMatter(rule: Rule, tally: Tally): boolean {
  const { best } = tally;
  if (rule.shadow) return best === undefined || strengths[rule.outcome] > strengths[best.outcome];
  if (best === undefined || outranks(rule, best)) return true;
  if (best.outcome === 'forbid') return false;
  return rule.internal && !tally.internal;
}

export function count(rule: Rule, tally: Tally): void {
  if (rule.shadow) {
    tally.shadow.push(rule);
    return;
  }
  if (tally.best === undefined || outranks(rule, tally.best)) tally.best = rule;
  if (rule.internal && rule.outcome !== 'forbid') tally.internal = true;
}

export function tallyOf(candidates: readonly Rule[], subject: Subject, facts: RequestFacts): Tally {
  const tally = createTally();
  let scope: Scope | undefined;
  for (const rule of candidates) {
    if (!wouldMatter(rule, tally) || !readsRequests(rule) || !fits(rule.target, subject)) continue;
    if (rule.condition !== undefined) {
      scope ??= new Scope(facts);
      if (!conditionHolds(rule, scope)) continue;
    }
    count(rule, tally);
  }
  return tally;
}

/** Shadow rules that, enforced alone, would have made another outcome: strongest first, then by name. */
function shadowOutcomes(tally: Tally): readonly ShadowOutcome[] {
  if (tally.shadow.length === 0) return none;
  const decided = strengths[tally.best?.outcome ?? 'none'];
  return [...new Set(tally.shadow)]
    .filter((rule) => strengths[rule.outcome] > decided)
    .sort(
      (a, b) =>
        strengths[b.outcome] - strengths[a.outcome] || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0),
    )
    .slice(0, limits.shadowOutcomesMax)
    .map((rule) => ({ rule: rule.name, would: rule.outcome }));
}
const none: readonly ShadowOutcome[] = [];

export function verdictOf(tally: Tally): Verdict {
  const shadow = shadowOutcomes(tally);
  const rule = tally.best;
  if (rule === undefined) return { kind: 'none', shadow };
  const decided = { rule: rule.name, ruleDigest: rule.digest(), shadow };
  if (rule.outcome === 'forbid') return { ...decided, kind: 'forbid', reason: rule.reason };
  if (rule.hold !== undefined)
    return { ...decided, kind: 'hold', reason: rule.reason, ...rule.hold, internal: tally.internal };
  return { ...decided, kind: 'allow', internal: tally.internal };
}
