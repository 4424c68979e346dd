/** The commands and their options. What a command does is imported when it is called. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { limits } from '../../config/limits.ts';
import { holdStates } from '../../filters/oversight/holds.ts';
import { invocation } from '../invocation.ts';
import { version } from '../version.ts';
import { auditCommands } from './audit-commands.ts';
import { keyCommands } from './key-commands.ts';
import { createOutput } from './output.ts';
import { recordCommands } from './record-commands.ts';
import type { SettingFlags } from './settings.ts';

export type Flags = SettingFlags & Readonly<{ json?: boolean }>;

const examples = `
Examples:
  ${invocation} start                              run the sidecar in this window
  ${invocation} run -- curl http://example.org/    run a command as the agent behind it
  ${invocation} check policy.yaml                  is this policy valid? every error with its line
  ${invocation} explain policy.yaml GET https://api.example.org/v1/things
  ${invocation} holds list                         what waits for a person
  ${invocation} holds approve hold_… --by dana
  ${invocation} trace dec_01M7…                   everything on record of one decision
  ${invocation} replay new.yaml                    what would new.yaml have decided otherwise?
  ${invocation} stop                               end it, and everything it started

Exit status: 0 done, 1 refused or failed, 2 wrong usage. \`run\` ends with its command's status, 128+n for signal n.
Every setting is also an environment variable: docs/configuration.md.`;

const integer =
  (min: number, max: number) =>
  (text: string): number => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max)
      throw new InvalidArgumentError(`a whole number from ${min} to ${max}, not ${text}`);
    return value;
  };

const collect = (value: string, before: readonly string[]): readonly string[] => [...before, value];

const json = 'one JSON value on standard output';

/** Options of every command that is about a sidecar, before its name or after it. */
function common(command: Command): Command {
  return command
    .option('--json', json)
    .option('--config <file>', 'settings file, TOML or YAML (default: sallyport.toml or .yaml here)')
    .option(
      '--state-dir <dir>',
      'where journal, holds, quotas and keys are kept; tells one sidecar from another (default: /var/lib/sallyport as root, else ~/.local/state/sallyport)',
    )
    .option('--run-dir <dir>', 'where sockets are (default: made from the state directory)');
}

const serving = (command: Command): Command =>
  command
    .option('--policy <file>', 'policy file (default: the example, with the settings of the example)')
    .option('--port <number>', 'port of the proxy; in use: the next free one is taken (default: 10080)')
    .addOption(
      new Option(
        '--data-plane <which>',
        'what carries the bytes (default: auto, which is Envoy where it can be had)',
      ).choices(['auto', 'envoy', 'embedded']),
    );

/** Shown as it is typed: under npm with the words that npm wants. */
const help = (...lines: readonly string[]): string =>
  `\nExamples:\n${lines.map((line) => `  ${invocation} ${line}`).join('\n')}`;

const flagsOf = <T extends object>(command: Command): T & Flags => command.optsWithGlobals<T & Flags>();

