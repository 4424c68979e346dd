/** CEL conditions: compiled and type-checked at load, run with a scope per request. They never answer "maybe". */
import { limits } from '../../config/limits.ts';
import { printable } from '../../config/source.ts';
import { cel } from './cel.ts';
import { checkBounds, type Mentions, type RcallNode } from './condition-bounds.ts';
import { type Environments, linearMatches, type Scope } from './condition-scope.ts';
import type { Parsed } from './host-pattern.ts';

export type Condition = Readonly<{
  source: string;
  mentions: Mentions;
  /** True, false, or why it could not be said. The text holds nothing of the request's values. */
  run(scope: Scope): boolean | Readonly<{ error: string }>;
}>;

export function compileCondition(environmentOf: Environments, source: string): Parsed<Condition> {
  const failed = (message: string): Parsed<Condition> => ({
    ok: false,
    message: `${message}; found ${printable(JSON.stringify(source))}`,
  });
  if (source.length > limits.celExpressionCharsMax)
    return failed(`expected at most ${limits.celExpressionCharsMax} characters, not ${source.length}`);
  try {
    const environment = environmentOf();
    // Checked under the names that the author wrote; then read again, because a checked tree is fixed.
    const checked = environment.parse(source).check();
    if (!checked.valid) return failed(told(checked.error, source));
    if (checked.type !== 'bool' && checked.type !== 'dyn')
      return failed(`expected a condition that is true or false, not one of type ${checked.type}`);
    const program = environment.parse(source);
    const calls: RcallNode[] = [];
    const mentions = checkBounds(program.ast, (call) => calls.push(call));
    for (const call of calls) call.args[0] = linearMatches;
    const rewritten = program.check();
    if (!rewritten.valid) return failed(told(rewritten.error, source));
    return {
      ok: true,
      value: {
        source,
        mentions,
        run: (scope) => {
          try {
            const value: unknown = program(scope);
            return typeof value === 'boolean' ? value : { error: 'the condition is neither true nor false' };
          } catch (thrown) {
            return { error: whyFailed(thrown, source) };
          }
        },
      },
    };
  } catch (thrown) {
    return failed(told(thrown, source));
  }
}

/** A load error: what is wrong and at which part of the expression. */
function told(error: unknown, source: string): string {
  const { ParseError, TypeError: CelTypeError } = cel();
  if (error instanceof ParseError || error instanceof CelTypeError) {
    const range = error.range;
    const at =
      range === undefined
        ? ''
        : ` at character ${range.start + 1}, "${source.slice(range.start, range.end)}"`;
    return `expected a valid CEL condition: ${error.summary}${at}`;
  }
  return `expected ${error instanceof Error ? error.message : 'a valid CEL condition'}`;
}

/** The library's messages may quote values of the request; its codes and the place in the source do not. */
function whyFailed(error: unknown, source: string): string {
  if (error instanceof cel().EvaluationError) {
    const range = error.range;
    const at = range === undefined ? '' : ` at "${source.slice(range.start, range.end)}"`;
    return `${error.code.replaceAll('_', ' ')}${at}`;
  }
  // Ours, from the scope and the regular expressions: fixed texts.
  if (error instanceof Error && error.constructor === Error) return error.message;
  return 'the evaluation failed';
}
