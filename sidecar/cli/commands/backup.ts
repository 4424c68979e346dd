/** `sallyport backup` and `restore`. */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { SallyportError } from '../../../config/errors.ts';
import { backup, restore } from '../../../filters/common/backup.ts';
import { openStateDirectory } from '../../directories.ts';
import { acquireLock } from '../../lock.ts';
import { restoredFile } from '../../restored.ts';
import { removeRunFile } from '../../run-file.ts';
import { CommandFailure, createOutput, exitCodes } from '../output.ts';
import type { Flags } from '../program.ts';
import { commandSettings } from '../settings.ts';

/** The catalogue's advice is for a caller whose request was refused; whoever moves files needs the cause. */
function inWords(thrown: unknown, next: string): unknown {
  if (!(thrown instanceof SallyportError)) return thrown;
  const why = thrown.cause instanceof Error ? `: ${thrown.cause.message}` : '';
  return Object.assign(new CommandFailure(`${thrown.message}${why}`, next), { code: thrown.code });
}

export async function backupTo(file: string, flags: Flags): Promise<number> {
  const output = createOutput(flags.json === true);
  const { state_dir: stateDir } = commandSettings(flags);
  if (!existsSync(stateDir))
    throw new CommandFailure(
      `there is no state in ${stateDir}`,
      'Name the state directory with --state-dir.',
    );
  const target = path.resolve(file);
  try {
    const { files, bytes, skipped } = await backup(stateDir, target);
    output.value({ backup: target, state_dir: stateDir, files, bytes, skipped });
    for (const name of skipped)
      output.note(`sallyport: ${name} is neither file nor directory, and is not in it`);
  } catch (thrown) {
    throw inWords(thrown, 'Name a new file outside of the state directory, where there is room for it.');
  }
  output.line(`the state of ${stateDir} is in ${target}; keep it as you keep the state`);
  output.line('the key-encryption key is not in it; without that its keys cannot be opened (docs/keys.md)');
  return exitCodes.ok;
}

export async function restoreFrom(file: string, flags: Flags): Promise<number> {
  const output = createOutput(flags.json === true);
  const source = path.resolve(file);
  if (!existsSync(source))
    throw new CommandFailure(`there is no backup ${source}`, 'Check the path.', exitCodes.usage);
  const settings = commandSettings(flags);
  const isNew = !existsSync(settings.state_dir);
  const stateDir = openStateDirectory(settings);
  // No sidecar uses it now, and none can start before all is in place.
  const lock = acquireLock(stateDir);
  try {
    // It takes a directory without state only, so nothing of another state is ever mixed in or written over.
    const { files, bytes } = await restore(source, stateDir);
    // The processes that it names were those of the moment of the backup.
    removeRunFile(stateDir);
    // The next sidecar puts it on record.
    writeFileSync(restoredFile(stateDir), '{}', { mode: 0o600 });
    output.value({ restored: source, state_dir: stateDir, files, bytes });
  } catch (thrown) {
    if (isNew) rmSync(stateDir, { recursive: true, force: true });
    throw inWords(
      thrown,
      'Restore a whole backup to where no state is: name another directory with --state-dir, or move this one away.',
    );
  } finally {
    lock.release();
  }
  output.line(`${stateDir} holds the state of ${source}`);
  return exitCodes.ok;
}