export function createProgram(exit: (code: number) => void): Command {
  const program = new Command(invocation)
    .description('The one place every byte of an AI agent must pass.')
    .version(version, '-V, --version')
    .enablePositionalOptions()
    .addHelpText('after', examples)
    .showHelpAfterError(`(${invocation} --help shows the commands)`)
    .exitOverride();
  common(program);
  const plain = (name: string, summary: string, of: Command = program): Command =>
    of.command(name).description(summary).exitOverride().showHelpAfterError();
  const add: Add = (name, summary, of) => common(plain(name, summary, of));

  serving(add('start', 'run the sidecar in the foreground'))
    .option('--demo', 'start the example upstreams (on by default with the example policy)')
    .option('--no-demo', 'do not start them')
    .addHelpText(
      'after',
      help(
        'start                                  the example policy with its upstreams',
        'start --policy policy.yaml             your own',
        'start --data-plane embedded --port 0   without Envoy, on any free port',
      ),
    )
    .action(async (_options, command: Command) => {
      const { relaunchSmall } = await import('./relaunch.ts');
      relaunchSmall();
      const { start } = await import('./commands/start.ts');
      exit(await start(flagsOf<{ demo?: boolean }>(command)));
    });

  serving(add('run', 'run a command as the agent behind the sidecar'))
    .argument('<command...>', 'the command and its arguments, after --')
    .option('--quiet', 'no decision lines on standard error')
    .addHelpText(
      'after',
      `${help('run -- curl https://api.example.org/v1', 'run --policy policy.yaml -- python3 agent.py')}

It uses the sidecar that runs, or one of its own until the command ends. Exit status: the command's; 128+n for
signal n, 127 where there is no such command, 126 where the agent's user cannot run it.`,
    )
    .passThroughOptions()
    .action(async (words: string[], _options, command: Command) => {
      const { run } = await import('./commands/run.ts');
      exit(await run(words, flagsOf<{ quiet?: boolean }>(command)));
    });

  policyCommands(plain, exit);
  holdCommands(add, exit);
  keyCommands(add, exit);
  recordCommands(add, exit);
  auditCommands(add, exit);

  add('status', 'what runs, where, and how it is').action(async (_options, command: Command) => {
    const { status } = await import('./commands/status.ts');
    exit(await status(flagsOf(command)));
  });
  add('stop', 'end the sidecar and everything it started').action(async (_options, command: Command) => {
    const { stop } = await import('./commands/stop.ts');
    exit(await stop(flagsOf(command)));
  });
  add('lockdown', 'refuse everything and end every connection, until it is lifted')
    .option('--reason <text>', 'why, for the record and for the agents that are refused')
    .option('--lift', 'let pass again what the policy lets pass')
    .option('--by <person>', 'who does this (default: the user who calls this)')
    .action(async (_options, command: Command) => {
      const { lockdown } = await import('./commands/lockdown.ts');
      exit(await lockdown(flagsOf<{ reason?: string; lift?: boolean; by?: string }>(command)));
    });
  add('reload', 'read the policy file now; a change of it is also seen by itself').action(
    async (_options, command: Command) => {
      const { reload } = await import('./commands/status.ts');
      exit(await reload(flagsOf(command)));
    },
  );
  add('decisions', 'the newest decisions, newest first, also where no sidecar runs')
    .option('--limit <n>', 'how many', integer(1, limits.adminPageItemsMax), 20)
    .action(async (_options, command: Command) => {
      const { decisions } = await import('./commands/decisions.ts');
      exit(await decisions(flagsOf<{ limit: number }>(command)));
    });
  add('backup', 'copy the state to one file, also while the sidecar runs')
    .argument('<file>', 'a new file outside of the state directory; as secret as the state')
    .action(async (file: string, _options, command: Command) => {
      const { backupTo } = await import('./commands/backup.ts');
      exit(await backupTo(file, flagsOf(command)));
    });
  add('restore', 'put a backup where no state is yet: an empty state directory')
    .argument('<file>', 'what `backup` wrote')
    .addHelpText('after', help('restore state.backup --state-dir /srv/sallyport'))
    .action(async (file: string, _options, command: Command) => {
      const { restoreFrom } = await import('./commands/backup.ts');
      exit(await restoreFrom(file, flagsOf(command)));
    });
  return program;
}

type Add = (name: string, summary: string, of?: Command) => Command;

