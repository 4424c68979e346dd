/** The recorded requests that a rule could be suggested for, each once with its counts. Bounded. */
import { limits } from '../config/limits.ts';
import { looksSecret } from '../filters/common/path-secrets.ts';
import type { Destination } from '../filters/facts.ts';
import { parseHostPattern } from '../filters/policy/host-pattern.ts';
import { parsePathPattern } from '../filters/policy/path-pattern.ts';
import { destinationOf, type RecordedDecision } from './replay-record.ts';

export type Outcome = 'allow' | 'hold' | 'forbid';

/** One request that was seen, however often. */
export type Seen = {
  readonly agent: string;
  readonly outcome: Outcome;
  /** The rule in shadow mode that would have decided so; empty for one that no rule covered. */
  readonly shadowRule: string;
  readonly destination: Destination;
  /** The path as it may be shown: what looks secret is `*`. */
  readonly path: string;
  decisions: number;
  calls: number;
  lastMs: number;
  readonly examples: string[];
};

export type Collected = Readonly<{
  add(decision: RecordedDecision): void;
  seen(): Seen[];
  /** Calls that no rule can be suggested for, by the reason. */
  leftOut(): ReadonlyMap<string, number>;
}>;

const examplesMax = 3;

export type CollectOptions = Readonly<{
  denied: boolean;
  /** Lowered by tests only. */
  requestsMax?: number;
}>;

export function createCollection(options: CollectOptions): Collected {
  const { requestsMax = limits.suggestRequestsMax } = options;
  const found = new Map<string, Seen>();
  const leftOut = new Map<string, number>();

  const leave = (why: string, calls: number): void => {
    leftOut.set(why, (leftOut.get(why) ?? 0) + calls);
  };

  const take = (decision: RecordedDecision, outcome: Outcome, shadowRule: string): void => {
    const { agent, calls, atMs, id } = decision;
    const destination = destinationOf(decision);
    const why = agent === '' ? 'the agent is not known' : unsayable(destination);
    if (why !== undefined || destination === undefined) {
      leave(why ?? 'the destination is not known', calls);
      return;
    }
    const { scheme, host, port, method, path, mcp } = destination;
    const key = JSON.stringify([agent, outcome, shadowRule, scheme, host, port, method, path, mcp]);
    let seen = found.get(key);
    if (seen === undefined) {
      if (found.size >= requestsMax) {
        leave(`there are more than ${requestsMax} different ones: look back less far`, calls);
        return;
      }
      seen = {
        ...{ agent, outcome, shadowRule, destination, path: shownPath(path) },
        ...{ decisions: 0, calls: 0, lastMs: 0, examples: [] },
      };
      found.set(key, seen);
    }
    seen.decisions += 1;
    seen.calls += calls;
    seen.lastMs = Math.max(seen.lastMs, atMs);
    if (seen.examples.length < examplesMax) seen.examples.push(id);
  };

  return {
    add: (decision) => {
      if (decision.stage === 'tunnel') return;
      const [strongest] = decision.shadow;
      if (strongest !== undefined) {
        const outcome = outcomes.find((one) => one === strongest.would);
        if (outcome !== undefined) take(decision, outcome, strongest.rule);
      } else if (options.denied && decision.code === 'EgressDenied') take(decision, 'allow', '');
    },
    seen: () => [...found.values()],
    leftOut: () => leftOut,
  };
}

const outcomes: readonly Outcome[] = ['allow', 'hold', 'forbid'];

/** As in the policy's schema. */
const methodPattern = /^[A-Z][A-Z-]{0,31}$/;

/** Why the policy language cannot name exactly this request; undefined where it can. */
function unsayable(destination: Destination | undefined): string | undefined {
  if (destination === undefined) return 'the path was too long for the journal';
  const { host, method, path, mcp, scheme } = destination;
  const pattern = parseHostPattern(host);
  if (!pattern.ok || pattern.value.text !== host) return 'no rule can name such a host';
  if (scheme === 'tcp') return undefined;
  if (!methodPattern.test(method)) return 'no rule can name such a method';
  if (path.length > limits.policyPathCharsMax)
    return `the path has more than ${limits.policyPathCharsMax} characters`;
  if (!parsePathPattern(shownPath(path)).ok) return 'no rule can name such a path';
  if (mcp.kind === 'invalid') return 'the message is not strict MCP';
  const names = mcp.kind === 'call' ? [mcp.method, mcp.tool] : [];
  return names.some((name) => name.length > limits.policyMcpNameCharsMax || name.endsWith('*'))
    ? 'no rule can name such an MCP method or tool'
    : undefined;
}

/** A star in a path can only be said as a whole segment. */
const shownPath = (path: string): string =>
  path
    .split('/')
    .map((segment, index, all) =>
      segment.includes('*') || looksSecret(segment, all[index - 1]) ? '*' : segment,
    )
    .join('/');
