/** Who calls, for a data plane that shares out its room by agent, or reads a body, before it asks the check. */

import type { Agent, Call } from '../filters/facts.ts';
import { identify } from '../filters/identity/identify.ts';
import type { CheckerDeps } from './check.ts';

/** Undefined where nobody is known. Decides nothing: the check that follows identifies again, and says why. */
export type KnownAgent = (call: Call) => Agent | undefined;

export const createKnownAgent =
  ({
    policy,
    podAgent,
    users,
    planeUid,
  }: Pick<CheckerDeps, 'policy' | 'podAgent' | 'users' | 'planeUid'>): KnownAgent =>
  (call) => {
    try {
      return identify(call, policy(), { podAgent, users, planeUid });
    } catch {
      return undefined;
    }
  };
