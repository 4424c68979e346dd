/** `sallyport stop`: ends the sidecar and all it started, waits for their end, and says what ended. */

import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { limits } from '../../../config/limits.ts';
import { envoyPaths } from '../../../envoy/paths.ts';
import { recorded } from '../../../envoy/process.ts';
import { isRunning, type ProcessRef, type RunFile, readRunFile, removeRunFile } from '../../run-file.ts';
import { adminClient } from '../client.ts';
import { CommandFailure, createOutput, exitCodes } from '../output.ts';
import type { Flags } from '../program.ts';
import { commandSettings } from '../settings.ts';

const pollMs = 50;

/** Until all have ended or the time is over; returns those that still run. */
async function untilEnded(processes: readonly ProcessRef[], waitMs: number): Promise<readonly ProcessRef[]> {
  const deadline = performance.now() + waitMs;
  let left = processes.filter(isRunning);
  while (left.length > 0 && performance.now() < deadline) {
    await delay(pollMs);
    left = left.filter(isRunning);
  }
  return left;
}

function signal(processes: readonly ProcessRef[], name: 'SIGTERM' | 'SIGKILL'): void {
  for (const { pid } of processes) {
    try {
      process.kill(pid, name);
    } catch (thrown) {
      const code = thrown instanceof Error && 'code' in thrown ? thrown.code : '';
      if (code === 'EPERM')
        throw new CommandFailure(
          `user ${process.getuid?.() ?? '?'} may not end pid ${pid}`,
          'Run this as the user that runs the sidecar.',
        );
      // ESRCH: it ended by itself meanwhile.
      if (code !== 'ESRCH') throw thrown;
    }
  }
}

/** What the run file names and lives, and Envoy where it was started again since. */
async function runningOf(file: RunFile | undefined, stateDir: string): Promise<readonly ProcessRef[]> {
  if (file === undefined) return [];
  const envoy = await recorded(envoyPaths(file.runDir, stateDir, ''));
  const named = file.processes.filter((ref) => ref.pid !== envoy?.pid);
  const { pid, startTicks } = envoy ?? { pid: 0, startTicks: '' };
  return [...named, ...(pid === 0 ? [] : [{ name: 'envoy', pid, startTicks }])].filter(isRunning);
}

export async function stop(flags: Flags): Promise<number> {
  const output = createOutput(flags.json === true);
  const settings = commandSettings(flags);
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
