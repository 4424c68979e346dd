/**
 * Policy → compiled policy, all at load: patterns canonical, groups resolved, conditions compiled, rules
 * indexed. A request then costs a walk through the index and the few rules that are found there, so ten
 * thousand rules cost little more than ten.
 */
import type { Issue, Result } from '../../config/policy/issue.ts';
import { type ParsedPolicy, refusal } from '../../config/policy/parse.ts';
import type { PolicyVersion } from '../common/brand.ts';
import { atOnce, type Steps } from '../common/slices.ts';
import { compileAgents, type UserLookup } from './agents.ts';
import type { CompiledPolicy, RequestFacts, Verdict } from './compiled.ts';
import { createEnvironment } from './condition-scope.ts';
import { decideConnect } from './connect.ts';
import { compileDebits } from './debits.ts';
import { explainRules } from './explain.ts';
import { createLeasing } from './leasing.ts';
import { compileNeeds } from './needs.ts';
import { createRecorded } from './recorded.ts';
import { compileRoutes } from './routes.ts';
import { compileRule, createCompiler, type Rule } from './rules.ts';
import { subjectOf } from './target.ts';
import { indexTargets } from './target-index.ts';
import { tallyOf, verdictOf } from './verdict.ts';

/** @param parsed what `parsePolicy` accepted: names are unique and every reference leads somewhere. */
export const compilePolicy = (parsed: ParsedPolicy, lookup: UserLookup): Result<CompiledPolicy> =>
  atOnce(compileSteps(parsed, lookup));

/** The same in steps of at most one rule, for `inSlices`. */
export function* compileSteps(parsed: ParsedPolicy, lookup: UserLookup): Steps<Result<CompiledPolicy>> {
  const issues: Issue[] = [];
  const compiler = yield* createCompiler(parsed, createEnvironment(), issues);
  const agents = yield* compileAgents(compiler, lookup);
  const rules: Rule[] = [];
  for (const [index, rule] of parsed.policy.rules.entries()) {
    rules.push(compileRule(compiler, rule, index));
    yield;
  }
  const { debits, quotas } = yield* compileDebits(compiler);
  const routes = yield* compileRoutes(compiler);
  if (issues.length > 0) return refusal(issues, parsed.file);

  const index = yield* indexTargets(rules, (rule) => rule.target);
  const needs = yield* compileNeeds(rules, index);

  const connect: CompiledPolicy['connect'] = (agent, destination, nowMs) =>
    decideConnect(index, subjectOf(agent.name, destination), agent, destination, nowMs);

  const evaluate = (facts: RequestFacts): Verdict => {
    if (facts.destination.scheme === 'tcp') return unreadVerdict(connect, facts);
    const subject = subjectOf(facts.agent.name, facts.destination);
    return verdictOf(tallyOf(index.candidates(subject), subject, facts));
  };

  return {
    ok: true,
    value: {
      version: parsed.version as PolicyVersion,
      source: parsed.policy,
      ...agents,
      evaluate,
      recorded: createRecorded(index),
      connect,
      ...needs,
      debits,
      leaseRegion: createLeasing(rules, index, quotas),
      explain: (facts) => explainRules(rules, facts, evaluate(facts)),
      routes,
    },
  };
}

/** A destination whose requests are not read is decided as its CONNECT is. */
function unreadVerdict(connect: CompiledPolicy['connect'], facts: RequestFacts): Verdict {
  const verdict = connect(facts.agent, facts.destination, facts.nowMs);
  switch (verdict.kind) {
    case 'forbid':
    case 'unread':
      return verdict.verdict;
    case 'intercept':
      return { kind: 'none', shadow: [] };
    case 'none':
      return verdict;
  }
}
