/**
 * Closed-loop load, each answer looked at: wrk where the generator must not be the limit (it takes about a fifth
 * of the processor time of one in Node), autocannon as what a user of Node would take. Both in processes of
 * their own. A wrong answer fails the bench.
 */
import { execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { z } from 'zod';
import type { Say } from '../report.ts';
import { answer, type Target } from './world.ts';

export type Load = Readonly<{ requests: number; seconds: number; p50Us: number; p99Us: number }>;
export type Generator = (target: Target, connections: number, seconds: number) => Promise<Load>;

const resultSchema = z.object({
  requests: z.number().positive(),
  seconds: z.number().positive(),
  wrong: z.number(),
  first_wrong: z.string().default(''),
  errors: z.number(),
  p50_us: z.number(),
  p99_us: z.number(),
});

type Ran = Readonly<{ ok: boolean; out: string }>;
const run = (command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<Ran> =>
  new Promise((resolve) => {
    execFile(command, args, { env, timeout: 300_000 }, (error, stdout, stderr) =>
      resolve({ ok: error === null, out: error === null ? stdout : `${stdout}${stderr}` }),
    );
  });

/** What both generators are told of a target. */
export const environment = (target: Target): NodeJS.ProcessEnv => ({
  ...process.env,
  BENCH_PORT: String(target.port),
  BENCH_URL: target.url,
  BENCH_AUTHORITY: target.authority,
  BENCH_ANSWER: answer,
  BENCH_DECIDED: target.decided ? '1' : '0',
});

function loadIn(out: string, what: string): Load {
  const line = /^RESULT (.*)$/m.exec(out)?.[1];
  if (line === undefined) throw new Error(`${what} gave no result: ${out.slice(-1_000)}`);
  const {
    requests,
    seconds,
    wrong,
    first_wrong: firstWrong,
    errors,
    p50_us: p50Us,
    p99_us: p99Us,
  } = resultSchema.parse(JSON.parse(line));
  if (wrong > 0 || errors > 0)
    throw new Error(
      `${what}: ${wrong} wrong answers and ${errors} errors among ${requests} requests ${firstWrong}`,
    );
  return { requests, seconds, p50Us, p99Us };
}

export const autocannon: Generator = async (target, connections, seconds) => {
  const script = join(import.meta.dirname, 'autocannon.ts');
  const ran = await run(
    process.execPath,
    [script, String(connections), String(seconds)],
    environment(target),
  );
  return loadIn(ran.out, `autocannon on ${target.kind}`);
};

const wrk: Generator = async (target, connections, seconds) => {
  const script = join(import.meta.dirname, 'wrk.lua');
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '-s', script, `http://127.0.0.1:${target.port}`];
  return loadIn((await run('wrk', args, environment(target))).out, `wrk on ${target.kind}`);
};

/** wrk, installed where it is missing and may be; else undefined, and it is said why. */
export async function findWrk(say: Say): Promise<Generator | undefined> {
  // wrk ends with 1 after it has said its version.
  const has = async (): Promise<boolean> => (await run('wrk', ['--version'])).out.startsWith('wrk ');
  if (await has()) return wrk;
  if (process.getuid?.() !== 0) {
    say(
      'wrk is not installed, and only root may install it: autocannon is the only generator, and may be the limit',
    );
    return undefined;
  }
  say('wrk is not installed; apt-get installs it once');
  for (const args of [
    ['update', '-q'],
    ['install', '-q', '-y', '--no-install-recommends', 'wrk'],
  ])
    await new Promise((resolve) => {
      const child = spawn('apt-get', args, { stdio: ['ignore', 'ignore', 'inherit'] });
      child.once('exit', resolve);
      child.once('error', resolve);
    });
  if (await has()) return wrk;
  say('apt-get could not install wrk: autocannon is the only generator, and may be the limit');
  return undefined;
}
