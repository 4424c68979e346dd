/** A rule's identity by content: an approval outlives a reload only where the same rule still decides. */
import { createHash } from 'node:crypto';
import type { Policy, PolicyRule } from '../../config/policy/schema.ts';
import type { Digest } from '../common/brand.ts';

/** JSON with sorted keys and nothing left out but undefined members (after RFC 8785, section 3.2.3). */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(canonical);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, member]) => member !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
      .map(([key, member]) => [key, canonical(member)]),
  );
}

/** Over the rule, its hosts with groups resolved, and the people who may approve. */
export function ruleDigest(
  rule: PolicyRule,
  hosts: readonly string[],
  approvers: Policy['approvers'][string] | undefined,
): Digest {
  const text = JSON.stringify(canonical({ rule, hosts, approvers }));
  return createHash('sha256').update(text).digest('hex') as Digest;
}
