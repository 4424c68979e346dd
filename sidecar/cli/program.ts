/** The commands and their options. What a command does is imported when it is called. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { limits } from '../../config/limits.ts';
import { version } from '../version.ts';
import { createOutput } from './output.ts';
import type { SettingFlags } from './settings.ts';

export type Flags = SettingFlags & Readonly<{ json?: boolean }>;

const examples = `
Examples:
  sallyport start                              run the sidecar in this window
  sallyport run -- curl http://example.org/    run a command as the agent behind it
  sallyport check policy.yaml                  is this policy valid? every error with its line
  sallyport explain policy.yaml GET https://api.example.org/v1/things
  sallyport holds list                         what waits for a person
  sallyport holds approve hold_… --by dana
  sallyport stop                               end it, and everything it started

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

/** Options that every command takes, before its name or after it. */
function common(command: Command): Command {
  return command
    .option('--json', 'one JSON value on standard output')
    .option('--config <file>', 'settings file (TOML or YAML)')
    .option('--state-dir <dir>', 'where journal, holds, quotas and keys are kept')
    .option('--run-dir <dir>', 'where sockets are');
}

const serving = (command: Command): Command =>
  command
    .option('--policy <file>', 'policy file')
    .option('--port <number>', 'port of the proxy; in use: the next free one is taken')
    .addOption(
      new Option('--data-plane <which>', 'what carries the bytes').choices(['auto', 'envoy', 'embedded']),
    );

const flagsOf = <T extends object>(command: Command): T & Flags => command.optsWithGlobals<T & Flags>();

export function createProgram(exit: (code: number) => void): Command {
  const program = new Command('sallyport')
    .description('The one place every byte of an AI agent must pass.')
    .version(version, '-V, --version')
    .enablePositionalOptions()
    .addHelpText('after', examples)
    .showHelpAfterError('(sallyport --help shows the commands)')
    .exitOverride();
  common(program);
  const add = (name: string, summary: string, of: Command = program): Command =>
    common(of.command(name).description(summary).exitOverride().showHelpAfterError());

  serving(add('start', 'run the sidecar in the foreground'))
    .option('--demo', 'start the example upstreams (on by default with the example policy)')
    .option('--no-demo', 'do not start them')
    .action(async (_options, command: Command) => {
      const { relaunchSmall } = await import('./relaunch.ts');
      relaunchSmall();
      const { start } = await import('./commands/start.ts');
      exit(await start(flagsOf<{ demo?: boolean }>(command)));
    });

  serving(add('run', 'run a command as the agent behind the sidecar'))
    .argument('<command...>', 'the command and its arguments, after --')
    .option('--quiet', 'no decision lines on standard error')
    .passThroughOptions()
    .action(async (words: string[], _options, command: Command) => {
      const { run } = await import('./commands/run.ts');
      exit(await run(words, flagsOf<{ quiet?: boolean }>(command)));
    });

  policyCommands(add, exit);
  holdCommands(add, exit);

  add('status', 'what runs, where, and how it is').action(async (_options, command: Command) => {
    const { status } = await import('./commands/status.ts');
    exit(await status(flagsOf(command)));
  });
  add('stop', 'end the sidecar and everything it started').action(async (_options, command: Command) => {
    const { stop } = await import('./commands/stop.ts');
    exit(await stop(flagsOf(command)));
  });
  add('reload', 'read the policy file now').action(async (_options, command: Command) => {
    const { reload } = await import('./commands/status.ts');
    exit(await reload(flagsOf(command)));
  });
  add('decisions', 'the newest decisions, newest first')
    .option('--limit <n>', 'how many', integer(1, limits.adminPageItemsMax), 20)
    .action(async (_options, command: Command) => {
      const { decisions } = await import('./commands/status.ts');
      exit(await decisions(flagsOf<{ limit: number }>(command)));
    });
  add('backup', 'copy the state to one file, also while the sidecar runs')
    .argument('<file>')
    .action(async (file: string, _options, command: Command) => {
      const { backupTo } = await import('./commands/backup.ts');
      exit(await backupTo(file, flagsOf(command)));
    });
  add('restore', 'put a backup in the place of the state; the sidecar must not run')
    .argument('<file>')
    .action(async (file: string, _options, command: Command) => {
      const { restoreFrom } = await import('./commands/backup.ts');
      exit(await restoreFrom(file, flagsOf(command)));
    });
  return program;
}

