/** `sallyport trace ID`: everything that is on record of one decision, in one picture. */

import { traceOf } from '../../trace.ts';
import { findMeant } from '../../trace-find.ts';
import { progressOn } from '../journal.ts';
import { CommandFailure, createOutput, exitCodes, snakeCased } from '../output.ts';
import type { Flags } from '../program.ts';
import { commandSettings } from '../settings.ts';
import { picture } from '../trace-picture.ts';

export async function trace(text: string, flags: Flags): Promise<number> {
  const output = createOutput(flags.json === true);
  const { state_dir: stateDir } = commandSettings(flags);
  const meant = findMeant(stateDir, text, progressOn(output));
  switch (meant.kind) {
    case 'malformed':
      throw new CommandFailure(
        `${JSON.stringify(text.slice(0, 100))} is no id`,
        'Give the id of a decision (dec_…), of one call of a lease (dec_…#3), of a hold (hold_…), the beginning of either, or a trace id of 32 hex digits.',
        exitCodes.usage,
      );
    case 'no journal':
      throw new CommandFailure(
        `there is no journal in ${stateDir}`,
        'Name the state directory of the sidecar with --state-dir.',
        exitCodes.usage,
      );
    case 'none':
      throw new CommandFailure(
        `no decision ${text} is on record in ${stateDir}`,
        'The journal keeps so much and no more; `sallyport decisions` shows the newest.',
      );
    case 'erased':
      throw new CommandFailure(
        `what ${meant.id} said is erased, by ${meant.by} (${meant.why}); ${/^\d+$/.test(meant.leaves) ? `leaf ${meant.leaves} is` : `leaves ${meant.leaves} are`} left of it`,
        `\`sallyport audit show ${meant.id}\` shows the erasure; \`sallyport audit prove NUMBER\` proves a leaf.`,
      );
    case 'many':
      throw new CommandFailure(
        `${text} is the beginning of ${meant.ids.length} decisions or more: ${meant.ids.slice(0, 5).join(', ')}${meant.ids.length > 5 ? ' …' : ''}`,
        'Give more of the id.',
        exitCodes.usage,
      );
    case 'one':
      break;
  }
  const found = await traceOf(stateDir, meant.id);
  if (found === undefined)
    throw new CommandFailure(
      `decision ${meant.id} is not on record any more`,
      'It was pruned while it was read.',
    );
  output.value({ ...found, uses: found.uses.map(snakeCased), span: snakeCased(found.span) });
  for (const line of picture(found, meant.ordinal)) output.line(line);
  return exitCodes.ok;
}
