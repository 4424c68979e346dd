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
import { limits } from './limits.ts';
import { type FieldPath, fieldName, type Issue } from './policy/issue.ts';
import { fileIssue, noPosition, type Position, printable, type Source } from './source.ts';

export type YamlResult =
  | Readonly<{ ok: true; value: Source }>
  /** `rest`: what stands in the text where nothing but repeated keys is wrong with it, of each the last value. */
  | Readonly<{ ok: false; issues: readonly Issue[]; rest?: Source }>;

const refuse = (issues: readonly Issue[]): YamlResult => ({ ok: false, issues });

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

export function parseYaml(text: string, file: string, tokensMax: number): YamlResult {
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
  const repeated: Issue[] = [];
  for (const { key, flaw, first, path } of keyFlaws(document)) {
    if (issues.length + repeated.length >= limits.policyErrorsFoundMax) break;
    const offset = startOf(key) ?? 0;
    const where = { ...at(offset), file, field: fieldName(path.map(printedPart)) };
    if (first === undefined) issues.push({ ...where, message: flaw });
    else repeated.push({ ...where, message: `${flaw}; it stands first in line ${at(first).line}` });
  }
  if (issues.length > 0) return refuse(issues);
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: limits.yamlAliasValuesMax });
  } catch {
    return refuse([
      fileIssue(
        file,
        `an alias has no anchor before it, or aliases expand to more than ${limits.yamlAliasValuesMax} values`,
      ),
    ]);
  }
  const source: Source = {
    value,
    positionOf: (path, what) => {
      const offset = offsetOf(document, path, what);
      return offset === undefined ? noPosition : at(offset);
    },
  };
  return repeated.length === 0 ? { ok: true, value: source } : { ok: false, issues: repeated, rest: source };
}

const printedPart = (part: string | number): string | number =>
  typeof part === 'number' ? part : printable(part);

/** `first`: offset of the same key where it stands first; undefined where the key is none at all. */
type KeyFlaw = Readonly<{ key: unknown; flaw: string; first: number | undefined; path: FieldPath }>;

/** A node and how it was reached; the path is put together only for what is told. */
type Reached = Readonly<{ node: unknown; part: string | number; from: Reached | undefined }>;

function pathTo(reached: Reached | undefined): (string | number)[] {
  const path: (string | number)[] = [];
  for (let at = reached; at?.from !== undefined; at = at.from) path.unshift(at.part);
  return path;
}

/** Keys that stand twice in one mapping, and `__proto__`, which JavaScript objects cannot safely hold. */
function* keyFlaws(document: Document): Iterable<KeyFlaw> {
  const pending: Reached[] = [{ node: document.contents, part: '', from: undefined }];
  for (let here = pending.pop(); here !== undefined; here = pending.pop()) {
    const { node } = here;
    const from = here;
    if (isSeq(node))
      for (const [part, item] of node.items.entries()) pending.push({ node: item, part, from });
    if (!isMap(node)) continue;
    const first = new Map<string, number>();
    for (const { key, value } of node.items) {
      const name = plainKey(key);
      if (value !== null && value !== undefined) pending.push({ node: value, part: name ?? '?', from });
      const flaw = (text: string, before?: number): KeyFlaw => ({
        key,
        flaw: text,
        first: before,
        path: name === undefined ? pathTo(from) : [...pathTo(from), name],
      });
      const before = name === undefined ? undefined : first.get(name);
      if (name === undefined) yield flaw('expected text as the key, found an alias or a collection');
      else if (name === '__proto__') yield flaw('expected another key than `__proto__`');
      else if (before !== undefined)
        yield flaw(`expected each key once, found ${printable(JSON.stringify(name))} twice`, before);
      else first.set(name, startOf(key) ?? 0);
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
      // Of a repeated key, the one whose value `toJS` takes.
      const pair = node.items.findLast((candidate) => plainKey(candidate.key) === String(part));
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
