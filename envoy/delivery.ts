/**
 * Hands configuration to Envoy as files replaced by rename, each with a version that Envoy shows again once it
 * is applied. A file is touched only where its content changes: replaced listeners would drain connections.
 */
import { createHash } from 'node:crypto';
import { chmod, chown, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { Clock } from '../filters/common/time.ts';
import type { AdminClient } from './admin-client.ts';
import type { EnvoyConfig } from './config.ts';
import type { JsonObject } from './json.ts';
import type { EnvoyPaths } from './paths.ts';
import { pause } from './pause.ts';
import type { ProcessUser } from './user.ts';

const typePrefix = 'type.googleapis.com/';

type Kind = 'listener' | 'cluster' | 'route';

/** One discovery response as a file. */
type Delivery = Readonly<{
  directory: string;
  name: string;
  kind: Kind;
  version: string;
  text: string;
  resources: readonly string[];
}>;

const types: Readonly<Record<Kind, string>> = {
  listener: 'envoy.config.listener.v3.Listener',
  cluster: 'envoy.config.cluster.v3.Cluster',
  route: 'envoy.config.route.v3.RouteConfiguration',
};

export const digestOf = (text: string): string =>
  createHash('sha256').update(text).digest('hex').slice(0, 16);

function delivery(kind: Kind, directory: string, name: string, resources: readonly JsonObject[]): Delivery {
  const typed = resources.map((resource) => ({ '@type': typePrefix + types[kind], ...resource }));
  const version = digestOf(JSON.stringify(typed));
  return {
    directory,
    name,
    kind,
    version,
    text: JSON.stringify({ version_info: version, resources: typed }),
    resources: resources.map((resource) => String(resource['name'])),
  };
}

/** In the order in which Envoy may need them: routes name clusters, listeners name both. */
export const deliveries = (config: EnvoyConfig, paths: EnvoyPaths): readonly Delivery[] => [
  delivery('cluster', paths.clusters, 'clusters', config.clusters),
  ...config.routes.map((table) => delivery('route', paths.routes, String(table['name']), [table])),
  delivery('listener', paths.listeners, 'listeners', config.listeners),
];

/** Directories as Envoy's user needs them: it reads its configuration and cannot write it. */
export async function makeDirectories(paths: EnvoyPaths, user: ProcessUser | undefined): Promise<void> {
  for (const dir of [paths.dir, paths.listeners, paths.clusters, paths.routes]) {
    await mkdir(dir, { recursive: true, mode: 0o750 });
    await chmod(dir, dir === paths.dir ? 0o710 : 0o750);
    if (user !== undefined) await chown(dir, 0, user.gid);
  }
  await mkdir(paths.staging, { recursive: true, mode: 0o700 });
  for (const dir of [join(paths.adminSocket, '..'), paths.logDir]) {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    await chmod(dir, 0o700);
    if (user !== undefined) await chown(dir, user.uid, user.gid);
  }
}

/** Writes beside the watched directories and moves into place, readable by Envoy's user. */
export async function putFile(
  paths: EnvoyPaths,
  target: string,
  text: string,
  user: ProcessUser | undefined,
): Promise<void> {
  const temporary = join(paths.staging, `${digestOf(target)}.tmp`);
  await writeFile(temporary, text, { mode: 0o640 });
  if (user !== undefined) await chown(temporary, 0, user.gid);
  await rename(temporary, target);
}

async function holds(file: string, text: string): Promise<boolean> {
  try {
    return (await readFile(file, 'utf8')) === text;
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return false;
    throw thrown;
  }
}

/** True where every file already holds exactly this. */
export async function isCurrent(all: readonly Delivery[]): Promise<boolean> {
  for (const one of all) if (!(await holds(fileOf(one), one.text))) return false;
  return true;
}

const fileOf = (one: Delivery): string => join(one.directory, `${one.name}.json`);

/** Returns what was written. */
export async function deliver(
  all: readonly Delivery[],
  paths: EnvoyPaths,
  user: ProcessUser | undefined,
): Promise<readonly Delivery[]> {
  const written: Delivery[] = [];
  for (const one of all) {
    const target = fileOf(one);
    if (await holds(target, one.text)) continue;
    await putFile(paths, target, one.text, user);
    written.push(one);
  }
  return written;
}

async function notApplied(all: readonly Delivery[], admin: AdminClient): Promise<readonly Delivery[]> {
  // While Envoy is being started again nothing is applied; it will read the new files.
  if (!(await admin.ready())) return all;
  const versions = await admin.versions();
  return all.filter((one) =>
    one.resources.some((name) => versions.get(`${one.kind}/${name}`) !== one.version),
  );
}

/** Resolves when Envoy shows every version; rejects with what it says against one, or when the time is over. */
export async function confirmed(all: readonly Delivery[], admin: AdminClient, clock: Clock): Promise<void> {
  const until = clock.monotonicMs() + limits.envoyApplyMs;
  for (let waitMs = 2; ; waitMs = Math.min(waitMs * 2, 100)) {
    const missing = await notApplied(all, admin);
    if (missing.length === 0) return;
    const failures = (await admin.ready()) ? await admin.failures() : [];
    if (failures.length > 0)
      throw new SallyportError('PolicyInvalid', `Envoy refused its configuration: ${failures.join('; ')}`);
    if (clock.monotonicMs() > until)
      throw new SallyportError(
        'ServiceUnavailable',
        `Envoy did not take ${missing.map((one) => one.name).join(', ')} within ${limits.envoyApplyMs} ms`,
      );
    await pause(waitMs);
  }
}
