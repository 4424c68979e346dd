/** The commands that read what is on record: replay, suggest, trace. They work with and without a running sidecar. */
import { type Command, InvalidArgumentError } from 'commander';
import { limits } from '../../config/limits.ts';
import { invocation } from '../invocation.ts';
import type { Flags } from './program.ts';

type Add = (name: string, summary: string) => Command;

const flagsOf = <T extends object>(command: Command): T & Flags => command.optsWithGlobals<T & Flags>();

const whole =
  (min: number, max: number) =>
  (text: string): number => {
    if (/^\d{1,9}$/.test(text) && Number(text) >= min && Number(text) <= max) return Number(text);
    throw new InvalidArgumentError(`a whole number from ${min} to ${max}, not ${text}`);
  };

const collect = (value: string, before: readonly string[]): readonly string[] => [...before, value];

const since = [
  '--since <when>',
  'how far back: 30m, 24h, 7d, or a date such as 2026-11-20T08:00Z',
  '24h',
] as const;

export function recordCommands(add: Add, exit: (code: number) => void): void {
  replayCommand(add, exit);
  suggestCommand(add, exit);
  traceCommand(add, exit);
}

function replayCommand(add: Add, exit: (code: number) => void): void {
  add('replay', 'what a changed policy would have decided otherwise, over the decisions on record')
    .argument('<policy>', 'the policy to try; the one that holds is not touched')
    .option(...since)
    .option('--fail-on <kinds>', 'which changes end with status 1', 'newly-allowed,newly-denied,newly-held')
    .option('--examples <n>', 'examples shown of each group', whole(0, limits.replayExamplesMax), 3)
    .option(
      '--recorded-under <policy>',
      'a policy that held then, so that its unchanged rules are known to say the same; may be repeated (the policy of the settings always is one)',
      collect,
      [],
    )
    .addHelpText(
      'after',
      `
Examples:
  ${invocation} replay policy.yaml                         what would the last day have been under policy.yaml?
  ${invocation} replay policy.yaml --since 7d --json       the same of a week, as one JSON value
  ${invocation} replay policy.yaml --fail-on newly-allowed in CI: fails only where more would have passed

Kinds for --fail-on, joined by commas: newly-allowed, newly-denied, newly-held, undetermined; or none.
undetermined: a rule reads headers, query or body of the request, which no record holds.
Quotas, addresses and people's answers are not replayed.

Exit status: 0 none of these changes, 1 some, 2 wrong input, or no decision on record in that time.`,
    )
    .action(async (file: string, _options, command: Command) => {
      const { replay } = await import('./commands/replay.ts');
      type Options = { since: string; failOn: string; examples: number; recordedUnder: readonly string[] };
      exit(replay(file, flagsOf<Options>(command)));
    });
}

function suggestCommand(add: Add, exit: (code: number) => void): void {
  add('suggest', 'rules that would cover what shadow mode saw, narrowest first, as YAML')
    .option(...since)
    .option('--policy <file>', 'the policy that the rules are for (default: the one of the settings)')
    .option('--denied', 'also for what was denied because no rule allows it')
    .addHelpText(
      'after',
      `
Examples:
  ${invocation} suggest                      rules for what rules in shadow mode would have decided, of the last day
  ${invocation} suggest --denied --since 7d  and for what no rule allowed, of a week
  ${invocation} suggest > new-rules.yaml && ${invocation} check new-rules.yaml

The way to a first policy: put one rule with \`mode: shadow\` on the hosts that an agent may need, let it work,
then take the rules from here that are right. Each names exact hosts, methods and paths; from ${limits.suggestIdsMin} different
ids at one place of a path on it has \`*\` there, and wherever a part of a path looks like a secret. The comments say
how many calls a rule covers, with examples. Nothing is changed: read each rule before you add it.`,
    )
    .action(async (_options, command: Command) => {
      const { suggestCommand: run } = await import('./commands/suggest.ts');
      exit(run(flagsOf<{ since: string; denied?: boolean; policy?: string }>(command)));
    });
}

function traceCommand(add: Add, exit: (code: number) => void): void {
  add('trace', 'everything on record of one decision, in one picture')
    .argument(
      '<id>',
      'of a decision (dec_…) or one call of a lease (dec_…#3), of its hold, of its trace; a beginning is enough',
    )
    .addHelpText(
      'after',
      `
Examples:
  ${invocation} trace dec_01M7J8        the beginning of an id is enough where only one decision has it
  ${invocation} trace 'dec_01M7…#3'     the third call of a lease
  ${invocation} trace hold_01M7…        the last decision about this hold

The id is in the sidecar's log, in \`${invocation} decisions\`, in the x-sallyport-decision header of each answer, and in
the access log. The picture: request, agent, rule and why, quotas, lease, pinned address, hold and who decided it, what
the destination answered, bytes, settlement, usage, and whether the audit log proves the record.`,
    )
    .action(async (id: string, _options, command: Command) => {
      const { trace } = await import('./commands/trace.ts');
      exit(await trace(id, flagsOf(command)));
    });
}
