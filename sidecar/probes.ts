/** The parts that `/health` asks, each by using it. */
import { limits } from '../config/limits.ts';
import type { DataPlane } from '../envoy/data-plane.ts';
import { diskProbe, type Part, type Probe } from './health.ts';
import { invocation } from './invocation.ts';
import type { LivePolicy } from './policy.ts';
import type { State } from './state.ts';

/** A ledger that is behind still loses nothing; one that cannot write waits for the disk. */
function ledgerPart({ health }: State['ledger']): Omit<Part, 'name'> {
  const { open, lagMs, failure } = health();
  if (failure !== '') return { status: 'Unhealthy', detail: failure };
  const told = `${open} open`;
  return lagMs > limits.ledgerBehindMs
    ? { status: 'Degraded', detail: `${told}, ${Math.round(lagMs / 1_000)} s behind the access log` }
    : { status: 'Healthy', detail: told };
}

export function probesOf(parts: {
  policy: LivePolicy;
  state: State;
  stateDir: string;
  plane: DataPlane;
  audit: Readonly<{ probes(): readonly Probe[] }>;
}): readonly Probe[] {
  const { policy, state, plane } = parts;
  return [
    {
      name: 'policy',
      ask: () => {
        const wrong = policy.rejected();
        const holds = `version ${policy.current().version}`;
        return wrong.length === 0
          ? { status: 'Healthy', detail: holds }
          : { status: 'Degraded', detail: `${holds} still holds; the file is not valid: ${wrong[0]}` };
      },
    },
    {
      name: 'journal',
      ask: async () => {
        const failed = state.journalFailed();
        if (failed !== '') return { status: 'Unhealthy', detail: failed };
        return diskProbe(parts.stateDir);
      },
    },
    ...parts.audit.probes(),
    {
      name: 'holds',
      ask: () => {
        const { Pending, Unknown } = state.holds.counts();
        return Unknown === 0
          ? { status: 'Healthy', detail: `${Pending} pending` }
          : {
              status: 'Degraded',
              detail: `${Unknown} with unknown outcome: ${invocation} holds list --state Unknown`,
            };
      },
    },
    { name: 'ledger', ask: () => ledgerPart(state.ledger) },
    {
      name: 'lockdown',
      ask: () => {
        const locked = state.lockdown.isLocked();
        return locked === undefined
          ? { status: 'Healthy', detail: 'none' }
          : {
              status: 'Degraded',
              detail: `everything is refused since ${locked.since}, by ${locked.by}: ${locked.reason}`,
            };
      },
    },
    {
      name: 'data plane',
      ask: async () => {
        const { healthy, detail } = await plane.health();
        return { status: healthy ? 'Healthy' : 'Unhealthy', detail: `${plane.kind}: ${detail}` };
      },
    },
  ];
}
