/** Runs a command with this terminal, passes signals on, and gives its exit status. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { limits } from '../../config/limits.ts';
import type { Launch } from './agent-user.ts';
import { CommandFailure } from './output.ts';

const forwarded = [
  'SIGTERM',
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGWINCH',
  'SIGCONT',
] as const;
/** A terminal sends these to its whole foreground group: the command has them already. */
const fromTerminal: ReadonlySet<string> = new Set(['SIGINT', 'SIGQUIT', 'SIGWINCH', 'SIGHUP']);

/** The command's status; 128 + n where signal n ended it. */
export function launch(
  what: Launch,
  options: Readonly<{
    env: Record<string, string>;
    cwd: string;
    /** Resolves when the command has to end before its time. */
    stop: Promise<void>;
  }>,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(what.file, [...what.args], {
      env: options.env,
      cwd: options.cwd,
      stdio: 'inherit',
      ...(what.uid === undefined ? {} : { uid: what.uid }),
      ...(what.gid === undefined ? {} : { gid: what.gid }),
    });
    const handlers = forwarded.map((name) => {
      const handler = (): void => {
        if (!(process.stdin.isTTY && fromTerminal.has(name))) child.kill(name);
      };
      process.on(name, handler);
      return [name, handler] as const;
    });
    let killer: NodeJS.Timeout | undefined;
    options.stop.then(() => {
      child.kill('SIGTERM');
      killer = setTimeout(() => child.kill('SIGKILL'), limits.stopTimeoutMs / 2);
    }, reject);
    const done = (): void => {
      clearTimeout(killer);
      for (const [name, handler] of handlers) process.off(name, handler);
    };
    child.once('error', (thrown) => {
      done();
      reject(new CommandFailure(`${what.file} cannot be run: ${thrown.message}`));
    });
    child.once('exit', (code, signal) => {
      done();
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}
