/** The settings of a command: flags over environment over file over defaults. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { formatIssue, type Issue } from '../../config/policy/issue.ts';
import { type LoadedSettings, loadSettings } from '../../config/settings-load.ts';
import { leadHintsTo } from '../invocation.ts';
import { packageFile, packageRoot } from '../version.ts';
import { CommandFailure, exitCodes, shellWord } from './output.ts';

export type SettingFlags = Readonly<{
  config?: string;
  policy?: string;
  stateDir?: string;
  runDir?: string;
  port?: string;
  dataPlane?: string;
}>;

/** Each flag is the environment variable of its setting, said louder. */
const flagNames = {
  policy: ['--policy', 'SALLYPORT_POLICY'],
  stateDir: ['--state-dir', 'SALLYPORT_STATE_DIR'],
  runDir: ['--run-dir', 'SALLYPORT_RUN_DIR'],
  port: ['--port', 'SALLYPORT_PROXY_PORT'],
  dataPlane: ['--data-plane', 'SALLYPORT_DATA_PLANE'],
} as const;
const flagKeys = ['policy', 'stateDir', 'runDir', 'port', 'dataPlane'] as const;

/** The fault of a value that came by a flag is told of the flag, and with the value: what is typed is no secret. */
function told(issue: Issue, flags: SettingFlags): string {
  const key = flagKeys.find((name) => flags[name] !== undefined && flagNames[name][1] === issue.field);
  if (key === undefined || issue.file !== 'environment') return formatIssue(issue);
  const message = issue.message.replace('found other text', `found ${JSON.stringify(flags[key])}`);
  return `${flagNames[key][0]}: ${message}`;
}

const exampleSettings = 'config/examples/sallyport.yaml';
export const examplePolicy = packageFile('config/examples/policy.yaml');

export type CommandSettings = LoadedSettings['settings'];

export function commandSettings(flags: SettingFlags, env: NodeJS.ProcessEnv = process.env): CommandSettings {
  leadHintsTo(whereOf(flags, env));
  const merged: Record<string, string | undefined> = { ...env };
  for (const key of flagKeys) {
    const value = flags[key];
    if (value === '')
      throw new CommandFailure(
        `${flagNames[key][0]} is empty`,
        'Name a value, or leave the option out.',
        exitCodes.usage,
      );
    if (value !== undefined) merged[flagNames[key][1]] = value;
  }
  const cwd = process.cwd();
  const isRoot = process.getuid?.() === 0;
  const load = (file: string | undefined): LoadedSettings => {
    const loaded = loadSettings({
      env: merged,
      isRoot,
      home: homedir(),
      cwd,
      ...(file === undefined ? {} : { file }),
    });
    if (loaded.ok) return loaded.value;
    throw new CommandFailure(
      loaded.issues.map((issue) => told(issue, flags)).join('\n'),
      'Correct the settings named above; docs/configuration.md lists them all.',
      exitCodes.usage,
    );
  };
  const said = load(flags.config === undefined ? undefined : path.resolve(cwd, flags.config));
  // Nobody said which policy: the example's, which has settings of its own.
  const isExample = said.files.length === 0 && said.sources['policy'] === 'default';
  const { settings, sources } = isExample ? load(packageFile(exampleSettings)) : said;
  const stateDir = path.resolve(cwd, settings.state_dir);
  const moved = sources['state_dir'] !== 'default' && sources['run_dir'] === 'default' && isRoot;
  return {
    ...settings,
    state_dir: stateDir,
    run_dir: moved ? runDirOf(stateDir) : path.resolve(cwd, settings.run_dir),
    policy: isExample ? examplePolicy : policyPath(settings.policy, cwd),
  };
}

/**
 * Root's run directory cannot lie inside the state directory, which Envoy's user may not enter; so a state
 * directory of another name has one of its own beside /run/sallyport.
 */
const runDirOf = (stateDir: string): string =>
  `/run/sallyport-${createHash('sha256').update(stateDir).digest('hex').slice(0, 12)}`;

/** A relative path is from the working directory; the example's also from the package's. */
function policyPath(policy: string, cwd: string): string {
  const here = path.resolve(cwd, policy);
  return path.resolve(packageRoot, policy) === examplePolicy && !existsSync(here) ? examplePolicy : here;
}

/** Options that lead another call of the command line, in another window, to this sidecar. */
export const whereOf = (flags: SettingFlags, env: NodeJS.ProcessEnv = process.env): string =>
  [
    ['--config', flags.config ?? env['SALLYPORT_CONFIG']],
    ['--state-dir', flags.stateDir ?? env['SALLYPORT_STATE_DIR']],
    ['--run-dir', flags.runDir ?? env['SALLYPORT_RUN_DIR']],
  ]
    .map(([name, value]) =>
      value === undefined || value === '' ? '' : ` ${name} ${shellWord(path.resolve(value))}`,
    )
    .join('');

/** The example policy is about the example upstreams: with it they are started unless told otherwise. */
export const demoByDefault = (settings: CommandSettings): boolean => settings.policy === examplePolicy;
