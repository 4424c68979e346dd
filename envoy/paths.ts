/** Where everything is that Envoy and the sidecar share. Owners and modes are set in `delivery.ts`. */
import { join } from 'node:path';

export type EnvoyPaths = Readonly<{
  /** Root of it all, below the run directory. */
  dir: string;
  bootstrap: string;
  /** One directory per kind: Envoy re-reads every file of a watched directory at each rename in it. */
  listeners: string;
  clusters: string;
  routes: string;
  /** Temporary files before their rename: the same volume, not watched. */
  staging: string;
  /** Which process runs, so that a new sidecar can adopt it. */
  state: string;
  adminSocket: string;
  authzSocket: string;
  leaseSocket: string;
  sdsSocket: string;
  healthSocket: string;
  /** Below the state directory: it outlives the run directory. */
  logDir: string;
  accessLog: string;
  processLog: string;
  upstreamCa: string;
}>;

export function envoyPaths(runDir: string, stateDir: string, upstreamCaFile: string): EnvoyPaths {
  const dir = join(runDir, 'envoy');
  const logDir = join(stateDir, 'envoy');
  return {
    dir,
    bootstrap: join(dir, 'bootstrap.json'),
    listeners: join(dir, 'lds'),
    clusters: join(dir, 'cds'),
    routes: join(dir, 'rds'),
    staging: join(dir, 'staging'),
    state: join(dir, 'process.json'),
    // Envoy makes this one itself, so its directory is Envoy's.
    adminSocket: join(dir, 'a', 'admin.sock'),
    authzSocket: join(dir, 'authz.sock'),
    leaseSocket: join(dir, 'lease.sock'),
    sdsSocket: join(dir, 'sds.sock'),
    healthSocket: join(dir, 'health.sock'),
    logDir,
    accessLog: join(logDir, 'access.jsonl'),
    processLog: join(logDir, 'envoy.log'),
    upstreamCa: upstreamCaFile,
  };
}
