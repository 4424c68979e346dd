/** What zod found wrong, in our words: what was expected, what was found, and the name that was probably meant. */
import type { z } from 'zod';
import { hint } from './nearest.ts';
import type { FieldPath } from './policy/issue.ts';
import { type JsonSchema, keysAt } from './schema-tools.ts';
import { type Problem, printable } from './source.ts';

type ZodIssue = z.core.$ZodIssue;

const typeWords: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping',
  record: 'a mapping',
  null: 'null',
};

/** What one and what several are called. */
const unitWords: Readonly<Record<string, readonly [string, string]>> = {
  string: ['character', 'characters'],
  array: ['item', 'items'],
  record: ['entry', 'entries'],
};

/** What stands there, short and harmless to print. `hidden`: it may be secret, so text is not told. */
export function found(value: unknown, hidden = false): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (value instanceof Date) return 'a date';
  if (typeof value === 'object') return 'a mapping';
  if (typeof value === 'string') return hidden ? 'other text' : printable(JSON.stringify(value));
  return printable(String(value));
}

/** The expectation alone; undefined where the issue's own message says the whole of it. */
function expectation(issue: ZodIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return typeWords[issue.expected] ?? issue.expected;
    case 'too_small':
    case 'too_big': {
      const limit = issue.code === 'too_small' ? issue.minimum : issue.maximum;
      const bound = `${issue.code === 'too_small' ? 'at least' : 'at most'} ${limit}`;
      if (issue.origin === 'number' || issue.origin === 'int') return `a number of ${bound}`;
      const [one, several] = unitWords[issue.origin] ?? ['value', 'values'];
      return `${bound} ${Number(limit) === 1 ? one : several}`;
    }
    case 'invalid_format':
      return issue.format === 'starts_with'
        ? `text that starts with "${'prefix' in issue ? issue.prefix : ''}"`
        : issue.message;
    case 'invalid_value': {
      const values = issue.values.map((value) =>
        typeof value === 'string' ? JSON.stringify(value) : String(value),
      );
      return values.length === 1 ? values[0] : `one of ${values.join(', ')}`;
    }
    case 'invalid_key':
    case 'invalid_element':
      return issue.issues.map((nested) => expectation(nested) ?? nested.message).join(' and ');
    case 'invalid_union':
      return [
        ...new Set(
          issue.errors.flatMap((branch) => branch[0] ?? []).map((one) => expectation(one) ?? one.message),
        ),
      ].join(' or ');
    default:
      return undefined;
  }
}

function valueAt(root: unknown, path: FieldPath): unknown {
  let value = root;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = Reflect.get(value, part);
  }
  return value;
}

const fieldPath = (path: readonly PropertyKey[]): FieldPath =>
  path.map((part) => (typeof part === 'number' ? part : String(part)));

export function problemsOf(
  error: z.ZodError,
  input: unknown,
  schema: JsonSchema,
  mayShow: (path: FieldPath) => boolean,
): Problem[] {
  const one = (issue: ZodIssue, base: FieldPath): Problem[] => {
    const path = [...base, ...fieldPath(issue.path)];
    if (issue.code === 'unrecognized_keys')
      return issue.keys.map((key) => ({
        path: [...path, key],
        at: 'key',
        message: () => {
          const known = keysAt(schema, path);
          return `unknown key; known here: ${known.join(', ')}${hint(key, known)}`;
        },
      }));
    if (issue.code === 'invalid_union') {
      // Where one alternative fits the value's shape and fails only inside it, the fault is inside.
      const inner = issue.errors.find(
        (branch) => branch.length > 0 && branch.every((nested) => nested.path.length > 0),
      );
      if (inner !== undefined) return inner.flatMap((nested) => one(nested, path));
    }
    return [
      { path, at: issue.code === 'invalid_key' ? 'key' : 'value', message: () => sentence(issue, path) },
    ];
  };
  const sentence = (issue: ZodIssue, path: FieldPath): string => {
    const expected = expectation(issue);
    if (expected === undefined) return issue.message;
    if (issue.code === 'invalid_key') return `expected ${expected} as the key`;
    const value = valueAt(input, path);
    if (value === undefined) return `missing; expected ${expected}`;
    const near =
      issue.code === 'invalid_value' && typeof value === 'string'
        ? hint(value, issue.values.map(String))
        : '';
    return `expected ${expected}, found ${found(value, !mayShow(path))}${near}`;
  };
  return error.issues.flatMap((issue) => one(issue, []));
}
