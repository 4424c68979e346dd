/** A program that prints a secret: its words as they are (no shell), bounded in time and output, ended with its children. */
import { spawn } from 'node:child_process';
import { SallyportError } from '../../config/errors.ts';
import { printable } from '../common/printable.ts';

export type CommandBounds = Readonly<{ what: string; timeoutMs: number; bytesMax: number }>;

const toldCharsMax = 300;

export function runBounded(
  argv: readonly [string, ...string[]],
  { what, timeoutMs, bytesMax }: CommandBounds,
): Promise<Buffer> {
  const [program, ...rest] = argv;
  const failed = (why: string, cause?: unknown): SallyportError =>
    new SallyportError('SettingsInvalid', `${what} (${program}) ${why}`, { cause });
  return new Promise((resolve, reject) => {
    // A group of its own: what the program started ends with it.
    const child = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, shell: false });
    const chunks: Buffer[] = [];
    let bytes = 0;
    let complaint = '';
    let settled = false;
    const end = (outcome: Buffer | SallyportError): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      child.stdout.destroy();
      child.stderr.destroy();
      for (const chunk of chunks) chunk.fill(0);
      if (outcome instanceof SallyportError) reject(outcome);
      else resolve(outcome);
    };
    const kill = (why: string): void => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch (thrown) {
        end(failed(why, thrown));
      }
      end(failed(why));
    };
    const timer = setTimeout(() => kill(`did not end within ${timeoutMs} ms`), timeoutMs);
    child.stdout.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes > bytesMax) kill(`printed more than ${bytesMax} bytes`);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaint = (complaint + text).slice(0, toldCharsMax);
    });
    child.once('error', (thrown) => end(failed(`cannot be run: ${thrown.message}`, thrown)));
    child.once('close', (code, signal) => {
      const how = signal === null ? `status ${code}` : `signal ${signal}`;
      // Standard output is the secret, and is never told; standard error is what the program says to people.
      if (code !== 0)
        end(failed(`ended with ${how}${complaint === '' ? '' : `: ${printable(complaint, toldCharsMax)}`}`));
      else end(Buffer.concat(chunks));
    });
  });
}
