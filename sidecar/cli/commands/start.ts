/** `sallyport start`: the sidecar in the foreground, with its first screen. */
import { flushCompileCache } from 'node:module';
import { commandLineTo } from '../../invocation.ts';
import { createLog } from '../../log.ts';
import { statusSchema } from '../../status.ts';
import { supervise } from '../../supervise.ts';
import { agentOfUser, firstScreen, noteFor } from '../first-screen.ts';
import { createOutput, whenOutputIsLost } from '../output.ts';
import { killOthers } from '../processes.ts';
import type { Flags } from '../program.ts';
import { samplesOf } from '../samples.ts';
import { serve } from '../serve.ts';
import { commandSettings, demoByDefault, whereOf } from '../settings.ts';

export async function start(flags: Flags & { demo?: boolean }): Promise<number> {
  const output = createOutput(flags.json === true);
  const given = commandSettings(flags);
  const settings = { ...given, demo: flags.demo ?? (given.demo || demoByDefault(given)) };
  const commandLine = commandLineTo(whereOf(flags));
  // With --json standard output holds one value; the log goes beside it.
  const logged = output.json ? 'stderr' : 'stdout';
  const log = createLog(settings.log, process[logged], commandLine);
  const supervised = supervise({
    log,
    hasTerminal: process.stdin.isTTY === true || process.stdout.isTTY === true,
    killOthers: () => killOthers(settings.state_dir),
  });
  // Its window is gone, and with it whoever would press Ctrl-C. A full disk is no end: decisions are in the journal.
  whenOutputIsLost((stream, isRead) => {
    if (!isRead && (stream === 'stdout' || stream === logged)) supervised.end();
  });
  const served = await serve(settings, {
    log,
    commandLine,
    report: (line) => output.note(`sallyport: ${line}`),
    onStopAsked: () => supervised.end(),
  });
  supervised.attach(served.sidecar);
  // Asked to stop while it was starting: nobody waits for a screen.
  if (!supervised.isEnding()) {
    const status = statusSchema.parse(await served.sidecar.status());
    const { demo } = served;
    const policy = served.sidecar.policy();
    const { pod_agent: podAgent } = settings.identity;
    const agent = agentOfUser(policy, podAgent);
    const samples = demo === undefined ? [] : samplesOf({ demo, status, policy, agent, commandLine });
    output.value({ ...status, samples });
    const screen = { status, demo, samples, commandLine, agentNote: noteFor(agent, podAgent) };
    for (const line of firstScreen(screen)) output.line(line);
    // Now, and not only at a clean end: the next start is the faster one, whatever becomes of this.
    setImmediate(flushCompileCache);
  }
  const code = await supervised.ended;
  await served.stop();
  return code;
}
