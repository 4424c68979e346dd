/** What a running sidecar says of itself: `/v1/status` and `sallyport status --json`. */
import { z } from 'zod';
import type { Settings } from '../config/settings.ts';
import type { Admin } from './admin/server.ts';
import type { AgentTrust } from './certificates.ts';
import type { CheckServers } from './check-servers.ts';
import type { ChosenPlane } from './data-plane.ts';
import type { Health } from './health.ts';
import type { LivePolicy } from './policy.ts';
import { type ProcessRef, processRef } from './run-file.ts';
import type { State } from './state.ts';
import { version } from './version.ts';

const text = z.string();
const maybe = text.optional();

/** The command line reads it back from another process, perhaps of another version: so it is a schema. */
export const statusSchema = z.object({
  version: text,
  node: text,
  pid: z.int(),
  started_at: text,
  data_plane: z.object({ kind: z.enum(['envoy', 'embedded']), reason: text, proxy: text, proxy_tls: maybe }),
  admin: z.object({ socket: text, url: maybe }),
  ext_authz: z.object({ grpc: z.array(text), http: z.array(text) }),
  policy: z.object({
    file: text,
    version: text,
    rules: z.int(),
    agents: z.array(text),
    rejected: z.array(text),
  }),
  state_dir: text,
  run_dir: text,
  ca: z.object({ file: text, bundle: text, dir: text }),
  holds: z.record(text, z.int()),
  /** Absent where none holds. */
  lockdown: z.object({ reason: text, by: text, since: text }).optional(),
  health: z.object({
    status: z.enum(['Healthy', 'Degraded', 'Unhealthy']),
    parts: z.array(
      z.object({ name: text, status: z.enum(['Healthy', 'Degraded', 'Unhealthy']), detail: text }),
    ),
  }),
  /** `start_ticks` tells a process from a later one with the same number; empty where it is unknown. */
  processes: z.array(z.object({ name: text, pid: z.int(), start_ticks: text })),
});
export type Status = z.output<typeof statusSchema>;

export type StatusParts = Readonly<{
  settings: Settings;
  chosen: ChosenPlane;
  admin: Admin;
  checkServers: CheckServers;
  policy: LivePolicy;
  state: State;
  trust: AgentTrust;
  stateDir: string;
  runDir: string;
  children: readonly ProcessRef[];
  health(): Promise<Health>;
}>;

const startedAt = new Date(performance.timeOrigin).toISOString();

/** This process, the data plane's where it has its own, and those that the command line started with it. */
export async function processesOf(
  chosen: ChosenPlane,
  children: readonly ProcessRef[],
): Promise<readonly ProcessRef[]> {
  const { pid } = await chosen.plane.health();
  return [
    processRef('sidecar', process.pid),
    ...(pid > 0 && pid !== process.pid ? [processRef(chosen.plane.kind, pid)] : []),
    ...children,
  ];
}

export async function statusOf(parts: StatusParts): Promise<Status> {
  const { admin, chosen, policy, trust } = parts;
  const current = policy.current();
  const health = await parts.health();
  return {
    version,
    node: process.version,
    pid: process.pid,
    started_at: startedAt,
    data_plane: {
      kind: chosen.plane.kind,
      reason: chosen.reason,
      proxy: chosen.plane.proxyUrl,
      proxy_tls: chosen.plane.proxyTlsUrl,
    },
    admin: { socket: admin.socketPath, url: admin.url },
    ext_authz: { grpc: [...parts.checkServers.grpc], http: [...parts.checkServers.http] },
    policy: {
      file: parts.settings.policy,
      version: current.version,
      rules: current.source.rules.length,
      agents: Object.keys(current.source.agents),
      rejected: [...policy.rejected()],
    },
    state_dir: parts.stateDir,
    run_dir: parts.runDir,
    ca: { file: trust.caFile, bundle: trust.bundleFile, dir: trust.certDir },
    holds: parts.state.holds.counts(),
    lockdown: parts.state.lockdown.isLocked(),
    health: { status: health.status, parts: health.parts.map((part) => ({ ...part })) },
    processes: (await processesOf(chosen, parts.children)).map(({ name, pid, startTicks }) => ({
      name,
      pid,
      start_ticks: startTicks,
    })),
  };
}
