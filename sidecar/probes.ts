/** The parts that `/health` asks, each by using it. */
import type { DataPlane } from '../envoy/data-plane.ts';
import { diskProbe, type Probe } from './health.ts';
import type { LivePolicy } from './policy.ts';
import type { State } from './state.ts';

export function probesOf(parts: {
  policy: LivePolicy;
  state: State;
  stateDir: string;
  plane: DataPlane;
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
    {
      name: 'holds',
      ask: () => {
        const { Pending, Unknown } = state.holds.counts();
        return Unknown === 0
          ? { status: 'Healthy', detail: `${Pending} pending` }
          : {
              status: 'Degraded',
              detail: `${Unknown} with unknown outcome: sallyport holds list --state Unknown`,
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
