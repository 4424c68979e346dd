/** Envoy for tests: `SALLYPORT_ENVOY`, else the one in the tools directory, which is fetched once. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { installEnvoy } from '../../envoy/binary.ts';

let found: Promise<string> | undefined;

const toolsDir = (): string =>
  process.getuid?.() === 0 ? '/var/lib/sallyport/tools' : join(homedir(), '.local/state/sallyport/tools');

export function envoyBinary(): Promise<string> {
  const given = process.env['SALLYPORT_ENVOY'];
  found ??=
    given === undefined || given === '' ? installEnvoy(toolsDir(), () => undefined) : Promise.resolve(given);
  return found;
}
