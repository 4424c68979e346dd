/**
 * What compiling would find in a document that is no policy yet. Each part is tried by itself, so that an error
 * in one field does not hide one in another.
 */

import { limits } from '../../config/limits.ts';
import type { FieldPath } from '../../config/policy/issue.ts';
import { type Problem, printable } from '../../config/source.ts';
import { compileCondition } from './condition.ts';
import { createEnvironment } from './condition-scope.ts';
import { type Parsed, parseHostPattern } from './host-pattern.ts';
import { parsePathPattern } from './path-pattern.ts';
import { unreadFlaws } from './rules.ts';

const at = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? Reflect.get(value, key)
    : undefined;
const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
const entriesOf = (value: unknown): [string, unknown][] =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.entries(value) : [];

/** Never throws, whatever the document. */
export function draftProblems(document: unknown): readonly Problem[] {
  const environment = createEnvironment();
  const groups = new Set(entriesOf(at(document, 'hosts')).map(([name]) => name));
  const problems: Problem[] = [];
  const add = (path: FieldPath, text: string): void => {
    const message = printable(text, 1_000);
    if (problems.length < limits.policyErrorsFoundMax)
      problems.push({ path, at: 'value', message: () => message });
  };
  const each = (list: unknown, path: FieldPath, parse: (text: string) => Parsed<unknown>): void => {
    for (const [index, text] of listOf(list).entries()) {
      if (typeof text !== 'string' || groups.has(text)) continue;
      const parsed = parse(text);
      if (!parsed.ok) add([...path, index], `expected ${parsed.message}`);
    }
  };
  const target = (to: unknown, path: FieldPath): void => {
    each(at(to, 'hosts'), [...path, 'hosts'], parseHostPattern);
    each(at(to, 'paths'), [...path, 'paths'], parsePathPattern);
  };

  for (const [name, hosts] of entriesOf(at(document, 'hosts')))
    each(hosts, ['hosts', name], parseHostPattern);
  for (const [index, rule] of listOf(at(document, 'rules')).entries()) {
    target(at(rule, 'to'), ['rules', index, 'to']);
    const when = at(rule, 'when');
    const condition =
      typeof when === 'string' && when !== '' ? compileCondition(environment, when) : undefined;
    if (condition?.ok === false) add(['rules', index, 'when'], condition.message);
    const compiled = condition?.ok === true ? condition.value : undefined;
    const to = at(rule, 'to');
    for (const flaw of unreadFlaws(at(to, 'inspect'), at(to, 'schemes'), compiled))
      add(['rules', index, ...flaw.path], flaw.message);
  }
  for (const [index, quota] of listOf(at(document, 'quotas')).entries())
    target(at(quota, 'to'), ['quotas', index, 'to']);
  return problems;
}
