/** A sidecar in this process, with the example upstreams where they are asked for. Used by `start` and by `run`. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import { SallyportError } from '../../config/errors.ts';
import { brokenLimitRelations } from '../../config/limits.ts';
import { openDirectories } from '../directories.ts';
import { createEnding } from '../ending.ts';
import type { CommandLine } from '../invocation.ts';
import { acquireLock } from '../lock.ts';
import { isRunning, readRunFile } from '../run-file.ts';
import type { Sidecar } from '../sidecar.ts';
import { type Demo, demoHost, demoProcess, exampleFor, startDemo } from './demo.ts';
import { type CommandSettings, examplePolicy } from './settings.ts';

export type Served = Readonly<{ sidecar: Sidecar; demo: Demo | undefined; stop(): Promise<void> }>;

const loopback = '127.0.0.1';

/** The demo's names point at loopback, and its own authority proves them. */
const withDemo = (
  settings: CommandSettings,
  demo: Demo,
  report: (line: string) => void,
): CommandSettings => ({
  ...settings,
  policy: policyFor(settings, demo, report),
  upstream: { ...settings.upstream, ca_files: [...settings.upstream.ca_files, demo.caFile] },
  resolver: { ...settings.resolver, hosts: { [demoHost]: loopback, ...settings.resolver.hosts } },
});

/** The example's policy is about the example's ports; where those moved, a copy is about the ones taken. */
function policyFor(settings: CommandSettings, demo: Demo, report: (line: string) => void): string {
  if (demo.moved.length === 0 || settings.policy !== examplePolicy) return settings.policy;
  const copy = path.join(openDirectories(settings).stateDir, 'example-policy.yaml');
  writeFileSync(copy, exampleFor(demo, readFileSync(examplePolicy, 'utf8')), { mode: 0o600 });
  report(`the policy of this run is ${copy}, a copy of the example with these ports`);
  return copy;
}

/** A sidecar that was killed could not end its example upstream, which still has the ports. */
function endLeftDemo(stateDir: string): void {
  for (const ref of readRunFile(stateDir)?.processes ?? [])
    if (ref.name === demoProcess && isRunning(ref)) process.kill(ref.pid, 'SIGTERM');
}

function assertLimitRelations(): void {
  const broken = brokenLimitRelations();
  if (broken.length > 0)
    throw new SallyportError(
      'Internal',
      `these relations of config/limits.ts do not hold: ${broken.join('; ')}`,
    );
}

export async function serve(
  settings: CommandSettings,
  options: Readonly<{
    log: Logger;
    commandLine: CommandLine;
    report(line: string): void;
    onStopAsked(): void;
  }>,
): Promise<Served> {
  const { log, commandLine, report, onStopAsked } = options;
  assertLimitRelations();
  const ending = createEnding(log);
  try {
    // Before anything is started or written: a second sidecar of this state ends here.
    const { stateDir } = openDirectories(settings);
    acquireLock(stateDir).release();
    endLeftDemo(stateDir);
    const demo = settings.demo ? await startDemo(path.join(stateDir, 'demo')) : undefined;
    if (demo !== undefined) ending.add('demo upstream', demo.stop);
    for (const line of demo?.moved ?? []) report(line);
    const { startSidecar } = await import('../main.ts');
    const sidecar = await startSidecar({
      settings: demo === undefined ? settings : withDemo(settings, demo, report),
      log,
      commandLine,
      report,
      onStopAsked,
      children: demo === undefined ? [] : [demo.ref],
    });
    ending.add('sidecar', sidecar.stop);
    return { sidecar, demo, stop: ending.run };
  } catch (thrown) {
    await ending.run();
    throw thrown;
  }
}
