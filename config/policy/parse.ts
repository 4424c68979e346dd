/** Text of a policy file → a policy with defaults, or everything that is wrong with it, each with its place. */
import { createHash } from 'node:crypto';
import { limits } from '../limits.ts';
import { inputSchemaOf, type JsonSchema } from '../schema-tools.ts';
import { fileIssue, type Problem, printable, readText, type Source, textIssue } from '../source.ts';
import { parseYaml } from '../yaml-source.ts';
import { problemsOf } from '../zod-issues.ts';
import { type FieldPath, fieldName, type Issue, type Refusal, type Result } from './issue.ts';
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

/**
 * What is wrong with a document beside its shape and its names, such as conditions that do not compile. Asked
 * only where the document is no policy yet, so it must take any value.
 */
export type Beyond = (document: unknown) => readonly Problem[];

const nothingBeyond: Beyond = () => [];

/** Never throws: garbage gives issues. @param beyond so that one reading tells everything that is wrong. */
export function parsePolicy(text: string, file: string, beyond = nothingBeyond): Result<ParsedPolicy> {
  const unclean = textIssue(text, file, limits.policyBytesMax);
  if (unclean !== undefined) return { ok: false, issues: [unclean] };
  const read = parseYaml(text, file, limits.policyTokensMax);
  const source = read.ok ? read.value : read.rest;
  const repeated = read.ok ? [] : read.issues;
  if (source === undefined) return refusal(repeated, file);
  const { value, positionOf } = source;
  const parsed = policySchema.safeParse(value);
  schema ??= inputSchemaOf(policySchema);
  const problems = [
    ...(parsed.success ? [] : problemsOf(parsed.error, value, schema, mayShow)),
    ...referenceProblems(value),
  ];
  if (!parsed.success || problems.length > 0 || repeated.length > 0) {
    const told = new Set(problems.map(({ path }) => fieldName(path)));
    const further = beyond(value).filter(({ path }) => !told.has(fieldName(path)));
    return refusalOf([...problems, ...further], source, file, repeated);
  }
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

export function loadPolicy(file: string, beyond = nothingBeyond): Result<ParsedPolicy> {
  const text = readText(file, limits.policyBytesMax);
  return text.ok ? parsePolicy(text.value, file, beyond) : text;
}

/** A password put where its hash belongs must not reach a log. */
const mayShow = (path: FieldPath): boolean => !path.includes('credentials');

const printedField = (path: FieldPath): string =>
  fieldName(path.map((part) => (typeof part === 'number' ? part : printable(part))));

/** Of each issue the place is found now and the message made where it is shown: a hint costs a search. */
type PlacedIssue = Issue | (Omit<Issue, 'message'> & Readonly<{ message: () => string }>);

const placed = (problems: readonly Problem[], source: Source, file: string): PlacedIssue[] =>
  problems.map(({ path, at, message }) => ({
    file,
    ...source.positionOf(path, at),
    field: printedField(path),
    message,
  }));

/** By place, the first `policyErrorsShownMax` of them, and how many there are. */
export function refusal(issues: readonly PlacedIssue[], file: string): Refusal {
  const shown = issues
    .toSorted((a, b) => a.line - b.line || a.column - b.column)
    .slice(0, limits.policyErrorsShownMax)
    .map((issue): Issue => {
      const { message } = issue;
      return { ...issue, message: typeof message === 'string' ? message : message() };
    });
  const more = issues.length - shown.length;
  return {
    ok: false,
    issues: more === 0 ? shown : [...shown, fileIssue(file, `${more} more`)],
    count: issues.length,
  };
}

/** @param known what was found already, with its place. */
export const refusalOf = (
  problems: readonly Problem[],
  source: Source,
  file: string,
  known: readonly Issue[] = [],
): Refusal => refusal([...known, ...placed(problems, source, file)], file);
