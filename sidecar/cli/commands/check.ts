/** `sallyport check` and `sallyport test`: without a sidecar, and without touching its state. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { METHODS } from 'node:http';
import path from 'node:path';
import { limits } from '../../../config/limits.ts';
import { formatIssue, type Refusal, type Result } from '../../../config/policy/issue.ts';
import { loadPolicy } from '../../../config/policy/parse.ts';
import { parseCases, runCases } from '../../../filters/policy/cases.ts';
import { compilePolicy } from '../../../filters/policy/compile.ts';
import type { CompiledPolicy } from '../../../filters/policy/compiled.ts';
import { draftProblems } from '../../../filters/policy/draft.ts';
import { userLookup } from '../../../filters/policy/reader.ts';
import { described } from '../../explain.ts';
import { asTyped } from '../../invocation.ts';
import { CommandFailure, exitCodes, type Output, printableLines, shellWord } from '../output.ts';

export function readBounded(file: string, what: string, bytesMax: number): string {
  try {
    const { size } = statSync(file);
    if (size > bytesMax)
      throw new CommandFailure(`${what} ${file} is ${size} bytes, the limit is ${bytesMax}`);
    return readFileSync(file, 'utf8');
  } catch (thrown) {
    if (thrown instanceof CommandFailure) throw thrown;
    throw new CommandFailure(
      `${what} ${file} cannot be read: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
      'Check the path.',
      exitCodes.usage,
    );
  }
}

export function compileFile(file: string): Result<CompiledPolicy> {
  if (!existsSync(file))
    throw new CommandFailure(`policy ${file} does not exist`, 'Check the path.', exitCodes.usage);
  const parsed = loadPolicy(file, draftProblems);
  return parsed.ok ? compilePolicy(parsed.value, userLookup) : parsed;
}

/** The policy, or a failure that lists everything that is wrong with it. */
export function validPolicy(file: string): CompiledPolicy {
  const result = compileFile(file);
  if (result.ok) return result.value;
  throw new CommandFailure(
    result.issues.map(formatIssue).join('\n'),
    `Correct ${result.issues.length === 1 ? 'this' : 'these'}; \`sallyport check ${file}\` shows what is left.`,
  );
}

function showIssues({ issues, count = issues.length }: Refusal, output: Output): void {
  for (const issue of issues) output.line(printableLines(formatIssue(issue)));
  output.line(`${count} ${count === 1 ? 'error' : 'errors'}`);
}

/** A rule for a method that nobody sends is most often one that is mistyped. */
const oddMethods = (
  rules: readonly Readonly<{ name: string; to: { methods?: readonly string[] | undefined } }>[],
): string[] =>
  rules.flatMap(({ name, to }) =>
    (to.methods ?? [])
      .filter((method) => !METHODS.includes(method))
      .map((method) => `rule ${name}: ${method} is no method that HTTP knows`),
  );

export function check(file: string, output: Output): number {
  const result = compileFile(file);
  if (!result.ok) {
    output.value({ ok: false, file, issues: result.issues });
    showIssues(result, output);
    return exitCodes.failed;
  }
  const { version, source } = result.value;
  const counts = {
    agents: Object.keys(source.agents).length,
    rules: source.rules.length,
    quotas: source.quotas.length,
    approvers: Object.keys(source.approvers).length,
  };
  const warnings = oddMethods(source.rules);
  output.value({ ok: true, file, version, ...counts, warnings });
  for (const warning of warnings) output.line(printableLines(`warning: ${warning}`));
  output.line(
    `${file} is valid: version ${version}, ${counts.agents} agents, ${counts.rules} rules, ${counts.quotas} quotas`,
  );
  return exitCodes.ok;
}

function casesBeside(policy: string): string {
  const { dir, name, ext } = path.parse(policy);
  for (const candidate of [`${name}.cases${ext}`, `cases${ext}`]) {
    const file = path.join(dir, candidate);
    if (existsSync(file)) return file;
  }
  throw new CommandFailure(
    `there are no cases beside ${policy}`,
    `Write them to ${path.join(dir, `${name}.cases${ext}`)}, or name the file: \`sallyport test ${policy} CASES\``,
    exitCodes.usage,
  );
}

export function testPolicy(file: string, casesFile: string | undefined, output: Output): number {
  const policy = validPolicy(file);
  const from = casesFile ?? casesBeside(file);
  const cases = parseCases(readBounded(from, 'cases', limits.policyBytesMax), from);
  if (!cases.ok) {
    output.value({ ok: false, file: from, issues: cases.issues });
    showIssues(cases, output);
    return exitCodes.failed;
  }
  const results = runCases(
    policy,
    cases.value,
    Date.now(),
    // A case names no content type of its own: its body is what an MCP client sends.
    (method, url, body) =>
      described(policy, {
        method,
        url,
        headers: { 'content-type': 'application/json' },
        body: new TextDecoder().decode(body),
      }).destination,
  );
  const failed = results.filter((result) => !result.ok);
  output.value({ ok: failed.length === 0 && results.length > 0, policy: file, cases: from, results });
  for (const [index, result] of results.entries()) {
    output.line(
      printableLines(`${result.ok ? 'ok  ' : 'FAIL'} ${result.name}${result.ok ? '' : `: ${result.why}`}`),
    );
    const one = cases.value[index];
    if (result.ok || one === undefined) continue;
    const words = ['explain', file, one.request.method, one.request.url, '--agent', one.agent];
    const asked = asTyped(`\`sallyport ${words.map(shellWord).join(' ')}\``);
    output.line(printableLines(`     ${asked} tells why each rule does not decide it`));
  }
  output.line(`${results.length - failed.length} of ${results.length} cases as expected`);
  // No case is no proof.
  return failed.length === 0 && results.length > 0 ? exitCodes.ok : exitCodes.failed;
}
