/**
 * `<stateDir>/sidecar.json`: which processes this sidecar is. Written for `status` and `stop`; a process is
 * named by pid and start time, since a pid alone may be somebody else's by now.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { startTicksOf } from '../filters/common/start-ticks.ts';

const processSchema = z.object({ name: z.string(), pid: z.int(), startTicks: z.string() });
const runFileSchema = z.object({
  /** The sidecar itself first, then whatever ends with it. */
  processes: z.array(processSchema).min(1),
  runDir: z.string(),
});

export type ProcessRef = z.output<typeof processSchema>;
export type RunFile = Readonly<{ processes: readonly ProcessRef[]; runDir: string }>;

const fileOf = (stateDir: string): string => path.join(stateDir, 'sidecar.json');

export const processRef = (name: string, pid: number): ProcessRef => ({
  name,
  pid,
  // Empty where it is unknown.
  startTicks: startTicksOf(pid) ?? '',
});

export function isRunning(ref: ProcessRef): boolean {
  try {
    process.kill(ref.pid, 0);
  } catch (thrown) {
    // EPERM: it is there, and somebody else's.
    if (!(thrown instanceof Error && 'code' in thrown && thrown.code === 'EPERM')) return false;
  }
  return (
    (startTicksOf(ref.pid) ?? '') === ref.startTicks &&
    (ref.startTicks !== '' || process.platform !== 'linux')
  );
}

export function writeRunFile(stateDir: string, content: RunFile): void {
  const draft = `${fileOf(stateDir)}.new`;
  writeFileSync(draft, `${JSON.stringify(content)}\n`, { mode: 0o600 });
  renameSync(draft, fileOf(stateDir));
}

/** Undefined where there is none, or what is there cannot be read. */
export function readRunFile(stateDir: string): RunFile | undefined {
  try {
    const parsed = runFileSchema.safeParse(JSON.parse(readFileSync(fileOf(stateDir), 'utf8')));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

export const removeRunFile = (stateDir: string): void => rmSync(fileOf(stateDir), { force: true });