function policyCommands(add: Add, exit: (code: number) => void): void {
  add('check', 'is this policy valid? every error with file, line and column')
    .argument('<policy>', 'policy file')
    .option('--json', json)
    .action(async (file: string, _options, command: Command) => {
      const { check } = await import('./commands/check.ts');
      exit(check(file, createOutput(flagsOf(command).json === true)));
    });
  add('explain', 'which rule decides a request, and why each other one does not')
    .argument('<policy>', 'policy file')
    .argument('<method>', 'such as GET')
    .argument('<url>', 'URL, or host:port for CONNECT')
    .option('--json', json)
    .option('--agent <id>', 'name or SPIFFE ID of the agent (default: the only one of the policy)')
    .addOption(
      new Option('--header <name: value>', 'a request header; may be repeated')
        .argParser(collect)
        .default([], 'none'),
    )
    .option('--body-file <file>', 'the request body; - is standard input')
    .addHelpText(
      'after',
      help(
        'explain policy.yaml GET https://api.example.org/v1/things',
        "explain policy.yaml POST https://api.example.org/mcp --header 'content-type: application/json' --body-file call.json",
        'explain policy.yaml CONNECT api.example.org:443',
      ),
    )
    .action(async (file: string, method: string, url: string, _options, command: Command) => {
      const { explainRequest } = await import('./commands/explain.ts');
      type Options = { agent?: string; header: readonly string[]; bodyFile?: string };
      exit(explainRequest(file, method, url, flagsOf<Options>(command)));
    });
  add('test', 'run the cases of a policy: request, expected decision')
    .argument('<policy>', 'policy file')
    .argument('[cases]', 'file of cases (default: policy.cases.yaml or cases.yaml beside policy.yaml)')
    .option('--json', json)
    .action(async (file: string, cases: string | undefined, _options, command: Command) => {
      const { testPolicy } = await import('./commands/check.ts');
      exit(testPolicy(file, cases, createOutput(flagsOf(command).json === true)));
    });
  add('schema', 'print the JSON Schema of the policy, for editors')
    .option('--json', 'accepted, and changes nothing: it is JSON in either form')
    .addOption(new Option('--of <what>', 'which schema').choices(['policy', 'settings']).default('policy'))
    .action(async (_options, command: Command) => {
      const { schema } = await import('./commands/schema.ts');
      exit(schema(flagsOf<{ of: 'policy' | 'settings' }>(command).of));
    });
}

function holdCommands(add: Add, exit: (code: number) => void): void {
  const holds = add('holds', 'what waits for a person, and their word on it');
  add('list', 'the holds, newest first', holds)
    .option(
      '--state <states>',
      `all, or with commas between: ${holdStates.join(', ')} (default: those that are open)`,
    )
    .option('--agent <name>', 'only of the agent with this name in the policy')
    .option('--limit <n>', 'how many', integer(1, limits.adminPageItemsMax), 100)
    .option('--before <id>', 'older than this hold: the next page')
    .action(async (_options, command: Command) => {
      const { list } = await import('./commands/holds.ts');
      exit(await list(flagsOf<{ state?: string; agent?: string; limit: number; before?: string }>(command)));
    });
  add('show', 'one hold with its request, as its approvers see it', holds)
    .argument('<id>', 'as `holds list` shows it, or the beginning of it')
    .action(async (id: string, _options, command: Command) => {
      const { show } = await import('./commands/holds.ts');
      exit(await show(id, flagsOf(command)));
    });
  const does = {
    approve: 'let this very request out, once',
    deny: 'refuse it; its caller is told who did, and the note',
    cancel: 'take the question back; an approved one too, until it is used',
  } as const;
  for (const action of ['approve', 'deny', 'cancel'] as const) {
    add(action, does[action], holds)
      .argument('[id]', 'may be left out while exactly one hold is pending')
      .option(
        '--by <person>',
        'who decides, as the policy names approvers (default: the user who calls this)',
      )
      .addOption(new Option('--note <text>', 'why, for the record and the caller').default('', 'none'))
      .action(async (id: string | undefined, _options, command: Command) => {
        const { decide } = await import('./commands/holds.ts');
        exit(await decide(action, id, flagsOf<{ by?: string; note: string }>(command)));
      });
  }
  add('settle', 'say what became of a released request whose outcome is unknown', holds)
    .argument('<id>', 'as `holds list --state Unknown` shows it')
    .option('--sent', 'it was sent')
    .option('--not-sent', 'it was not sent')
    .option('--by <person>', 'who says so (default: the user who calls this)')
    .action(async (id: string, _options, command: Command) => {
      const { settle } = await import('./commands/holds.ts');
      exit(await settle(id, flagsOf<{ by?: string; sent?: boolean; notSent?: boolean }>(command)));
    });
}
