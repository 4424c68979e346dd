/** Health of the whole from the health of its parts: the worst part that matters is the answer. */
import { statfs } from 'node:fs/promises';
import { limits } from '../config/limits.ts';

export type Verdict = 'Healthy' | 'Degraded' | 'Unhealthy';
export type Part = Readonly<{ name: string; status: Verdict; detail: string }>;
export type Health = Readonly<{ status: Verdict; parts: readonly Part[] }>;

const rank = { Healthy: 0, Degraded: 1, Unhealthy: 2 } as const;

/** A part that fails to answer is Unhealthy, and never hides the others. */
export type Probe = Readonly<{ name: string; ask: () => Promise<Omit<Part, 'name'>> | Omit<Part, 'name'> }>;

export async function askHealth(probes: readonly Probe[]): Promise<Health> {
  const parts = await Promise.all(
    probes.map(async ({ name, ask }): Promise<Part> => {
      try {
        return { name, ...(await bounded(ask)) };
      } catch (thrown) {
        return {
          name,
          status: 'Unhealthy',
          detail: thrown instanceof Error ? thrown.message : String(thrown),
        };
      }
    }),
  );
  const worst = parts.reduce<Verdict>(
    (so, part) => (rank[part.status] > rank[so] ? part.status : so),
    'Healthy',
  );
  return { status: worst, parts };
}

async function bounded<T>(ask: () => Promise<T> | T): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`no answer within ${limits.healthProbeTimeoutMs} ms`)),
    limits.healthProbeTimeoutMs,
  );
  try {
    return await Promise.race([Promise.resolve().then(ask), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/** Below the limit the journal refuses to write and every answer is a denial: not healthy, though alive. */
export async function diskProbe(dir: string): Promise<Omit<Part, 'name'>> {
  const disk = await statfs(dir);
  const free = disk.bavail * disk.bsize;
  const mib = `${Math.floor(free / 2 ** 20)} MiB free`;
  if (free < limits.diskFreeBytesMin)
    return { status: 'Unhealthy', detail: `${mib}, needs ${limits.diskFreeBytesMin / 2 ** 20} MiB` };
  return free < 4 * limits.diskFreeBytesMin
    ? { status: 'Degraded', detail: `${mib}, running out` }
    : { status: 'Healthy', detail: mib };
}
