/** The example upstreams of the first screen: a child process that ends with the sidecar. */
import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import type { createInterface } from 'node:readline';
import { limits } from '../../config/limits.ts';
import { freePort, movedPort } from '../ports.ts';
import { type ProcessRef, processRef } from '../run-file.ts';
import { packageProgram } from '../version.ts';
import { CommandFailure } from './output.ts';

export const demoHost = 'demo.sallyport.test';
/** Its name in the run file. */
export const demoProcess = 'demo upstream';
const httpPort = 10_090;
const httpsPort = 10_443;

export type Demo = Readonly<{
  http: number;
  https: number;
  caFile: string;
  ref: ProcessRef;
  /** Ports that somebody else had, in words; empty where none. */
  moved: readonly string[];
  stop(): Promise<void>;
}>;

/** The example policy names the example's ports; where others were taken, a copy of it names those. */
export function exampleFor(demo: Pick<Demo, 'http' | 'https'>, policyText: string): string {
  return policyText
    .replaceAll(new RegExp(`\\b${httpPort}\\b`, 'g'), String(demo.http))
    .replaceAll(new RegExp(`\\b${httpsPort}\\b`, 'g'), String(demo.https));
}

/** The lines `ca FILE`, `http URL`, `https URL` that the example prints once it listens. */
function firstLines(child: ChildProcess, linesOf: typeof createInterface): Promise<Map<string, string>> {
  return new Promise((resolve, reject) => {
    const found = new Map<string, string>();
    const failed = (why: string) => reject(new CommandFailure(`the example upstream did not start: ${why}`));
    const timer = setTimeout(() => failed(`nothing within ${limits.commandWaitMs} ms`), limits.commandWaitMs);
    child.once('error', (thrown) => failed(thrown.message));
    child.once('exit', (code) => failed(`it ended with status ${code}`));
    if (child.stdout === null) return failed('it has no output');
    linesOf(child.stdout).on('line', (line) => {
      const [key = '', value = ''] = line.split(' ');
      found.set(key, value);
      if (!found.has('https')) return;
      clearTimeout(timer);
      child.removeAllListeners('exit');
      resolve(found);
    });
  });
}

/** `caDir` gets the certificate of the example's authority, made anew at each start. */
export async function startDemo(caDir: string): Promise<Demo> {
  const http = await freePort(httpPort, 'the demo');
  const https = await freePort(httpsPort, 'the demo', [http]);
  // Not with this file, which every start reads.
  const { createInterface } = await import('node:readline');
  const child = spawn(
    process.execPath,
    [
      packageProgram('examples/upstream/server'),
      ...['--http-port', String(http), '--https-port', String(https), '--ca-dir', caDir],
    ],
    // Its own group: Ctrl-C is the sidecar's, which then ends it.
    { stdio: ['ignore', 'pipe', 'inherit'], detached: true },
  );
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), limits.stopTimeoutMs / 2);
      await ended;
      clearTimeout(timer);
    }
    rmSync(caDir, { recursive: true, force: true });
  };
  try {
    const lines = await firstLines(child, createInterface);
    return {
      http,
      https,
      caFile: lines.get('ca') ?? '',
      ref: processRef(demoProcess, child.pid ?? 0),
      moved: [
        ...movedPort(httpPort, http, 'the example’s HTTP upstream'),
        ...movedPort(httpsPort, https, 'the example’s HTTPS upstream'),
      ],
      stop,
    };
  } catch (thrown) {
    await stop();
    throw thrown;
  }
}
