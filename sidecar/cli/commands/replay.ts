/** `sallyport replay`: what a policy would have decided otherwise. Reads the journal, touches nothing. */
import { existsSync } from 'node:fs';
import { limits } from '../../../config/limits.ts';
import { formatIssue } from '../../../config/policy/issue.ts';
import { printable } from '../../../filters/common/printable.ts';
import type { CompiledPolicy } from '../../../filters/policy/compiled.ts';
import { type Change, changes, createReplay } from '../../replay.ts';
import { decisionOf } from '../../replay-record.ts';
import { type Count, createReporter, type Group, type Report } from '../../replay-report.ts';
import { gapsOf, journalOf, progressOn } from '../journal.ts';
import {
  CommandFailure,
  createOutput,
  exitCodes,
  type Output,
  printableLines,
  snakeCased,
} from '../output.ts';
import type { Flags } from '../program.ts';
import { commandSettings } from '../settings.ts';
import { shownTime, sinceMs } from '../since.ts';
import { compileFile } from './check.ts';

type Options = Flags &
  Readonly<{ since: string; examples: number; failOn: string; recordedUnder: readonly string[] }>;

const failures = [...changes, 'undetermined', 'none'] as const;

function failOnOf(text: string): readonly string[] {
  const kinds = text.split(',').map((kind) => kind.trim());
  const wrong = kinds.find((kind) => !failures.some((known) => known === kind));
  if (wrong !== undefined)
    throw new CommandFailure(
      `--fail-on ${JSON.stringify(wrong)} is no kind of change`,
      `Join some of these by commas: ${failures.join(', ')}.`,
      exitCodes.usage,
    );
  return kinds.filter((kind) => kind !== 'none');
}

/** Bad input ends with 2 here: 1 says that something changed. */
function candidateOf(file: string): CompiledPolicy {
  const result = compileFile(file);
  if (result.ok) return result.value;
  throw new CommandFailure(
    result.issues.slice(0, limits.policyErrorsShownMax).map(formatIssue).join('\n'),
    `Correct ${result.issues.length === 1 ? 'this' : 'these'}; \`sallyport check ${file}\` shows what is left.`,
    exitCodes.usage,
  );
}

/** The policy of the settings is most often the one that the records were made under; a broken one tells nothing. */
function earlierPolicies(named: readonly string[], live: string): CompiledPolicy[] {
  const found = named.map(candidateOf);
  const current = existsSync(live) ? compileFile(live) : undefined;
  return current?.ok === true ? [...found, current.value] : found;
}

export function replay(file: string, options: Options): number {
  const output = createOutput(options.json === true);
  const failOn = failOnOf(options.failOn);
  const since = sinceMs(options.since, Date.now());
  const settings = commandSettings(options);
  const candidate = candidateOf(file);
  const scan = journalOf(settings.state_dir, { sinceMs: since, onProgress: progressOn(output) });
  const run = createReplay(candidate, earlierPolicies(options.recordedUnder, settings.policy));
  const reporter = createReporter(options.examples);
  for (const record of scan.records()) {
    const decision = decisionOf(record);
    if (decision !== undefined) reporter.add(decision, run(decision));
  }
  const report = reporter.report();
  const failed = failOn.filter((kind) => countOf(report, kind).decisions > 0);
  output.value({
    policy: file,
    policy_version: candidate.version,
    state_dir: settings.state_dir,
    since: new Date(since).toISOString(),
    journal_begins: scan.beginsMs === undefined ? null : new Date(scan.beginsMs).toISOString(),
    unreadable_lines: scan.unreadable(),
    erased_records: scan.erased(),
    ...snakeCased(report),
    fail_on: failOn,
    failed,
  });
  for (const gap of gapsOf(scan, since)) output.note(gap);
  show(report, `${file} (version ${candidate.version})`, since, output);
  if (report.total.decisions === 0) {
    output.note(`no decision is on record since ${shownTime(since)}: nothing was compared`);
    return exitCodes.usage;
  }
  return failed.length > 0 ? exitCodes.failed : exitCodes.ok;
}

const isCounted = (kind: string): kind is Change | 'undetermined' => failures.some((known) => known === kind);
const countOf = (report: Report, kind: string): Count =>
  isCounted(kind) ? report[kind] : { decisions: 0, calls: 0 };

const counted = ({ decisions, calls }: Count): string =>
  calls === decisions ? String(decisions) : `${decisions} (${calls} calls)`;

const titles = {
  'newly-allowed': 'newly allowed',
  'newly-denied': 'newly denied',
  'newly-held': 'newly held',
  undetermined: 'undetermined',
} as const;

function show(report: Report, policy: string, since: number, output: Output): void {
  output.line(
    printable(`${counted(report.total)} decisions since ${shownTime(since)} under ${policy}`, 2_000),
  );
  for (const kind of [...changes, 'undetermined'] as const)
    output.line(`  ${titles[kind].padEnd(14)} ${counted(report[kind])}`);
  output.line(`  ${'unchanged'.padEnd(14)} ${counted(report.unchanged)}`);
  const beside = Object.entries(report.beside).map(([code, count]) => `${code} ${count}`);
  if (beside.length > 0)
    output.line(
      `  ${'not compared'.padEnd(14)} ${printable(beside.join(', '), 1_000)}: not refused by rules`,
    );
  for (const { rule, reads, ...count } of report.doubts)
    output.line(
      printable(
        `  cannot be said for ${counted(count)}: ${rule === '' ? '' : `rule ${rule} reads `}${reads}, which no record holds`,
      ),
    );
  for (const kind of [...changes, 'undetermined'] as const) {
    const groups = report.groups.filter(({ change }) => change === kind);
    if (groups.length === 0) continue;
    output.line();
    output.line(titles[kind].toUpperCase());
    for (const group of groups.slice(0, shownGroups)) showGroup(group, output);
    if (groups.length > shownGroups)
      output.line(`  and ${groups.length - shownGroups} more groups; --json has them all`);
  }
}

const shownGroups = 50;

function showGroup(group: Group, output: Output): void {
  const by = (fate: string, rule: string): string =>
    [fate, rule === '' ? 'by no rule' : `by ${rule}`].filter((part) => part !== '').join(' ');
  const after =
    group.change === 'undetermined'
      ? `${group.rule_after === '' ? '' : `rule ${group.rule_after} reads `}${group.reads}`
      : by(group.after, group.rule_after);
  output.line(
    printableLines(
      `  ${counted(group)} × ${group.agent || '?'} ${group.what} ${group.resource}\n      ${by(group.before, group.rule_before)} → ${after}`,
    ),
  );
  for (const { id, at, resource } of group.examples)
    output.line(printable(`      ${at} ${id} ${resource}`, 600));
}
