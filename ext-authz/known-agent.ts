/** Who calls, for a data plane that shares out its room by agent, or reads a body, before it asks the check. */

import { toSallyportError } from '../config/errors.ts';
import type { Agent, Call } from '../filters/facts.ts';
import { identify } from '../filters/identity/identify.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';
import type { CheckerDeps } from './checker-deps.ts';

/**
 * Undefined where nobody is known. Decides nothing: the check that follows identifies again, and says why.
 * @param under absent: the policy that the check uses.
 */
export type KnownAgent = (call: Call, under?: CompiledPolicy) => Agent | undefined;

export const createKnownAgent =
  ({
    policy,
    podAgent,
    users,
    planeUid,
  }: Pick<CheckerDeps, 'policy' | 'podAgent' | 'users' | 'planeUid'>): KnownAgent =>
  (call, under = policy()) => {
    try {
      return identify(call, under, { podAgent, users, planeUid });
    } catch (thrown) {
      if (toSallyportError(thrown).code === 'Internal') throw thrown;
      return undefined;
    }
  };
