/** The whole configuration, checked by the very binary that will run it, before anything is replaced. */
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { EnvoyConfig } from './config.ts';
import { putFile } from './delivery.ts';
import type { EnvoyPaths } from './paths.ts';
import type { ProcessUser } from './user.ts';

/** Throws SettingsInvalid with what Envoy says. */
export async function validateConfig(
  binary: string,
  config: EnvoyConfig,
  paths: EnvoyPaths,
  user: ProcessUser | undefined,
): Promise<void> {
  // Not in the staging directory, which Envoy's user cannot enter.
  const file = join(paths.dir, 'validate.json');
  await putFile(paths, file, JSON.stringify(config.whole), user);
  try {
    await new Promise<void>((resolve, reject) => {
      execFile(
        binary,
        ['--mode', 'validate', '--config-path', file, '--log-level', 'error', '--disable-hot-restart'],
        {
          timeout: limits.envoyValidateMs,
          maxBuffer: 1024 * 1024,
          env: { SALLYPORT_EPOCH: 'validate' },
          ...(user ?? {}),
        },
        (error, stdout, stderr) => {
          if (error === null) resolve();
          else
            reject(
              new SallyportError(
                'SettingsInvalid',
                `Envoy does not accept its configuration: ${said(stdout, stderr)}`,
                {
                  cause: error,
                },
              ),
            );
        },
      );
    });
  } finally {
    await rm(file, { force: true });
  }
}

/** Its last words, without the log's own prefix. */
function said(stdout: string, stderr: string): string {
  const lines = `${stdout}\n${stderr}`.split('\n').filter((line) => line.trim() !== '');
  const words = lines.slice(-3).map((line) => line.replace(/^\[[^\]]*\](\[[^\]]*\])* ?/, ''));
  return words.join(' ').slice(0, 2_000) || 'it said nothing';
}
