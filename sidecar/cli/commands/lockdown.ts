/** `sallyport lockdown`: refuses everything and ends every connection, with and without a running sidecar. */
import { z } from 'zod';
import { envoyPaths } from '../../../envoy/paths.ts';
import { end, forget, isAlive, recorded } from '../../../envoy/process.ts';
import { createIds } from '../../../filters/common/ids.ts';
import { openJournal } from '../../../filters/common/journal-file.ts';
import { printable } from '../../../filters/common/printable.ts';
import { createClock } from '../../../filters/common/time.ts';
import { openDirectories } from '../../directories.ts';
import { acquireLock } from '../../lock.ts';
import { type Lockdown, openLockdown } from '../../lockdown.ts';
import { clientOf, NotRunning } from '../client.ts';
import { CommandFailure, createOutput, exitCodes } from '../output.ts';
import type { Flags } from '../program.ts';
import { type CommandSettings, commandSettings } from '../settings.ts';
import { caller } from './holds.ts';

const answerSchema = z.object({
  locked: z.object({ reason: z.string(), by: z.string(), since: z.string() }).nullable(),
});
type Answer = z.output<typeof answerSchema>;

/** Nobody else writes here: the next sidecar finds it so. An Envoy that a killed sidecar left behind is ended. */
async function here(settings: CommandSettings, change: (lockdown: Lockdown) => void): Promise<Answer> {
  const { stateDir, runDir } = openDirectories(settings);
  const lock = acquireLock(stateDir);
  const clock = createClock();
  try {
    const journal = openJournal(stateDir, { clock });
    try {
      const lockdown = openLockdown({ stateDir, journal, ids: createIds(clock), clock });
      change(lockdown);
      const locked = lockdown.isLocked() ?? null;
      const paths = envoyPaths(runDir, stateDir, '');
      const envoy = await recorded(paths);
      if (locked !== null && envoy !== undefined && isAlive(envoy)) {
        await end(envoy, clock);
        await forget(paths);
      }
      return { locked };
    } finally {
      journal.close();
    }
  } finally {
    lock.release();
  }
}

export async function lockdown(
  flags: Flags & Readonly<{ reason?: string; by?: string; lift?: boolean }>,
): Promise<number> {
  const output = createOutput(flags.json === true);
  if (flags.lift === true && flags.reason !== undefined)
    throw new CommandFailure('--lift takes no --reason', 'Leave one of the two out.', exitCodes.usage);
  const settings = commandSettings(flags);
  const by = flags.by ?? caller();
  const { reason = '' } = flags;
  let answer: unknown;
  let isRunning = true;
  try {
    answer = await (flags.lift === true
      ? clientOf(settings).post('/v1/lockdown/lift', { by })
      : clientOf(settings).post('/v1/lockdown', { by, reason }));
  } catch (thrown) {
    if (!(thrown instanceof NotRunning)) throw thrown;
    isRunning = false;
    answer = await here(settings, (one) => (flags.lift === true ? one.lift(by) : one.lock(by, reason)));
  }
  output.value(answer);
  const { locked } = answerSchema.parse(answer);
  if (locked === null) output.line('no lockdown holds');
  else
    output.line(
      printable(
        `locked since ${locked.since} by ${locked.by}${locked.reason === '' ? '' : ` (${locked.reason})`}: ${isRunning ? 'everything is refused, and open connections are ended' : 'no sidecar runs; the next one starts locked'}`,
        1_000,
      ),
    );
  return exitCodes.ok;
}
