/**
 * Who asks for what: identify → canonicalise → read as the policy needs → agree. The beginning of a check and of a
 * lease alike: what is refused here is refused by both. What it finds goes to `progress` as it is found.
 */
import type { Clock } from '../filters/common/time.ts';
import { assertAgreement } from '../filters/egress/agreement.ts';
import { canonicalDestination } from '../filters/egress/canonical.ts';
import type { Agent, Call, Destination } from '../filters/facts.ts';
import { identify } from '../filters/identity/identify.ts';
import type { RequestFacts } from '../filters/policy/compiled.ts';
import type { CheckerDeps } from './checker-deps.ts';
import type { Progress } from './draft.ts';
import { readAsNeeded } from './read-as-needed.ts';

/** A call, with who makes it and where it goes. */
export type Asked = Readonly<{ call: Call; agent: Agent; destination: Destination }>;

type Deps = Pick<CheckerDeps, 'podAgent' | 'users' | 'planeUid'>;

export function establish(deps: Deps, progress: Progress, call: Call): Asked {
  const { policy } = progress;
  const agent = identify(call, policy, deps);
  progress.agent = agent;
  const canonical = canonicalDestination(call);
  progress.destination = canonical;
  const destination = readAsNeeded(policy, call, canonical);
  progress.destination = destination;
  assertAgreement(call, destination);
  return { call, agent, destination };
}

/** What rules and quotas read of it, at this moment. */
export const factsOf = (clock: Clock, { call, agent, destination }: Asked): RequestFacts => ({
  agent,
  destination,
  headers: call.headers,
  body: call.body,
  nowMs: clock.wallMs(),
});
