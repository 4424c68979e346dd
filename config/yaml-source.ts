/** YAML 1.2 (core schema) to a value with positions. One document, string keys, no tags of its own, bounded work. */
import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  type Node,
  parseDocument,
} from 'yaml';
import type { FieldPath, Issue, Result } from './policy/issue.ts';
import { fileIssue, noPosition, type Position, printable, type Source } from './source.ts';

/** How far aliases may multiply what was written (`yaml` counts a nested alias by all it expands to). */
const aliasCountMax = 100;

const refuse = (issues: readonly Issue[]): Result<Source> => ({ ok: false, issues });

/** The tree costs about 400 bytes a token, so tokens are counted before it is built. */
function tooManyTokens(text: string, tokensMax: number): boolean {
  let count = 0;
  for (const _ of new Lexer().lex(text)) {
    count += 1;
    if (count > tokensMax) return true;
  }
  return false;
}

const plainKey = (key: unknown): string | undefined =>
  isScalar(key) && typeof key.value === 'string' ? key.value : undefined;

export function parseYaml(text: string, file: string, tokensMax: number): Result<Source> {
  if (tooManyTokens(text, tokensMax))
    return refuse([fileIssue(file, `it has more than ${tokensMax} YAML tokens`)]);
  const lines = new LineCounter();
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
  const issue = (offset: number, message: string): Issue => fileIssue(file, message, at(offset));
  const document = parseDocument(text, {
    version: '1.2',
    lineCounter: lines,
    stringKeys: true,
    // Duplicate keys are looked for below: the library compares every key with every other.
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: 'error',
    merge: false,
  });
  const issues: Issue[] = [...document.errors, ...document.warnings].map((error) =>
    issue(
      error.pos[0],
      error.code === 'MULTIPLE_DOCS'
        ? 'expected one YAML document, found a second one'
        : error.code === 'TAG_RESOLVE_FAILED'
          ? `expected no tags beside those of YAML 1.2: ${printable(error.message, 200)}`
          : `not valid YAML: ${printable(error.message, 200)}`,
    ),
  );
  const version = document.directives?.yaml;
  if (version?.explicit === true && version.version !== '1.2')
    issues.push(fileIssue(file, `expected YAML 1.2, found a directive for ${version.version}`));
  issues.push(...keyIssues(document, issue));
  if (issues.length > 0) return refuse(issues);
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: aliasCountMax });
  } catch {
    return refuse([
      fileIssue(
        file,
        `an alias has no anchor before it, or aliases expand to more than ${aliasCountMax} values`,
      ),
    ]);
  }
  return {
    ok: true,
    value: {
      value,
      positionOf: (path, what) => {
        const offset = offsetOf(document, path, what);
        return offset === undefined ? noPosition : at(offset);
      },
    },
  };
}

/** Keys that stand twice in one mapping, and `__proto__`, which JavaScript objects cannot safely hold. */
function* keyIssues(document: Document, issue: (offset: number, message: string) => Issue): Iterable<Issue> {
  const pending: unknown[] = [document.contents];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    if (isSeq(node)) for (const item of node.items) pending.push(item);
    if (!isMap(node)) continue;
    const first = new Map<string, number>();
    for (const pair of node.items) {
      if (pair.value !== null && pair.value !== undefined) pending.push(pair.value);
      const key = plainKey(pair.key);
      const offset = startOf(pair.key) ?? 0;
      if (key === undefined) yield issue(offset, 'expected text as the key, found an alias or a collection');
      else if (key === '__proto__') yield issue(offset, 'expected another key than `__proto__`');
      else if (first.has(key))
        yield issue(offset, `the key ${printable(JSON.stringify(key))} stands twice here`);
      else first.set(key, offset);
    }
  }
}

const startOf = (node: unknown): number | undefined =>
  isScalar(node) || isMap(node) || isSeq(node) || isAlias(node) ? node.range?.[0] : undefined;

function offsetOf(document: Document, path: FieldPath, what: 'key' | 'value'): number | undefined {
  let node: Node | null | undefined = document.contents as Node | null;
  let offset = startOf(node);
  for (const [index, part] of path.entries()) {
    if (isAlias(node)) node = node.resolve(document);
    let child: unknown;
    if (isSeq(node) && typeof part === 'number') {
      child = node.items[part];
      if (child === undefined) return offset;
      offset = startOf(child) ?? offset;
    } else if (isMap(node)) {
      const pair = node.items.find((candidate) => plainKey(candidate.key) === String(part));
      if (pair === undefined) return offset;
      const isLast = index === path.length - 1;
      // An ancestor of a missing field is found by its key, where the eye looks for it.
      offset = startOf(pair.key) ?? offset;
      child = pair.value;
      if (isLast && what === 'value') offset = startOf(child) ?? offset;
    } else return offset;
    node = isScalar(child) || isMap(child) || isSeq(child) || isAlias(child) ? child : undefined;
  }
  return offset;
}
