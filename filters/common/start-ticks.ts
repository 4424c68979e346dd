/** Tells a process from a later one with the same number. */
import { readFileSync } from 'node:fs';

/** Field 22 of /proc/PID/stat (proc_pid_stat(5)): ticks from boot to its start; undefined where no such process lives. */
export function startTicksOf(pid: number): string | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && (thrown.code === 'ENOENT' || thrown.code === 'ESRCH'))
      return undefined;
    throw thrown;
  }
  // The second field is the command in brackets and may hold anything, brackets too.
  const [state, ...fields] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  // A zombie has ended; only its parent has not asked yet.
  return state === 'Z' ? undefined : fields[18];
}