type Add = (name: string, summary: string, of?: Command) => Command;

function policyCommands(add: Add, exit: (code: number) => void): void {
  add('check', 'is this policy valid? every error with file, line and column')
    .argument('<policy>')
    .action(async (file: string, _options, command: Command) => {
      const { check } = await import('./commands/check.ts');
      exit(check(file, createOutput(flagsOf(command).json === true)));
    });
  add('explain', 'which rule decides a request, and why each other one does not')
    .argument('<policy>')
    .argument('<method>')
    .argument('<url>', 'URL, or host:port for CONNECT')
    .option('--agent <id>', 'name or SPIFFE ID of the agent')
    .option('--header <name: value>', 'a request header; may be repeated', collect, [])
    .option('--body-file <file>', 'the request body; - is standard input')
    .action(async (file: string, method: string, url: string, _options, command: Command) => {
      const { explainRequest } = await import('./commands/explain.ts');
      type Options = { agent?: string; header: readonly string[]; bodyFile?: string };
      exit(explainRequest(file, method, url, flagsOf<Options>(command)));
    });
  add('test', 'run the cases of a policy: request, expected decision')
    .argument('<policy>')
    .argument('[cases]', 'file of cases (default: policy.cases.yaml or cases.yaml beside policy.yaml)')
    .action(async (file: string, cases: string | undefined, _options, command: Command) => {
      const { testPolicy } = await import('./commands/check.ts');
      exit(testPolicy(file, cases, createOutput(flagsOf(command).json === true)));
    });
  add('schema', 'print the JSON Schema of the policy, for editors')
    .addOption(new Option('--of <what>', 'which schema').choices(['policy', 'settings']).default('policy'))
    .action(async (_options, command: Command) => {
      const { schema } = await import('./commands/schema.ts');
      exit(schema(flagsOf<{ of: 'policy' | 'settings' }>(command).of));
    });
}

function holdCommands(add: Add, exit: (code: number) => void): void {
  const holds = add('holds', 'what waits for a person');
  add('list', 'the holds, newest first; those that are open unless --state says otherwise', holds)
    .option('--state <states>', 'states, joined by commas, or all')
    .option('--agent <name>', 'only of this agent')
    .option('--limit <n>', 'how many', integer(1, limits.adminPageItemsMax), 100)
    .option('--before <id>', 'older than this hold: the next page')
    .action(async (_options, command: Command) => {
      const { list } = await import('./commands/holds.ts');
      exit(await list(flagsOf<{ state?: string; agent?: string; limit: number; before?: string }>(command)));
    });
  add('show', 'one hold with its request', holds)
    .argument('<id>')
    .action(async (id: string, _options, command: Command) => {
      const { show } = await import('./commands/holds.ts');
      exit(await show(id, flagsOf(command)));
    });
  for (const action of ['approve', 'deny', 'cancel'] as const) {
    add(action, `${action} a hold`, holds)
      .argument('[id]', 'may be left out while exactly one hold is pending')
      .option('--by <person>', 'who decides (default: the user who calls this)')
      .option('--note <text>', 'why, for the record', '')
      .action(async (id: string | undefined, _options, command: Command) => {
        const { decide } = await import('./commands/holds.ts');
        exit(await decide(action, id, flagsOf<{ by?: string; note: string }>(command)));
      });
  }
  add('settle', 'say what became of a request whose outcome is unknown', holds)
    .argument('<id>')
    .option('--sent', 'it was sent')
    .option('--not-sent', 'it was not sent')
    .option('--by <person>', 'who says so (default: the user who calls this)')
    .action(async (id: string, _options, command: Command) => {
      const { settle } = await import('./commands/holds.ts');
      exit(await settle(id, flagsOf<{ by?: string; sent?: boolean; notSent?: boolean }>(command)));
    });
}
