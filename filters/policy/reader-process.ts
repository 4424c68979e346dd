/**
 * The process that reads a large policy file: `reader-process.ts FILE KNOWN…`. It says what it found in lines of
 * JSON (`reader-lines.ts`), and is nice to the sidecar beside it.
 */
import { writeFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { parsePolicy } from '../../config/policy/parse.ts';
import type { UserLookup } from './agents.ts';
import { compilePolicy } from './compile.ts';
import { draftProblems } from './draft.ts';
import { readVersion, userLookup } from './reader.ts';
import { linesOf, type ReaderLine } from './reader-lines.ts';

/** Where memory runs out, the kernel ends this process before the sidecar. */
function yieldToSidecar(): void {
  setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
  try {
    writeFileSync('/proc/self/oom_score_adj', '1000');
  } catch {
    // Not Linux, or not ours to raise: then the kernel chooses.
  }
}

function* answer(file: string, known: readonly string[]): Iterable<string> {
  const say = (line: ReaderLine): string => `${JSON.stringify(line)}\n`;
  const text = readVersion(file, known);
  if (text.kind !== 'value') return yield say(text);
  const { key } = text;
  const parsed = parsePolicy(text.value, file, draftProblems);
  if (!parsed.ok) return yield say({ kind: 'refused', key, issues: parsed.issues });
  const uids: Record<string, number> = {};
  const lookup: UserLookup = {
    uidOf: (user) => {
      const uid = userLookup.uidOf(user);
      if (uid !== undefined) uids[user] = uid;
      return uid;
    },
  };
  // Tried out here, where the places of what is wrong are known and time is nobody's.
  const compiled = compilePolicy(parsed.value, lookup);
  if (!compiled.ok) return yield say({ kind: 'refused', key, issues: compiled.issues });
  yield* linesOf(parsed.value.policy, key, uids);
}

yieldToSidecar();
const [file = '', ...known] = process.argv.slice(2);
for (const line of answer(file, known)) process.stdout.write(line);
