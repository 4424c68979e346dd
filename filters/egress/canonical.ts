/**
 * The destination of a call in its one canonical spelling. Policy, pin and agreement compare nothing else,
 * so two spellings of one host or path must never come out different, and what has two readings is refused.
 * Names go through UTS-46 and the IPv4 number forms as every URL library reads them (WHATWG URL, 3.5).
 */
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { Call, Destination } from '../facts.ts';

export type Host = Readonly<{ host: string; isAddress: boolean }>;
export type Authority = Host & Readonly<{ port: number | undefined }>;

/** RFC 1035, section 2.3.4; RFC 2181, section 11. */
const labelCharsMax = 63;
const nameCharsMax = 253;

const portByScheme = { http: 80, https: 443 } as const;

const nameCharacters = /^[A-Za-z0-9._\-\u{80}-\u{10ffff}]+$/u;
const label = /^[a-z0-9_-]+$/;
const dottedIpv4 = /^\d+\.\d+\.\d+\.\d+$/;
const ipv6Characters = /^[0-9A-Fa-f:.]+$/;
const portDigits = /^[1-9][0-9]{0,4}$/;
/** What a rule can name. */
export const methodName = /^[A-Z][A-Z0-9_-]{0,31}$/;

function refuse(message: string, cause?: unknown): never {
  throw new SallyportError('DestinationInvalid', message, { cause });
}

/** Messages never repeat what was sent: a refused authority may carry a password as userinfo. */
function hostOfUrl(urlHost: string): string {
  try {
    return new URL(`http://${urlHost}/`).hostname;
  } catch (error) {
    return refuse('the host is neither a name nor an address', error);
  }
}

/**
 * @param raw a host name or an address literal; IPv6 with or without brackets.
 * @returns lower case, A-labels, no trailing dot; IPv4 dotted; IPv6 without brackets as RFC 5952, section 4
 * writes it. Feeding the result back gives the same result.
 */
export function canonicalHost(raw: string): Host {
  if (raw === '') refuse('the host is empty');
  if (raw.length > limits.authorityBytesMax)
    refuse(`the host is longer than ${limits.authorityBytesMax} bytes`);
  if (raw.startsWith('[') || raw.includes(':')) return canonicalIpv6(raw);
  if (!nameCharacters.test(raw)) refuse('the host has a character that no host name has');

  const parsed = hostOfUrl(raw);
  if (dottedIpv4.test(parsed)) return { host: parsed, isAddress: true };
  // The root's empty label: `example.com.` is the same name (RFC 1034, section 3.1).
  const name = parsed.endsWith('.') ? parsed.slice(0, -1) : parsed;
  if (name.length > nameCharsMax) refuse(`the host name is longer than ${nameCharsMax} characters`);
  for (const part of name.split('.')) {
    if (part === '') refuse('the host name has an empty label');
    if (part.length > labelCharsMax)
      refuse(`a label of the host name is longer than ${labelCharsMax} characters`);
    // UTS-46 can leave characters that DNS carries but no host has.
    if (!label.test(part)) refuse('the host has a character that no host name has');
  }
  return { host: name, isAddress: false };
}

function canonicalIpv6(raw: string): Host {
  const bracketed = raw.startsWith('[') && raw.endsWith(']');
  const inner = bracketed ? raw.slice(1, -1) : raw;
  // Zone ids (RFC 6874) fall here: they choose an interface of this machine, which is not the agent's to do.
  if (!ipv6Characters.test(inner)) refuse('the host is not an IPv6 address without zone');
  return { host: hostOfUrl(`[${inner}]`).slice(1, -1), isAddress: true };
}

/** `host`, `host:port`, `[v6]` or `[v6]:port` (RFC 3986, section 3.2, without userinfo). */
export function parseAuthority(raw: string): Authority {
  if (raw.length > limits.authorityBytesMax)
    refuse(`the authority is longer than ${limits.authorityBytesMax} bytes`);
  if (raw.includes('@')) refuse('the authority carries user information');
  const hostEnd = raw.startsWith('[') ? raw.indexOf(']') + 1 : raw.indexOf(':');
  if (raw.startsWith('[') && hostEnd === 0) refuse('the IPv6 address has no closing bracket');
  if (hostEnd === -1) return { ...canonicalHost(raw), port: undefined };
  const rest = raw.slice(hostEnd);
  const host = canonicalHost(raw.slice(0, hostEnd));
  return { ...host, port: rest === '' ? undefined : parsePort(rest) };
}

/** One spelling only: no sign, no leading zero, no empty port. */
function parsePort(rest: string): number {
  const digits = rest.slice(1);
  const port = Number(digits);
  if (!rest.startsWith(':') || !portDigits.test(digits) || port > 65_535)
    refuse('the port is not a number from 1 to 65535 without sign or leading zero');
  return port;
}

