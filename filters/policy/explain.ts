/** For every rule, in the order of the file: that it decided, or the first thing that kept it from deciding. */
import type { Explained, RequestFacts, Verdict } from './compiled.ts';
import { Scope } from './condition-scope.ts';
import { mismatch } from './mismatch.ts';
import type { Rule } from './rules.ts';
import { subjectOf } from './target.ts';
import { readsRequests } from './verdict.ts';

export function explainRules(
  rules: readonly Rule[],
  facts: RequestFacts,
  verdict: Verdict,
): readonly Explained[] {
  const subject = subjectOf(facts.agent.name, facts.destination);
  const scope = new Scope(facts);
  return rules.map((rule): Explained => {
    const head = {
      rule: rule.name,
      outcome: rule.outcome,
      mode: rule.shadow ? 'shadow' : 'enforce',
    } as const;
    const missing = !readsRequests(rule)
      ? `\`inspect: ${rule.inspect}\` is for connections passed unread, and this request is read`
      : mismatch(rule.target, subject);
    if (missing !== undefined) return { ...head, matched: false, decided: false, why: missing };
    const result = rule.condition?.run(scope) ?? true;
    if (result === false) return { ...head, matched: false, decided: false, why: 'the condition is false' };
    const failed = typeof result === 'boolean' ? '' : `the condition failed (${result.error})`;
    if (failed !== '' && rule.outcome === 'allow')
      return {
        ...head,
        matched: false,
        decided: false,
        why: `${failed}; a rule that allows then does not match`,
      };
    const decided = verdict.kind !== 'none' && verdict.rule === rule.name;
    return { ...head, matched: true, decided, why: decided ? '' : matchedBut(rule, verdict, failed) };
  });
}

function matchedBut(rule: Rule, verdict: Verdict, failed: string): string {
  const note = failed === '' ? '' : `; ${failed}, which counts as a match for a rule that ${rule.outcome}s`;
  if (rule.shadow) {
    const would = verdict.shadow.some((shadow) => shadow.rule === rule.name);
    return `matched in shadow mode${would ? `: enforced, it would ${rule.outcome}` : ', and would have changed nothing'}${note}`;
  }
  if (verdict.kind === 'none') return `matched${note}`;
  return verdict.kind === rule.outcome
    ? `matched, and rule ${verdict.rule} of the same outcome is named for it${note}`
    : `matched, but rule ${verdict.rule} is stronger: ${verdict.kind} before ${rule.outcome}${note}`;
}
