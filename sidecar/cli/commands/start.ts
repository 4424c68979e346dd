/** `sallyport start`: the sidecar in the foreground, with its first screen. */
import { flushCompileCache } from 'node:module';
import type { CompiledPolicy } from '../../../filters/policy/compiled.ts';
import { createLog } from '../../log.ts';
import { statusSchema } from '../../status.ts';
import { supervise } from '../../supervise.ts';
import { type FirstScreen, firstScreen, samples, shellWord } from '../first-screen.ts';
import { createOutput } from '../output.ts';
import type { Flags } from '../program.ts';
import { serve } from '../serve.ts';
import { commandSettings, demoByDefault } from '../settings.ts';

export async function start(flags: Flags & { demo?: boolean }): Promise<number> {
  const output = createOutput(flags.json === true);
  const given = commandSettings(flags);
  const settings = { ...given, demo: flags.demo ?? (given.demo || demoByDefault(given)) };
  // With --json standard output holds one value; the log goes beside it.
  const log = createLog(settings.log, output.json ? process.stderr : process.stdout);
  const supervised = supervise(log);
  const served = await serve(settings, {
    log,
    report: (line) => output.note(`sallyport: ${line}`),
    onStopAsked: () => supervised.end(),
  });
  supervised.attach(served.sidecar);
  const status = statusSchema.parse(await served.sidecar.status());
  const policy = served.sidecar.policy();
  const screen: FirstScreen = {
    status,
    demo: served.demo,
    program: process.env['npm_lifecycle_event'] === 'start' ? 'npm start --' : 'sallyport',
    where: whereOf(flags),
    approver: Object.values(policy.source.approvers)[0]?.members[0] ?? 'NAME',
    credential: '',
    agentNote: noteFor(policy, settings.identity.pod_agent),
  };
  output.value({ ...status, samples: samples(screen) });
  for (const line of firstScreen(screen)) output.line(line);
  // Now, and not only at a clean end: the next start is the faster one, whatever becomes of this.
  setImmediate(flushCompileCache);
  const code = await supervised.ended;
  await served.stop();
  return code;
}

/** Options that lead another call of the command line to this sidecar. */
const whereOf = (flags: Flags): string =>
  [
    ['--config', flags.config],
    ['--state-dir', flags.stateDir],
    ['--run-dir', flags.runDir],
  ]
    .map(([name, value]) => (value === undefined ? '' : ` ${name} ${shellWord(value)}`))
    .join('');

/** Whoever pastes the lines calls as their own user, whom the policy has to know. */
function noteFor(policy: CompiledPolicy, podAgent: string): string {
  const uid = process.getuid?.();
  if (podAgent !== '' || uid === undefined || policy.agentByUser(uid) !== undefined) return '';
  return `Note: no agent of the policy has your user (${uid}); calls of yours are denied until one has, or a credential is sent.`;
}
