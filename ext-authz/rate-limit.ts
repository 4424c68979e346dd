/** RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10, sections 3 and 4). */
import type { QuotaState } from '../filters/decision.ts';

/** RFC 9651, section 4.1.6: a String is printable ASCII with quote and backslash escaped. */
const quoted = (name: string): string =>
  `"${name.replace(/[^\x20-\x7e]/g, '?').replace(/["\\]/g, (character) => `\\${character}`)}"`;

const seconds = (ms: number): number => Math.max(0, Math.ceil(ms / 1_000));

/** Both headers, or none where no quota counted this call. */
export function rateLimitHeaders(quotas: readonly QuotaState[]): Record<string, string> {
  if (quotas.length === 0) return {};
  return {
    ratelimit: quotas
      .map((quota) => {
        const remaining = Math.max(0, Math.floor(quota.limit - quota.used));
        return `${quoted(quota.name)};r=${remaining};t=${seconds(quota.resetMs)}`;
      })
      .join(', '),
    'ratelimit-policy': quotas
      .map((quota) => `${quoted(quota.name)};q=${Math.floor(quota.limit)};w=${seconds(quota.windowMs)}`)
      .join(', '),
  };
}
