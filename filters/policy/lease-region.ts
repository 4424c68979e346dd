/** Which requests a lease is for, and what the data plane must find in a path to say so. */
import { limits } from '../../config/limits.ts';

/**
 * Paths, of one agent, scheme, host, port and method, of which the policy says the same: verdict, rule, shadow
 * outcomes and quotas. `prefix` ends in a slash, or is the whole path where `exact`.
 */
export type LeaseRegion = Readonly<{ methods: 'this'; prefix: string; exact: boolean }>;

/** Where requests may be leased, or why they may not. */
export type LeaseScope = LeaseRegion | Readonly<{ why: string }>;

/**
 * Characters that no server and no rule reads in two ways. Not among them: `%`, `;`, `\`, `*`, what a path may
 * only have encoded, and all that is not ASCII.
 */
const plainCharacters = /^\/[A-Za-z0-9._~!$&'()+,=:@/-]*$/;
const doubtfulSegment = /\/(?:\/|\.\.?(?:\/|$))/;

/** Only the last segment may be empty, and none is a dot segment. */
export const plainPath = (path: string): boolean => plainCharacters.test(path) && !doubtfulSegment.test(path);

/** The query goes upstream as it is, so it must be one that the check would not refuse either. */
const plainQuery = /^[\x21\x22\x24-\x7e]*$/;

/**
 * The specification of `isIn` in `envoy/lease.lua`, which is what decides on the way of a request; nothing of the
 * product calls this. Tests hold the two against each other, and against the rules.
 * @param target path and query as the data plane has them (`:path`).
 */
export function inRegion(region: LeaseRegion, target: string): boolean {
  if (target.length > limits.pathBytesMax) return false;
  const queryAt = target.indexOf('?');
  const path = queryAt === -1 ? target : target.slice(0, queryAt);
  if (queryAt !== -1 && !plainQuery.test(target.slice(queryAt + 1))) return false;
  if (!plainPath(path)) return false;
  return region.exact ? path === region.prefix : path.startsWith(region.prefix);
}
