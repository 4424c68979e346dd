/** What a rule or quota is for, compiled: agents and destinations. Compared dimension by dimension. */
import type { Destination, McpCall } from '../facts.ts';
import { type HostPattern, hostMatches, reversedLabels } from './host-pattern.ts';
import { lenientSegments, type PathPattern, pathMatches, pathSegments } from './path-pattern.ts';

export type WordPattern = Readonly<{ text: string; prefix: boolean }>;

export type Target = Readonly<{
  /** True for forbid, hold and quotas: where a spelling is in doubt these match, and what allows does not. */
  restricting: boolean;
  agents: ReadonlySet<string> | undefined;
  /** Undefined: every host, addresses included. */
  hosts: readonly HostPattern[] | undefined;
  /** Those of a long list of hosts that have no wildcard. */
  exactHosts: ReadonlySet<string> | undefined;
  /** The others, which are compared one by one. */
  otherHosts: readonly HostPattern[];
  schemes: ReadonlySet<string> | undefined;
  /** `any` for forbids and quotas without ports; `default`: 80 for http and 443 for https. */
  ports: ReadonlySet<number> | 'default' | 'any';
  methods: ReadonlySet<string> | undefined;
  paths: readonly PathPattern[] | undefined;
  mcp:
    | Readonly<{ methods: readonly WordPattern[] | undefined; tools: readonly WordPattern[] | undefined }>
    | undefined;
}>;

/** One request, split once into what the targets compare. */
export type Subject = Readonly<{
  agent: string;
  destination: Destination;
  hostLabels: readonly string[];
  segments: readonly string[];
  /** As a lenient server reads it; the same array where nothing differs. */
  plainSegments: readonly string[];
}>;

export function subjectOf(agent: string, destination: Destination): Subject {
  const segments = pathSegments(destination.path);
  return {
    agent,
    destination,
    hostLabels: reversedLabels(destination.host, destination.hostIsAddress),
    segments,
    plainSegments: lenientSegments(segments),
  };
}

export const wordPattern = (raw: string): WordPattern =>
  raw.endsWith('*') ? { text: raw.slice(0, -1), prefix: true } : { text: raw, prefix: false };

const wordFits = (patterns: readonly WordPattern[], word: string): boolean =>
  patterns.some((pattern) => (pattern.prefix ? word.startsWith(pattern.text) : word === pattern.text));

export function hostFits(target: Target, subject: Pick<Subject, 'destination' | 'hostLabels'>): boolean {
  if (target.hosts === undefined) return true;
  const { host, hostIsAddress } = subject.destination;
  if (target.exactHosts?.has(host) === true) return true;
  for (const pattern of target.otherHosts)
    if (hostMatches(pattern, host, subject.hostLabels, hostIsAddress, target.restricting)) return true;
  return false;
}

const defaultPort: Readonly<Record<Destination['scheme'], number>> = { http: 80, https: 443, tcp: -1 };

export function portFits(target: Target, scheme: Destination['scheme'], port: number): boolean {
  if (target.ports === 'any') return true;
  return target.ports === 'default' ? defaultPort[scheme] === port : target.ports.has(port);
}

export function pathFits(target: Target, subject: Subject): boolean {
  if (target.paths === undefined) return true;
  for (const pattern of target.paths) {
    if (pathMatches(pattern, subject.segments)) return true;
    if (
      target.restricting &&
      subject.plainSegments !== subject.segments &&
      pathMatches(pattern, subject.plainSegments)
    )
      return true;
  }
  return false;
}

/** A message that is not strict MCP is never allowed by an MCP rule and always caught by one that restricts. */
export function mcpFits(target: Target, call: McpCall): boolean {
  if (target.mcp === undefined) return true;
  if (call.kind === 'none') return false;
  if (call.kind === 'invalid') return target.restricting;
  const { methods, tools } = target.mcp;
  if (methods !== undefined && !wordFits(methods, call.method)) return false;
  return tools === undefined || (call.method === 'tools/call' && wordFits(tools, call.tool));
}

/** What all requests of one agent to one origin with one method have in common. */
export function placeFits(target: Target, subject: Subject): boolean {
  const { scheme, port, method } = subject.destination;
  return (
    (target.agents === undefined || target.agents.has(subject.agent)) &&
    (target.schemes === undefined || target.schemes.has(scheme)) &&
    portFits(target, scheme, port) &&
    (target.methods === undefined || target.methods.has(method)) &&
    hostFits(target, subject)
  );
}

/** Every dimension of a request that is read. What is compared here alone must be known to `leasing.ts`. */
export const fits = (target: Target, subject: Subject): boolean =>
  mcpFits(target, subject.destination.mcp) && placeFits(target, subject) && pathFits(target, subject);
