/** The quotas that a call has to be paid from. */
import type { PolicyQuota } from '../../config/policy/schema.ts';
import type { Steps } from '../common/slices.ts';
import type { Debit } from '../quota/quota.ts';
import type { CompiledPolicy } from './compiled.ts';
import type { QuotaScope } from './leasing.ts';
import { type Compiler, compileTarget } from './rules.ts';
import { fits, subjectOf } from './target.ts';
import { indexTargets, type TargetIndex } from './target-index.ts';

type Quota = QuotaScope & Readonly<{ source: PolicyQuota; order: number }>;

/** A quota without ports counts calls to every port: a limit must not be evaded by one. */
export function* compileDebits(
  compiler: Compiler,
): Steps<Pick<CompiledPolicy, 'debits'> & Readonly<{ quotas: TargetIndex<QuotaScope> }>> {
  const quotas: Quota[] = [];
  for (const [order, source] of compiler.parsed.policy.quotas.entries()) {
    quotas.push({
      name: source.name,
      source,
      target: compileTarget(compiler, source.to, source.agents, ['quotas', order, 'to'], {
        restricting: true,
        portsAbsent: 'any',
      }),
      rules: source.rules === undefined ? undefined : new Set(source.rules),
      order,
    });
    yield;
  }
  const index = yield* indexTargets(quotas, (quota) => quota.target);
  const debits: CompiledPolicy['debits'] = (facts, rule) => {
    if (quotas.length === 0) return [];
    const subject = subjectOf(facts.agent.name, facts.destination);
    const applying = new Set<Quota>();
    for (const quota of index.candidates(subject))
      if ((quota.rules === undefined || quota.rules.has(rule)) && fits(quota.target, subject))
        applying.add(quota);
    return [...applying]
      .sort((a, b) => a.order - b.order)
      .map(({ source }) => debitOf(source, facts.agent.name, facts.destination.host, rule));
  };
  return { debits, quotas: index };
}

function debitOf(quota: PolicyQuota, agent: string, host: string, rule: string): Debit {
  const by = (field: PolicyQuota['key'][number], value: string): string | null =>
    quota.key.includes(field) ? value : null;
  return {
    quota: quota.name,
    // JSON keeps the parts apart whatever they hold; the order is fixed, so that reordering `key` resets nothing.
    key: JSON.stringify([quota.name, by('agent', agent), by('host', host), by('rule', rule)]),
    limit: quota.limit,
    windowMs: quota.window,
    kind: quota.kind,
  };
}
