/** The processes of a sidecar, as the state directory names them: which run, and their end. */
import { setTimeout as delay } from 'node:timers/promises';
import { envoyPaths } from '../../envoy/paths.ts';
import { recorded } from '../../envoy/process.ts';
import { isRunning, type ProcessRef, type RunFile, readRunFile } from '../run-file.ts';
import { CommandFailure } from './output.ts';

const pollMs = 50;

/** What the run file names and lives, and Envoy where it was started again since. */
export async function runningOf(file: RunFile | undefined, stateDir: string): Promise<readonly ProcessRef[]> {
  if (file === undefined) return [];
  const envoy = await recorded(envoyPaths(file.runDir, stateDir, ''));
  const named = file.processes.filter((ref) => ref.pid !== envoy?.pid);
  const { pid, startTicks } = envoy ?? { pid: 0, startTicks: '' };
  return [...named, ...(pid === 0 ? [] : [{ name: 'envoy', pid, startTicks }])].filter(isRunning);
}

/** Until all have ended or the time is over; returns those that still run. */
export async function untilEnded(
  processes: readonly ProcessRef[],
  waitMs: number,
): Promise<readonly ProcessRef[]> {
  const deadline = performance.now() + waitMs;
  let left = processes.filter(isRunning);
  while (left.length > 0 && performance.now() < deadline) {
    await delay(pollMs);
    left = left.filter(isRunning);
  }
  return left;
}

export function signal(processes: readonly ProcessRef[], name: 'SIGTERM' | 'SIGKILL'): void {
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

/** Ends whatever else this sidecar is, without waiting for it. */
export async function killOthers(stateDir: string): Promise<void> {
  const file = readRunFile(stateDir);
  // Not ours: a start that was refused has written none.
  if (file?.processes[0]?.pid !== process.pid) return;
  signal(
    (await runningOf(file, stateDir)).filter(({ pid }) => pid !== process.pid),
    'SIGKILL',
  );
}
