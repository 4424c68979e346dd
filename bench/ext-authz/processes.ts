/** Processes of a bench: each starts when it answers, keeps its output in a file, and ends with the bench. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { request } from 'node:http';

const startMs = 30_000;
const stopMs = 15_000;

export type Ended = () => Promise<void>;

export type Reply = Readonly<{ status: number; headers: Readonly<Record<string, unknown>>; body: string }>;

/** One GET on a connection of its own. */
export const get = (
  to: Readonly<{ port: number } | { socketPath: string }>,
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Reply> =>
  new Promise((resolve, reject) => {
    const sent = request(
      { ...to, host: '127.0.0.1', path, headers, agent: false, timeout: 5_000 },
      (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(parts).toString('utf8'),
          }),
        );
      },
    );
    sent.on('timeout', () => sent.destroy(new Error(`${path} was not answered in 5 s`)));
    sent.on('error', reject);
    sent.end();
  });

/** User and system time of a process so far, in milliseconds (proc(5): fields 14 and 15, in hundredths). */
export function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** @param isUp asked until it says true. What the process said is in the error where it never does. */
export async function launch(
  command: readonly string[],
  logFile: string,
  isUp: () => Promise<boolean>,
): Promise<Readonly<{ pid: number; end: Ended }>> {
  const [program = '', ...args] = command;
  const log = openSync(logFile, 'a');
  const child = spawn(program, args, { stdio: ['ignore', log, log] });
  closeSync(log);
  const gone = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  const end = (): Promise<void> => endChild(child, gone);
  const until = performance.now() + startMs;
  while (!(await isUp().catch(() => false))) {
    if (child.exitCode !== null || child.signalCode !== null || performance.now() > until) {
      await end();
      throw new Error(`${args.join(' ')} did not start: ${readFileSync(logFile, 'utf8').slice(-2_000)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  return { pid: child.pid ?? 0, end };
}

async function endChild(child: ChildProcess, gone: Promise<void>): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  const hard = setTimeout(() => child.kill('SIGKILL'), stopMs);
  await gone;
  clearTimeout(hard);
}
