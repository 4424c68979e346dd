/** `sallyport lockdown`: refuses everything and ends every connection, with and without a running sidecar. */
import { existsSync } from 'node:fs';
import { z } from 'zod';
import { envoyPaths } from '../../../envoy/paths.ts';
import { end, forget, isAlive, recorded } from '../../../envoy/process.ts';
import { createIds } from '../../../filters/common/ids.ts';
import { openJournal } from '../../../filters/common/journal-file.ts';
import { printable } from '../../../filters/common/printable.ts';
import { createClock } from '../../../filters/common/time.ts';
import { openDirectories } from '../../directories.ts';
import { acquireLock } from '../../lock.ts';
import { type Lockdown, type Locked, openLockdown } from '../../lockdown.ts';
import { caller, clientOf, NotRunning } from '../client.ts';
import { CommandFailure, createOutput, exitCodes } from '../output.ts';
import type { Flags } from '../program.ts';
import { type CommandSettings, commandSettings } from '../settings.ts';

const answerSchema = z.object({
  locked: z.object({ reason: z.string(), by: z.string(), since: z.string() }).nullable(),
});
type Answer = z.output<typeof answerSchema>;

/** How it was before the command, and is after it. */
type Change = Readonly<{ before: Answer['locked']; answer: unknown; isRunning: boolean }>;

async function ask(settings: CommandSettings, action: '' | '/lift', body: object): Promise<Change> {
  const client = clientOf(settings);
  const { locked: before } = answerSchema.parse(await client.get('/v1/lockdown'));
  return { before, answer: await client.post(`/v1/lockdown${action}`, body), isRunning: true };
}

/** Nobody else writes here: the next sidecar finds it so. An Envoy that a killed sidecar left behind is ended. */
async function here(settings: CommandSettings, change: (lockdown: Lockdown) => void): Promise<Change> {
  // A directory made here would be locked, and the one that was meant would not.
  if (!existsSync(settings.state_dir))
    throw new CommandFailure(
      `there is no state directory ${settings.state_dir}`,
      'Name the one of the sidecar with --state-dir.',
    );
  const { stateDir, runDir } = openDirectories(settings);
  const lock = acquireLock(stateDir);
  const clock = createClock();
  try {
    const journal = openJournal(stateDir, { clock });
    try {
      const lockdown = openLockdown({ stateDir, journal, ids: createIds(clock), clock });
      const before = lockdown.isLocked() ?? null;
      change(lockdown);
      const locked = lockdown.isLocked() ?? null;
      const paths = envoyPaths(runDir, stateDir, '');
      const envoy = await recorded(paths);
      if (locked !== null && envoy !== undefined && isAlive(envoy)) {
        await end(envoy, clock);
        await forget(paths);
      }
      return { before, answer: { locked }, isRunning: false };
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
  const lift = flags.lift === true;
  let change: Change;
  try {
    change = await ask(settings, lift ? '/lift' : '', lift ? { by } : { by, reason });
  } catch (thrown) {
    if (!(thrown instanceof NotRunning)) throw thrown;
    change = await here(settings, (one) => (lift ? one.lift(by) : one.lock(by, reason)));
  }
  const { before, answer, isRunning } = change;
  output.value(answer);
  const { locked } = answerSchema.parse(answer);
  const told = ({ since, by: who, reason: why }: Locked): string =>
    `since ${since} by ${who}${why === '' ? '' : ` (${why})`}`;
  if (locked === null)
    output.line(
      before === null ? 'no lockdown holds' : printable(`lifted: it was locked ${told(before)}`, 1_000),
    );
  else
    output.line(
      printable(
        `${before === null ? '' : 'a lockdown holds already, and stays as it is: '}locked ${told(locked)}: ${isRunning ? 'everything is refused, and open connections are ended' : 'no sidecar runs; the next one starts locked'}`,
        1_000,
      ),
    );
  return exitCodes.ok;
}
