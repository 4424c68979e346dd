/**
 * Reads and compiles a policy file without keeping the sidecar from its requests. A small file is read in
 * between. A larger one takes a second and hundreds of MiB to read: a process of its own does that. Compiling
 * is done here, in slices.
 */
import { statSync } from 'node:fs';
import { limits } from '../../config/limits.ts';
import { formatIssue } from '../../config/policy/issue.ts';
import { parsePolicy, policyVersion } from '../../config/policy/parse.ts';
import type { Loaded } from '../../config/policy/watch.ts';
import { readText } from '../../config/source.ts';
import { inSlices } from '../common/slices.ts';
import { findUser } from '../common/unix-user.ts';
import type { UserLookup } from './agents.ts';
import { compileSteps } from './compile.ts';
import type { CompiledPolicy } from './compiled.ts';
import { draftProblems } from './draft.ts';
import { readApart } from './reader-apart.ts';
import type { ReadPolicy } from './reader-lines.ts';

export const userLookup: UserLookup = { uidOf: (user) => findUser(user)?.uid };

/** @param known keys of texts that need not be read again. Rejects only with the signal's reason. */
export async function loadPolicyFile(
  file: string,
  known: readonly string[],
  signal: AbortSignal,
): Promise<Loaded<CompiledPolicy>> {
  const isLarge = sizeOf(file) > limits.policyInlineBytesMax;
  const read = isLarge ? await readApart(file, known, signal) : readHere(file, known);
  if (read.kind !== 'value') return read;
  const { parsed, lookup } = read.value;
  const compiled = await inSlices(compileSteps(parsed, lookup), signal);
  return compiled.ok
    ? { kind: 'value', key: read.key, value: compiled.value }
    : { kind: 'refused', key: read.key, issues: compiled.issues };
}

function sizeOf(file: string): number {
  try {
    return statSync(file).size;
  } catch {
    // Reading it tells why it cannot be read.
    return 0;
  }
}

function readHere(file: string, known: readonly string[]): Loaded<ReadPolicy> {
  const text = readVersion(file, known);
  if (text.kind !== 'value') return text;
  const parsed = parsePolicy(text.value, file, draftProblems);
  return parsed.ok
    ? { kind: 'value', key: text.key, value: { parsed: parsed.value, lookup: userLookup } }
    : { kind: 'refused', key: text.key, issues: parsed.issues };
}

/** The text, where it is not known. */
export function readVersion(file: string, known: readonly string[]): Loaded<string> {
  const text = readText(file, limits.policyBytesMax);
  const key = text.ok ? policyVersion(text.value) : text.issues.map(formatIssue).join('\n');
  if (known.includes(key)) return { kind: 'known', key };
  return text.ok ? { kind: 'value', key, value: text.value } : { kind: 'refused', key, issues: text.issues };
}