export function canonicalDestination(call: Call): Destination {
  switch (call.stage) {
    case 'connect':
      if (call.method !== 'CONNECT') refuse('a tunnel is opened by CONNECT only');
      return tunnelDestination(call, call.authority);
    case 'tunnel':
      return tunnelDestination(call, call.connection.tunnelAuthority);
    case 'request':
      return requestDestination(call);
  }
}

function tunnelDestination(call: Call, authority: string): Destination {
  if (call.path !== '') refuse('a tunnel has no path');
  const { host, isAddress, port } = parseAuthority(authority);
  // RFC 9110, section 9.3.6: CONNECT names the port; there is no default.
  if (port === undefined) refuse('a tunnel names its port');
  return {
    scheme: 'tcp',
    host,
    hostIsAddress: isAddress,
    port,
    method: 'CONNECT',
    path: '',
    query: '',
    mcp: call.mcp,
  };
}

function requestDestination(call: Call): Destination {
  const { scheme, method } = call;
  if (scheme !== 'http' && scheme !== 'https') refuse('the scheme is neither http nor https');
  if (!methodName.test(method) || method === 'CONNECT')
    refuse('the method is not an upper-case HTTP method of at most 32 characters');
  const { host, isAddress, port } = parseAuthority(call.authority);
  return {
    scheme,
    host,
    hostIsAddress: isAddress,
    port: port ?? portByScheme[scheme],
    method,
    ...canonicalTarget(method, call.path),
    mcp: call.mcp,
  };
}

const unprintable = /[^\x21-\x7e]/;
const brokenEscape = /%(?![0-9A-Fa-f]{2})/;
/** Slash, backslash, NUL and the other controls: some servers decode them before they split or log the path. */
const dangerousEscape = /%(?:2f|5c|[01][0-9a-f]|7f)/i;
/** UTF-8 longer than needed (RFC 3629, section 3), by which `%C0%AF` was once read as a slash. */
const overlongEscape = /%c[01]|%e0%[89]|%f0%8/i;
const percentEscape = /%[0-9A-Fa-f]{2}/g;
const bareCharacter = /["<>[\]^`{|}]/g;
const encoded = (character: string): string => `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
const unreserved = /^[A-Za-z0-9._~-]$/;
/** `.` and `..`, also with a parameter behind (`..;x`), which servlet containers take off first. */
const dotSegment = /\/\.{1,2}(?:(?:;|%3B)[^/]*)?(?=\/|$)/;

/**
 * Path for matching and query as sent.
 *
 * - Unreserved characters are decoded once, every other escape stays, in upper case; `%25` stays, so nothing
 *   is ever decoded twice.
 * - Data planes resolve dot segments before the check; one that is still here is refused.
 * - Characters that a path may only have encoded (RFC 3986, section 3.3), yet that clients send bare, are
 *   encoded, so that `/a|b` and `/a%7Cb` are one path.
 * - Empty segments (`//`) stay as they are sent, because they go upstream so; whether a glob covers one is
 *   the policy's to say.
 * - `*` of OPTIONS (RFC 9112, section 3.2.4) asks about the whole host. It is matched as `/*`: covered by
 *   patterns for the whole host, by none that names a path.
 */
function canonicalTarget(method: string, target: string): Readonly<{ path: string; query: string }> {
  if (target.length > limits.pathBytesMax)
    throw new SallyportError('RequestTooLarge', `the path is longer than ${limits.pathBytesMax} bytes`);
  if (target === '*' && method === 'OPTIONS') return { path: '/*', query: '' };
  if (!target.startsWith('/')) refuse('the path does not start with a slash');
  if (unprintable.test(target))
    refuse('the path has a space, a control character or a byte that is not ASCII');
  if (target.includes('#')) refuse('the path carries a fragment');
  const queryAt = target.indexOf('?');
  const raw = queryAt === -1 ? target : target.slice(0, queryAt);
  const query = queryAt === -1 ? '' : target.slice(queryAt + 1);
  if (raw.includes('\\')) refuse('the path has a backslash');
  const path = (raw.includes('%') ? decodeUnreserved(raw) : raw).replace(bareCharacter, encoded);
  if (dotSegment.test(path)) refuse('the path has a dot segment');
  return { path, query };
}

/** RFC 3986, sections 6.2.2.1 and 6.2.2.2. */
function decodeUnreserved(raw: string): string {
  if (brokenEscape.test(raw)) refuse('the path has a percent sign that starts no escape');
  if (dangerousEscape.test(raw)) refuse('the path has an encoded slash, backslash or control character');
  if (overlongEscape.test(raw)) refuse('the path has UTF-8 in an over-long form');
  return raw.replace(percentEscape, (found) => {
    const character = String.fromCharCode(Number.parseInt(found.slice(1), 16));
    return unreserved.test(character) ? character : found.toUpperCase();
  });
}
