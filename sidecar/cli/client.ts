/** The command line's side of the admin API: HTTP over the Unix socket. */
import { userInfo } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { limits } from '../../config/limits.ts';
import { request } from '../../filters/common/node-http.ts';
import { isRunning, readRunFile } from '../run-file.ts';
import { CommandFailure } from './output.ts';
import type { CommandSettings } from './settings.ts';

export type AdminClient = Readonly<{
  get(route: string): Promise<unknown>;
  post(route: string, body?: unknown): Promise<unknown>;
}>;

const problemSchema = z.object({ code: z.string(), detail: z.string(), next: z.string().default('') });

/** What the sidecar refused, with its words. */
class AdminRefusal extends CommandFailure {
  readonly code: string;
  readonly status: number;
  constructor(status: number, code: string, detail: string, next: string) {
    // The detail says what is to be corrected, and is not always about a field.
    super(detail, code === 'RequestMalformed' ? '' : next);
    this.name = 'AdminRefusal';
    this.code = code;
    this.status = status;
  }
}

/** Nothing answers where a sidecar of these directories would. */
export class NotRunning extends CommandFailure {}

const exchange = (
  socketPath: string,
  method: 'GET' | 'POST',
  route: string,
  body: string | undefined,
): Promise<{ status: number; text: string }> =>
  new Promise((resolve, reject) => {
    const call = request(
      {
        socketPath,
        method,
        path: route,
        host: 'localhost',
        headers: body === undefined ? {} : { 'content-type': 'application/json' },
        timeout: limits.commandWaitMs,
      },
      (response) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > limits.adminAnswerBytesMax)
            call.destroy(new Error(`the answer is larger than ${limits.adminAnswerBytesMax} bytes`));
          else chunks.push(chunk);
        });
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
        );
      },
    );
    call.on('timeout', () => call.destroy(new Error(`no answer within ${limits.commandWaitMs} ms`)));
    call.on('error', reject);
    call.end(body);
  });

const codeOf = (thrown: unknown): string =>
  thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : '';

function unreachable(thrown: unknown, socketPath: string): CommandFailure {
  switch (codeOf(thrown)) {
    case 'ENOENT':
    case 'ECONNREFUSED':
      return new NotRunning(
        `no sidecar runs here: nothing answers at ${socketPath}`,
        'Start one with `sallyport start`, or name the state directory of the one that runs with --state-dir.',
      );
    case 'EACCES':
    case 'EPERM':
      return new CommandFailure(
        `user ${process.getuid?.() ?? '?'} may not open ${socketPath}`,
        'Run this as the user that runs the sidecar. The agent’s own user never decides its holds.',
      );
    default:
      return new CommandFailure(
        `the sidecar at ${socketPath} does not answer: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
        'Look at its window or its log.',
      );
  }
}

export function adminClient(socketPath: string): AdminClient {
  const ask = async (method: 'GET' | 'POST', route: string, body?: unknown): Promise<unknown> => {
    let answer: { status: number; text: string };
    try {
      answer = await exchange(
        socketPath,
        method,
        route,
        body === undefined ? undefined : JSON.stringify(body),
      );
    } catch (thrown) {
      throw unreachable(thrown, socketPath);
    }
    const value: unknown = JSON.parse(answer.text);
    if (answer.status < 400) return value;
    const problem = problemSchema.safeParse(value);
    // An unhealthy sidecar answers `/health` with 503 and its parts: that is an answer.
    if (!problem.success) return value;
    throw new AdminRefusal(answer.status, problem.data.code, problem.data.detail, problem.data.next);
  };
  return {
    get: (route) => ask('GET', route),
    post: (route, body) => ask('POST', route, body ?? {}),
  };
}

/** Where the sidecar of this state says that its sockets are; else where the settings say so. */
export function clientOf(settings: Pick<CommandSettings, 'state_dir' | 'run_dir'>): AdminClient {
  const file = readRunFile(settings.state_dir);
  const sidecar = file?.processes[0];
  const runs = file !== undefined && sidecar !== undefined && isRunning(sidecar);
  return adminClient(path.join(runs ? file.runDir : settings.run_dir, 'admin.sock'));
}

/** Who decides: the person behind sudo where there is one. */
export function caller(): string {
  const behindSudo = process.env['SUDO_USER'];
  if (behindSudo !== undefined) return behindSudo;
  try {
    return userInfo().username;
  } catch (thrown) {
    throw new CommandFailure(
      `user ${process.getuid?.() ?? '?'} has no name here (${thrown instanceof Error ? thrown.message : String(thrown)})`,
      'Say who decides with --by NAME.',
    );
  }
}
