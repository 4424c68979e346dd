/** `sallyport stop`: ends the sidecar and all it started, waits for their end, and says what ended. */
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { limits } from '../../../config/limits.ts';
import { isRunning, readRunFile, removeRunFile } from '../../run-file.ts';
import { adminClient } from '../client.ts';
import { CommandFailure, createOutput, exitCodes } from '../output.ts';
import { runningOf, signal, untilEnded } from '../processes.ts';
import type { Flags } from '../program.ts';
import { commandSettings } from '../settings.ts';

/** A run file that may not be read is not one that is not there. */
function assertReadable(stateDir: string): void {
  try {
    accessSync(stateDir, constants.R_OK | constants.X_OK);
  } catch (thrown) {
    if (!(thrown instanceof Error && 'code' in thrown && thrown.code === 'EACCES')) return;
    throw new CommandFailure(
      `user ${process.getuid?.() ?? '?'} may not look into ${stateDir}`,
      'Run this as the user that runs the sidecar.',
    );
  }
}

export async function stop(flags: Flags): Promise<number> {
  const output = createOutput(flags.json === true);
  const settings = commandSettings(flags);
  assertReadable(settings.state_dir);
  const file = readRunFile(settings.state_dir);
  const processes = await runningOf(file, settings.state_dir);
  const sidecar = processes.find((ref) => ref.name === 'sidecar');
  if (file === undefined || processes.length === 0) {
    if (file !== undefined) removeRunFile(settings.state_dir);
    output.value({ stopped: [] });
    output.line('nothing runs here');
    return exitCodes.ok;
  }
  if (sidecar !== undefined) {
    try {
      await adminClient(path.join(file.runDir, 'admin.sock')).post('/v1/stop');
    } catch (thrown) {
      if (!(thrown instanceof CommandFailure)) throw thrown;
      // It may be starting, or hang: the signal asks the same.
      signal([sidecar], 'SIGTERM');
    }
    await untilEnded([sidecar], limits.commandWaitMs);
  }
  // A sidecar that was killed could not end its own; one that hangs is ended here.
  for (const name of ['SIGTERM', 'SIGKILL'] as const) {
    const left = processes.filter(isRunning);
    if (left.length === 0) break;
    signal(left, name);
    await untilEnded(left, limits.stopTimeoutMs);
  }
  const left = processes.filter(isRunning);
  if (left.length > 0)
    throw new CommandFailure(
      `still running: ${left.map((ref) => `${ref.name} (pid ${ref.pid})`).join(', ')}`,
    );
  removeRunFile(settings.state_dir);
  output.value({ stopped: processes.map(({ name, pid }) => ({ name, pid })) });
  output.line(`ended: ${processes.map((ref) => `${ref.name} (pid ${ref.pid})`).join(', ')}`);
  return exitCodes.ok;
}
