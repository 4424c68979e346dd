/** `sallyport run -- CMD…`: a command as the agent, behind the running sidecar or one of its own for as long as it runs. */
import { constants } from 'node:os';
import path from 'node:path';
import type { UnixUser } from '../../../filters/common/unix-user.ts';
import { commandLineTo } from '../../invocation.ts';
import { createLog } from '../../log.ts';
import { isRunning, readRunFile } from '../../run-file.ts';
import { type Status, statusSchema } from '../../status.ts';
import { agentEnvironment } from '../agent-env.ts';
import { agentHome, agentUser, type Launch, launchAs } from '../agent-user.ts';
import { adminClient } from '../client.ts';
import { launch } from '../launch.ts';
import { CommandFailure, createOutput, exitCodes, whenOutputIsLost } from '../output.ts';
import type { Flags } from '../program.ts';
import { closedDirectory, findProgram } from '../reach.ts';
import { serve } from '../serve.ts';
import { type CommandSettings, commandSettings, demoByDefault, whereOf } from '../settings.ts';

/** execve(2) found nothing, or nothing that may be run: what a shell answers. */
const notFound = 127;
const notExecutable = 126;

type Behind = Readonly<{
  status: Status;
  /** Resolves when somebody asked to stop this sidecar, and with it the command. */
  stopAsked: Promise<void>;
  stop(): Promise<void>;
}>;

const never = new Promise<void>(() => undefined);

export async function run(words: readonly string[], flags: Flags & { quiet?: boolean }): Promise<number> {
  const output = createOutput(flags.json === true);
  const settings = commandSettings(flags);
  const [word = '', ...args] = words;
  // The command goes on where nobody reads the decision lines any more.
  whenOutputIsLost(() => undefined);
  const ownUid = process.getuid?.() ?? 0;
  const user = ownUid === 0 ? agentUser(settings.agent, ownUid) : undefined;
  const program = programOf(word, user);
  if (user === undefined)
    output.note(
      'sallyport: without root the agent runs as you: its calls are proxied, but it is not confined — it can go around the proxy and decide its own holds.',
    );

  const behind = (await attach(settings, flags)) ?? (await serveForRun(settings, flags));
  try {
    const code = await launch(launchOf(user, program, args), {
      cwd: process.cwd(),
      stop: behind.stopAsked,
      env: agentEnvironment(behind.status, process.env, homeOf(user, settings)),
    });
    output.value({ command: words, exit_code: code, user: user?.name ?? null });
    return code;
  } finally {
    await behind.stop();
  }
}

const launchOf = (user: UnixUser | undefined, program: string, args: readonly string[]): Launch =>
  user === undefined ? { file: program, args } : launchAs(user, program, args);

function homeOf(user: UnixUser | undefined, settings: CommandSettings): Record<string, string> {
  if (user === undefined) return {};
  const { home, tmp } = agentHome(settings.state_dir, user);
  const closed = closedDirectory(home, user);
  if (closed !== undefined)
    throw new CommandFailure(
      `the agent's home ${home} is out of its reach: ${closed}`,
      'Name a state directory below one that others may pass through, with --state-dir.',
      notExecutable,
    );
  return { HOME: home, TMPDIR: tmp, USER: user.name, LOGNAME: user.name };
}

/** The program and the working directory, both within the agent's reach. */
function programOf(word: string, user: UnixUser | undefined): string {
  const cwd = process.cwd();
  const closed = user === undefined ? undefined : closedDirectory(cwd, user);
  if (closed !== undefined)
    throw new CommandFailure(
      `the agent runs as user ${user?.name} and cannot work here: ${closed}`,
      'Change to a directory that every user may enter, such as /tmp or /srv, or open this one with `chmod o+x`.',
      notExecutable,
    );
  const found = findProgram(word, process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin', cwd, user);
  switch (found.kind) {
    case 'found':
      return found.file;
    case 'closed':
      throw new CommandFailure(
        `the agent runs as user ${user?.name ?? 'yourself'} and cannot run ${word}: ${found.why}`,
        'Install it where every user reaches it, such as /usr/local/bin, or open the path with `chmod o+rx`.',
        notExecutable,
      );
    case 'missing':
      throw new CommandFailure(`there is no command ${word}`, 'Check its spelling and PATH.', notFound);
  }
}

/** What was asked of a sidecar by a flag, and the one that runs is not: nobody believes that its policy was another. */
function otherwise(flags: Flags, settings: CommandSettings, { policy, data_plane: plane }: Status): string[] {
  const port = Number(new URL(plane.proxy).port);
  const { port: wanted } = settings.proxy;
  const asked = [
    { flag: '--policy', given: flags.policy, is: policy.file, fits: settings.policy === policy.file },
    // Zero is any free one.
    { flag: '--port', given: flags.port, is: String(port), fits: wanted === 0 || wanted === port },
    {
      flag: '--data-plane',
      given: flags.dataPlane,
      is: plane.kind,
      fits: settings.data_plane === 'auto' || settings.data_plane === plane.kind,
    },
  ];
  return asked.flatMap(({ flag, given, is, fits }) =>
    given === undefined || fits ? [] : [`${flag} ${given}: the sidecar that runs here has ${is}`],
  );
}

/** The sidecar that runs on this state; undefined where none does. One that runs and cannot be asked is an error. */
async function attach(settings: CommandSettings, flags: Flags): Promise<Behind | undefined> {
  const file = readRunFile(settings.state_dir);
  const sidecar = file?.processes[0];
  if (file === undefined || sidecar === undefined || !isRunning(sidecar)) return undefined;
  const client = adminClient(path.join(file.runDir, 'admin.sock'));
  const status = statusSchema.parse(await client.get('/v1/status'));
  const others = otherwise(flags, settings, status);
  if (others.length > 0)
    throw new CommandFailure(
      others.join('\n'),
      'Leave it out, end that sidecar with `sallyport stop`, or have one of its own for this run with another --state-dir.',
      exitCodes.usage,
    );
  return { status, stopAsked: never, stop: async () => undefined };
}

async function serveForRun(settings: CommandSettings, flags: Flags & { quiet?: boolean }): Promise<Behind> {
  // Standard output is the command's.
  const commandLine = commandLineTo(whereOf(flags));
  const log = createLog(
    { ...settings.log, level: flags.quiet === true ? 'error' : settings.log.level },
    process.stderr,
    commandLine,
  );
  const report = (line: string): void => {
    process.stderr.write(`sallyport: ${line}\n`);
  };
  const asked = Promise.withResolvers<void>();
  // From here to the end of the process a signal ends nothing by itself: before the command it prevents it, while
  // the command runs it is the command's, and after it what was started is being ended already.
  const early: NodeJS.Signals[] = [];
  for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(name, () => early.push(name));
  const served = await serve(
    { ...settings, demo: settings.demo || demoByDefault(settings) },
    { log, commandLine, report, onStopAsked: asked.resolve },
  );
  const status = await served.sidecar.status();
  if (early[0] !== undefined) {
    await served.stop();
    throw new CommandFailure(
      `${early[0]}: the command was not started`,
      '',
      128 + constants.signals[early[0]],
    );
  }
  return { status, stopAsked: asked.promise, stop: served.stop };
}
