/** Which data plane carries the bytes, and why. `auto` never fails for want of Envoy; `envoy` never silently does without. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { SallyportError } from '../config/errors.ts';
import type { DataPlane, PlaneDeps } from '../envoy/data-plane.ts';

export type ChosenPlane = Readonly<{ plane: DataPlane; reason: string }>;

const words = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown));

type Sought = Readonly<{ reason: string }> | Readonly<{ missing: string }>;

/** The lowest port that a user without privileges may listen on (ip-sysctl: `ip_unprivileged_port_start`). */
function lowestPort(): number {
  try {
    return Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'));
  } catch {
    // Kernels before 4.11 have no such file, and this bound.
    return 1_024;
  }
}

/** Why Envoy's user, which is not root, cannot be what it has to be; undefined where it can. Asked before Envoy is fetched. */
async function obstacle(deps: PlaneDeps): Promise<string | undefined> {
  const { settings, stateDir, runDir } = deps;
  const { assertReachable, envoyUser } = await import('../envoy/user.ts');
  try {
    const user = envoyUser(settings.agent.envoy_user);
    const lowest = lowestPort();
    for (const [setting, port] of [
      ['proxy.port (--port)', settings.proxy.port],
      ['proxy.tls_port', settings.proxy.tls_port],
    ] as const) {
      if (port !== null && port !== 0 && port < lowest)
        return `${setting} is ${port}: Envoy runs as user ${user?.uid ?? process.getuid?.()}, which may listen on ${lowest} and above only`;
    }
    if (user === undefined) return undefined;
    const { binary } = settings.envoy;
    for (const place of [stateDir, runDir, ...(existsSync(binary) ? [binary] : [])])
      await assertReachable(place, user);
    return undefined;
  } catch (thrown) {
    if (thrown instanceof SallyportError) return thrown.message;
    throw thrown;
  }
}

/** Why Envoy is taken, after it was fetched where it had to be; or why there is none. */
async function findOrFetch(deps: PlaneDeps, report: (line: string) => void): Promise<Sought> {
  const { settings } = deps;
  const toolsDir = path.join(deps.stateDir, 'tools');
  const why = await obstacle(deps);
  if (why !== undefined) return { missing: why };
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
  if (settings.data_plane === 'embedded') return embedded('asked for by the setting data_plane');

  const envoy = await findOrFetch(deps, report);
  if ('missing' in envoy) {
    if (settings.data_plane === 'envoy')
      throw new SallyportError(
        'SettingsInvalid',
        `data_plane is envoy, but Envoy cannot carry the traffic: ${envoy.missing}; mend that, or set data_plane to auto`,
      );
    return embedded(`without Envoy: ${envoy.missing}`);
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
