import type { Agent, DelegationChain } from '../facts.ts';

/**
 * Who acts for whom, outermost first, the agent itself last. The seam for delegation: every record, digest
 * and decision takes its chain from here, so signed links change this function and no format.
 */
export function delegationChain(agent: Agent): DelegationChain {
  return [agent.id];
}
