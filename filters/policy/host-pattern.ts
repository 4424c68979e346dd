/**
 * Host patterns. `*` is exactly one label; `**` is any number of labels, none included, so that
 * `**.example.org` is `example.org` and everything under it. A wildcard never stands for an address
 * literal: an address is reached only where a rule spells it. The one exception is the pattern `**` of a
 * rule that restricts (forbid, hold, quota): what is meant for everything must not be evaded by an address.
 */
import { isIP } from 'node:net';
import { patternFits } from './pattern-trie.ts';

export type HostPattern = Readonly<{
  /** Canonical spelling, as `Destination.host` would have it. */
  text: string;
  /** Labels from the right (`org`, `example`, `*`); one element for an address. */
  reversed: readonly string[];
  wildcard: boolean;
  isAddress: boolean;
}>;

export type Parsed<T> = Readonly<{ ok: true; value: T }> | Readonly<{ ok: false; message: string }>;

const failed = (message: string): Readonly<{ ok: false; message: string }> => ({ ok: false, message });

/** ASCII that a name or pattern may hold, and what IDNA may map. */
const nameCharacters = /^[A-Za-z0-9._*\-\u{80}-\u{10ffff}]+$/u;
const labelPattern = /^(?:\*\*?|[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)$/;

function canonicalAddress(raw: string): Parsed<HostPattern> {
  const inner = raw.startsWith('[') && raw.endsWith(']') ? raw.slice(1, -1) : raw;
  const version = isIP(inner);
  if (version === 0 || inner.includes('%'))
    return failed(`an IP address without zone and without port; found "${raw}"`);
  // The URL parser serialises IPv6 as RFC 5952, section 4.
  const text = version === 6 ? new URL(`http://[${inner}]/`).hostname.slice(1, -1) : inner;
  return { ok: true, value: { text, reversed: [text], wildcard: false, isAddress: true } };
}

/** Reads one pattern of a policy: lower case, IDNA A-labels, no trailing dot, IPv6 without brackets. */
export function parseHostPattern(raw: string): Parsed<HostPattern> {
  if (raw.startsWith('[') || isIP(raw) !== 0) return canonicalAddress(raw);
  if (raw.includes('://') || raw.includes('/'))
    return failed(`a host without scheme and path; found "${raw}"`);
  const port = /^(.*):\d*$/.exec(raw);
  if (port !== null) return failed(`a host without port (name the port in \`ports\`); found "${raw}"`);
  if (!nameCharacters.test(raw))
    return failed(`a host name, a pattern with \`*\` or \`**\` labels, or an address; found "${raw}"`);
  let host: string;
  try {
    // A star passes the URL parser's host rules unchanged, so that patterns are mapped as names are.
    host = new URL(`http://${raw}/`).hostname;
  } catch {
    return failed(`a host name that IDNA and RFC 1123 know; found "${raw}"`);
  }
  if (isIP(host) !== 0) return failed(`the address in its usual spelling, ${host}; found "${raw}"`);
  const text = host.endsWith('.') ? host.slice(0, -1) : host;
  const labels = text.split('.');
  if (text.length > 253) return failed(`a host name of at most 253 characters; found ${text.length}`);
  for (const label of labels) {
    if (label.includes('*') && label !== '*' && label !== '**')
      return failed(`\`*\` or \`**\` as a whole label; found "${label}" in "${raw}"`);
    if (label.length > 63 || !labelPattern.test(label))
      return failed(
        `labels of 1 to 63 letters, digits, hyphens and underscores; found "${label}" in "${raw}"`,
      );
  }
  return {
    ok: true,
    value: { text, reversed: labels.toReversed(), wildcard: text.includes('*'), isAddress: false },
  };
}

/** Labels from the right, as the pattern's; an address is one label. */
export const reversedLabels = (host: string, isAddress: boolean): string[] =>
  isAddress ? [host] : host.split('.').reverse();

export const isOneLabel = (): boolean => true;

/** `restricting`: whether a bare `**` stands for addresses too. */
export function hostMatches(
  pattern: HostPattern,
  host: string,
  labels: readonly string[],
  isAddress: boolean,
  restricting: boolean,
): boolean {
  if (!pattern.wildcard) return pattern.text === host;
  if (isAddress) return restricting && pattern.text === '**';
  return patternFits(pattern.reversed, labels, isOneLabel);
}
