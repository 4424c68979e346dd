/** Which data plane carries the bytes, and why. `auto` never fails for want of Envoy; `envoy` never silently does without. */
import path from 'node:path';
import { SallyportError } from '../config/errors.ts';
import type { Settings } from '../config/settings.ts';
import type { DataPlane, PlaneDeps } from '../envoy/data-plane.ts';

export type ChosenPlane = Readonly<{ plane: DataPlane; reason: string }>;

const words = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown));

/** Why Envoy is taken, after it was fetched where it had to be; or why there is none. */
async function findOrFetch(
  settings: Settings,
  toolsDir: string,
  report: (line: string) => void,
): Promise<{ reason: string } | { missing: string }> {
  const { findEnvoy, installEnvoy } = await import('../envoy/binary.ts');
  const found = await findEnvoy(settings, toolsDir);
  if ('path' in found) return { reason: `${found.version} at ${found.path}` };
  if (settings.envoy.binary !== '') return found;
  report(`Envoy is not installed (${found.missing}); fetching it once …`);
  try {
    return { reason: `fetched to ${await installEnvoy(toolsDir, report)}` };
  } catch (thrown) {
    return { missing: words(thrown) };
  }
}

export async function startDataPlane(deps: PlaneDeps, report: (line: string) => void): Promise<ChosenPlane> {
  const { settings } = deps;
  const embedded = async (reason: string): Promise<ChosenPlane> => {
    const { startEmbeddedPlane } = await import('./embedded/plane.ts');
    return { plane: await startEmbeddedPlane(deps), reason };
  };
  if (settings.data_plane === 'embedded') return embedded('the setting data_plane asks for it');

  const envoy = await findOrFetch(settings, path.join(deps.stateDir, 'tools'), report);
  if ('missing' in envoy) {
    if (settings.data_plane === 'envoy')
      throw new SallyportError(
        'SettingsInvalid',
        `data_plane is envoy, but there is none: ${envoy.missing}; set envoy.binary, or data_plane to auto`,
      );
    return embedded(`Envoy is not here: ${envoy.missing}`);
  }
  const { startEnvoyPlane } = await import('../envoy/plane.ts');
  try {
    return { plane: await startEnvoyPlane(deps), reason: envoy.reason };
  } catch (thrown) {
    if (settings.data_plane === 'envoy') throw thrown;
    deps.log.warn({ err: thrown }, 'Envoy did not start; the embedded data plane takes over');
    return embedded(`Envoy did not start: ${words(thrown)}`);
  }
}

/** Ports that agents connect to: a socket towards another port is another connection. */
export const portsOf = (plane: DataPlane): readonly number[] =>
  [plane.proxyUrl, plane.proxyTlsUrl].flatMap((url) =>
    url === undefined ? [] : [Number(new URL(url).port)],
  );
