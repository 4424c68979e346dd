/** Text of a policy file → a policy with defaults, or everything that is wrong with it, each with its place. */
import { createHash } from 'node:crypto';
import { limits } from '../limits.ts';
import { inputSchemaOf, type JsonSchema } from '../schema-tools.ts';
import { fileIssue, type Problem, printable, readText, type Source, textIssue } from '../source.ts';
import { parseYaml } from '../yaml-source.ts';
import { problemsOf } from '../zod-issues.ts';
import { type FieldPath, fieldName, type Issue, type Result } from './issue.ts';
import { referenceProblems } from './references.ts';
import { type Policy, policySchema } from './schema.ts';

export type ParsedPolicy = Readonly<{
  policy: Policy;
  /** First 12 hex digits of the SHA-256 of the text. */
  version: string;
  file: string;
  /** An issue at a field of this text: for what is found wrong after parsing, such as a condition that does not compile. */
  issueAt(path: FieldPath, message: string): Issue;
}>;

let schema: JsonSchema | undefined;

export const policyVersion = (text: string): string =>
  createHash('sha256').update(text).digest('hex').slice(0, 12);

/** Never throws: garbage gives issues. */
export function parsePolicy(text: string, file: string): Result<ParsedPolicy> {
  const unclean = textIssue(text, file, limits.policyBytesMax);
  if (unclean !== undefined) return { ok: false, issues: [unclean] };
  const source = parseYaml(text, file, limits.policyTokensMax);
  if (!source.ok) return { ok: false, issues: capped(source.issues, file) };
  const { value, positionOf } = source.value;
  const parsed = policySchema.safeParse(value);
  schema ??= inputSchemaOf(policySchema);
  const problems = [
    ...(parsed.success ? [] : problemsOf(parsed.error, value, schema, mayShow)),
    ...referenceProblems(value),
  ];
  if (!parsed.success || problems.length > 0)
    return { ok: false, issues: issuesOf(problems, source.value, file) };
  return {
    ok: true,
    value: {
      policy: parsed.data,
      version: policyVersion(text),
      file,
      issueAt: (path, message) => ({
        file,
        ...positionOf(path, 'value'),
        field: printedField(path),
        message,
      }),
    },
  };
}

export function loadPolicy(file: string): Result<ParsedPolicy> {
  const text = readText(file, limits.policyBytesMax);
  return text.ok ? parsePolicy(text.value, file) : text;
}

/** A password put where its hash belongs must not reach a log. */
const mayShow = (path: FieldPath): boolean => !path.includes('credentials');

const printedField = (path: FieldPath): string =>
  fieldName(path.map((part) => (typeof part === 'number' ? part : printable(part))));

/** By place, the first `policyErrorsShownMax` of them and how many more there are. */
export function issuesOf(problems: readonly Problem[], source: Source, file: string): Issue[] {
  const placed = problems
    .map((problem) => ({ problem, position: source.positionOf(problem.path, problem.at) }))
    .sort((a, b) => a.position.line - b.position.line || a.position.column - b.position.column);
  const shown = placed.slice(0, limits.policyErrorsShownMax).map(
    ({ problem, position }): Issue => ({
      file,
      ...position,
      field: printedField(problem.path),
      message: problem.message(),
    }),
  );
  return shown.length === placed.length ? shown : [...shown, moreIssue(placed.length - shown.length, file)];
}

const moreIssue = (count: number, file: string): Issue => fileIssue(file, `${count} more`);

function capped(issues: readonly Issue[], file: string): Issue[] {
  const shown = issues.slice(0, limits.policyErrorsShownMax);
  return shown.length === issues.length ? shown : [...shown, moreIssue(issues.length - shown.length, file)];
}
