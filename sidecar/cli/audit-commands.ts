/** The commands about the audit log. All but `erase` read files: no sidecar has to run. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { limits } from '../../config/limits.ts';
import { eventNames } from '../../filters/audit/entry.ts';
import type { AuditFlags } from './commands/audit.ts';
import type { Flags } from './program.ts';

type Add = (name: string, summary: string, of?: Command) => Command;

const flagsOf = <T extends object>(command: Command): T & Flags => command.optsWithGlobals<T & Flags>();

const count =
  (max: number) =>
  (text: string): number => {
    if (/^\d{1,9}$/.test(text) && Number(text) >= 1 && Number(text) <= max) return Number(text);
    throw new InvalidArgumentError(`a whole number from 1 to ${max}, not ${text}`);
  };

const filtered = (command: Command): Command =>
  command
    .option('--agent <id>', 'of this agent: its SPIFFE ID, or what stands after its last slash')
    .option('--chain <id>', 'on behalf of this one: anybody in the delegation chain')
    .option('--what <method>', 'a method (POST), or all of it (POST tools/call search)')
    .option('--resource <text>', 'whose resource holds this text')
    .addOption(
      new Option('--outcome <outcome>', 'what came of it').choices([
        'Success',
        'Failure',
        'Denied',
        'Timeout',
      ]),
    )
    .addOption(new Option('--event <event>', 'what happened').choices([...eventNames]))
    .option('--since <when>', 'from then on: 30m, 24h, 7d ago, or a date')
    .option('--until <when>', 'before that');

export function auditCommands(add: Add, exit: (code: number) => void): void {
  const audit = add('audit', 'what was decided and done, and the proof of it');
  filtered(add('tail', 'the newest records, the newest last', audit))
    .option('--limit <n>', 'how many', count(limits.adminPageItemsMax), 20)
    .action(async (_options, command: Command) => {
      const { tail } = await import('./commands/audit.ts');
      exit(tail(flagsOf<AuditFlags & { limit: number }>(command)));
    });
  add('show', 'everything on record under an id, or of one leaf, and where it is in the log', audit)
    .argument('<id>', 'dec_…, hold_…, aud_… or the beginning of one, or the number of a leaf')
    .action(async (id: string, _options, command: Command) => {
      const { show } = await import('./commands/audit.ts');
      exit(await show(id, flagsOf(command)));
    });
  add('verify', 'check the whole log, or one receipt', audit)
    .argument('[receipt]', 'a receipt of `audit prove`; - is standard input')
    .option('--keys <file>', 'verifier keys (vkeys) to believe, a line each (default: those beside the log)')
    .option(
      '--against <file>',
      'an earlier checkpoint, kept elsewhere, that the log has to have grown out of',
    )
    .addHelpText(
      'after',
      `
The keys beside the log are as safe as the state directory: whoever can write there can put others in their place.
Keep the lines of \`audit/vkeys\` and a checkpoint elsewhere, and name them here. examples/verifier does the same
check without any of this program's code.

Exit status: 0 all is well, 1 something is not, 2 wrong usage.`,
    )
    .action(async (receipt: string | undefined, _options, command: Command) => {
      const { verify } = await import('./commands/audit.ts');
      exit(await verify(receipt, flagsOf<{ keys?: string; against?: string }>(command)));
    });
  add('prove', 'a receipt (C2SP tlog-proof): this record is in the log, for whoever has its keys', audit)
    .argument('<id>', 'dec_…, hold_…, aud_… or the beginning of one, or the number of a leaf')
    .option('--content', 'with the record itself, so that the receipt also shows what it says')
    .action(async (id: string, _options, command: Command) => {
      const { prove } = await import('./commands/audit.ts');
      exit(await prove(id, flagsOf<{ content?: boolean }>(command)));
    });
  const exported = filtered(
    add('export', 'every record that fits, oldest first, one JSON object a line', audit),
  );
  for (const option of exported.options)
    if (option.long === '--json')
      option.description = 'accepted, and changes nothing: JSON lines in either form';
  exported
    .addOption(
      new Option('--format <format>', 'OCSF 1.8 API Activity, or CloudEvents 1.0')
        .choices(['ocsf', 'cloudevents'])
        .makeOptionMandatory(),
    )
    .action(async (_options, command: Command) => {
      const { exportRecords } = await import('./commands/audit.ts');
      exit(await exportRecords(flagsOf<AuditFlags & { format: 'ocsf' | 'cloudevents' }>(command)));
    });
  add('erase', 'erase what a record says; its leaf and every proof stay', audit)
    .argument('<id>', 'the id that records have, or the number of one leaf')
    .requiredOption('--why <text>', 'why, for the record of the erasure')
    .option('--by <person>', 'who asks for it (default: the user who calls this)')
    .action(async (id: string, _options, command: Command) => {
      const { erase } = await import('./commands/audit.ts');
      exit(await erase(id, flagsOf<{ why: string; by?: string }>(command)));
    });
}
