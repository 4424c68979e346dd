/** The settings of a command: flags over environment over file over defaults. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { formatIssue } from '../../config/policy/issue.ts';
import { type LoadedSettings, loadSettings } from '../../config/settings-load.ts';
import { packageFile, packageRoot } from '../version.ts';
import { CommandFailure, exitCodes } from './output.ts';

export type SettingFlags = Readonly<{
  config?: string;
  policy?: string;
  stateDir?: string;
  runDir?: string;
  port?: string;
  dataPlane?: string;
}>;

const variables = {
  policy: 'SALLYPORT_POLICY',
  stateDir: 'SALLYPORT_STATE_DIR',
  runDir: 'SALLYPORT_RUN_DIR',
  port: 'SALLYPORT_PROXY_PORT',
  dataPlane: 'SALLYPORT_DATA_PLANE',
} as const;

const exampleSettings = 'config/examples/sallyport.yaml';
export const examplePolicy = packageFile('config/examples/policy.yaml');

export type CommandSettings = LoadedSettings['settings'];

export function commandSettings(flags: SettingFlags, env: NodeJS.ProcessEnv = process.env): CommandSettings {
  const merged: Record<string, string | undefined> = { ...env };
  for (const key of ['policy', 'stateDir', 'runDir', 'port', 'dataPlane'] as const) {
    if (flags[key] !== undefined) merged[variables[key]] = flags[key];
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
      loaded.issues.map(formatIssue).join('\n'),
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

/** The example policy is about the example upstreams: with it they are started unless told otherwise. */
export const demoByDefault = (settings: CommandSettings): boolean => settings.policy === examplePolicy;
