/**
 * A read policy as lines of JSON, from the process that read it to the sidecar. Its sections come in parts, so
 * that no line takes long to parse.
 */
import { limits } from '../../config/limits.ts';
import { fieldName, type Issue } from '../../config/policy/issue.ts';
import type { ParsedPolicy } from '../../config/policy/parse.ts';
import type { Policy } from '../../config/policy/schema.ts';
import type { Loaded } from '../../config/policy/watch.ts';
import { fileIssue } from '../../config/source.ts';
import type { UserLookup } from './agents.ts';

/** Not compiled yet; `lookup` knows the numbers of the Unix users that the policy names. */
export type ReadPolicy = Readonly<{ parsed: ParsedPolicy; lookup: UserLookup }>;

export type ReaderLine =
  | Readonly<{ kind: 'known'; key: string }>
  | Readonly<{ kind: 'refused'; key: string; issues: readonly Issue[] }>
  | Readonly<{ kind: 'items'; section: string; items: readonly unknown[] }>
  | Readonly<{ kind: 'entries'; section: string; entries: readonly (readonly [string, unknown])[] }>
  /** The last one of a policy. */
  | Readonly<{ kind: 'policy'; key: string; version: 1; uids: Readonly<Record<string, number>> }>;

export function* linesOf(
  policy: Policy,
  key: string,
  uids: Readonly<Record<string, number>>,
): Iterable<string> {
  const { version, ...sections } = policy;
  for (const [section, value] of Object.entries(sections)) {
    const named = !Array.isArray(value);
    const all: readonly unknown[] = named ? Object.entries(value) : value;
    const lineOf = (part: readonly string[]): string =>
      `{"kind":"${named ? 'entries' : 'items'}","section":"${section}","${named ? 'entries' : 'items'}":[${part.join(',')}]}\n`;
    let part: string[] = [];
    let chars = 0;
    for (const one of all) {
      const text = JSON.stringify(one);
      part.push(text);
      chars += text.length;
      if (chars < limits.policyLineCharsMin) continue;
      yield lineOf(part);
      part = [];
      chars = 0;
    }
    yield lineOf(part);
  }
  yield `${JSON.stringify({ kind: 'policy', key, version, uids } satisfies ReaderLine)}\n`;
}

type Section = unknown[] | Record<string, unknown>;

/** Takes the lines one by one; answers once everything was said. */
export function createAssembly(file: string): (line: string) => Loaded<ReadPolicy> | undefined {
  const sections: Record<string, Section> = {};
  return (line) => {
    // Ours: nothing but `linesOf` and `reader-process.ts` writes them.
    const said = JSON.parse(line) as ReaderLine;
    switch (said.kind) {
      case 'items': {
        const list = sections[said.section];
        if (Array.isArray(list)) for (const item of said.items) list.push(item);
        else sections[said.section] = [...said.items];
        return undefined;
      }
      case 'entries':
        sections[said.section] = Object.assign(
          sections[said.section] ?? {},
          Object.fromEntries(said.entries),
        );
        return undefined;
      case 'policy': {
        // The sections of what the schema accepted, put together again.
        const policy = { ...sections, version: said.version } as unknown as Policy;
        const parsed: ParsedPolicy = {
          policy,
          version: said.key,
          file,
          // The text's tree, and so every place in it, is gone. All of this compiled there a moment ago.
          issueAt: (path, message) => ({ ...fileIssue(file, message), field: fieldName(path) }),
        };
        const uidOf = (user: string): number | undefined =>
          Object.hasOwn(said.uids, user) ? said.uids[user] : undefined;
        return { kind: 'value', key: said.key, value: { parsed, lookup: { uidOf } } };
      }
      case 'known':
      case 'refused':
        return said;
    }
  };
}
