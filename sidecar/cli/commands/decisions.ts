/** `sallyport decisions`: the newest decisions, from the sidecar that runs or from the journal that it left. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { createReader } from '../../../filters/common/journal-read.ts';
import { printable } from '../../../filters/common/printable.ts';
import { clockTime } from '../../decision-line.ts';
import { newestDecisions } from '../../newest-decisions.ts';
import { clientOf, NotRunning } from '../client.ts';
import { CommandFailure, createOutput, exitCodes, table } from '../output.ts';
import type { Flags } from '../program.ts';
import { type CommandSettings, commandSettings } from '../settings.ts';

const decisionsSchema = z.object({
  decisions: z.array(
    z.object({
      id: z.string(),
      at: z.object({ physical_ns: z.string() }),
      kind: z.string(),
      code: z.string(),
      agent: z.string(),
      what: z.string(),
      resource: z.string(),
      rule: z.string(),
      why: z.string(),
    }),
  ),
});

/** Reads only: a sidecar that starts meanwhile is not disturbed. */
function fromJournal(stateDir: string, limit: number): Readonly<{ decisions: readonly unknown[] }> {
  const directory = path.join(stateDir, 'journal');
  if (!existsSync(directory))
    throw new CommandFailure(
      `no sidecar runs here, and there is no journal in ${stateDir}`,
      'Name the state directory with --state-dir.',
    );
  try {
    return { decisions: newestDecisions(createReader(directory), limit) };
  } catch (thrown) {
    throw new CommandFailure(
      `no sidecar runs here, and the journal ${directory} cannot be read: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
      'Run this as the user that runs the sidecar.',
    );
  }
}

async function newest(
  settings: CommandSettings,
  limit: number,
  note: (text: string) => void,
): Promise<unknown> {
  try {
    return await clientOf(settings).get(`/v1/decisions?limit=${limit}`);
  } catch (thrown) {
    if (!(thrown instanceof NotRunning)) throw thrown;
    const found = fromJournal(settings.state_dir, limit);
    note(`sallyport: no sidecar runs here; these are from the journal in ${settings.state_dir}`);
    return found;
  }
}

export async function decisions(flags: Flags & Readonly<{ limit: number }>): Promise<number> {
  const output = createOutput(flags.json === true);
  const answer = await newest(commandSettings(flags), flags.limit, output.note);
  output.value(answer);
  const found = decisionsSchema.parse(answer).decisions;
  if (found.length === 0) output.line('no decision yet');
  for (const row of table(
    found.map((decision) => [
      clockTime(Number(BigInt(decision.at.physical_ns) / 1_000_000n)),
      decision.code === '' ? decision.kind : decision.code,
      printable(decision.agent, 60) || '?',
      printable(`${decision.what} ${decision.resource}`, 120),
      decision.rule === '' ? '–' : decision.rule,
      decision.id,
      printable(decision.why, 120),
    ]),
  ))
    output.line(row);
  return exitCodes.ok;
}
