/** `sallyport backup` and `restore`. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { backup, restore } from '../../../filters/common/backup.ts';
import { openDirectories } from '../../directories.ts';
import { isRunning, readRunFile, removeRunFile } from '../../run-file.ts';
import { CommandFailure, createOutput, exitCodes } from '../output.ts';
import type { Flags } from '../program.ts';
import { commandSettings } from '../settings.ts';

export async function backupTo(file: string, flags: Flags): Promise<number> {
  const output = createOutput(flags.json === true);
  const { state_dir: stateDir } = commandSettings(flags);
  if (!existsSync(stateDir))
    throw new CommandFailure(
      `there is no state in ${stateDir}`,
      'Name the state directory with --state-dir.',
    );
  const target = path.resolve(file);
  await backup(stateDir, target);
  output.value({ backup: target, state_dir: stateDir });
  output.line(`the state of ${stateDir} is in ${target}; it holds keys: keep it as you keep the state`);
  return exitCodes.ok;
}

export async function restoreFrom(file: string, flags: Flags): Promise<number> {
  const output = createOutput(flags.json === true);
  const source = path.resolve(file);
  if (!existsSync(source))
    throw new CommandFailure(`there is no backup ${source}`, 'Check the path.', exitCodes.usage);
  const { stateDir } = openDirectories(commandSettings(flags));
  const owner = readRunFile(stateDir)?.processes[0];
  if (owner !== undefined && isRunning(owner))
    throw new CommandFailure(
      `a sidecar (pid ${owner.pid}) uses ${stateDir}`,
      'End it with `sallyport stop`, move the directory away, and try again.',
    );
  // It takes an empty directory only, so nothing of another state is ever mixed in or written over.
  await restore(source, stateDir);
  // The processes that it names were those of the moment of the backup.
  removeRunFile(stateDir);
  output.value({ restored: source, state_dir: stateDir });
  output.line(`${stateDir} holds the state of ${source}`);
  return exitCodes.ok;
}
