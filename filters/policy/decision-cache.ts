/**
 * Allows that need not be worked out again: the same agent, destination, method and path, under the same policy,
 * for a minute at most. Only an allow is kept; every refusal and every hold is decided anew.
 *
 * What a decision read is not guessed from the policy but watched while it is made: a decision is pure, so
 * whatever it did not look at cannot change it. One that looked at a header, the body or the time is not kept;
 * one that looked at the query is kept for that query alone; a request that carries MCP is never kept.
 */
import { LRUCache } from 'lru-cache';
import { limits } from '../../config/limits.ts';
import type { Agent, Body, Destination } from '../facts.ts';
import type { CompiledPolicy, RequestFacts, Verdict } from './compiled.ts';

export type DecisionCache = Readonly<{
  /** What `policy.evaluate(facts)` says. */
  evaluate(policy: CompiledPolicy, facts: RequestFacts): Verdict;
  stats(): Readonly<{ hits: number; misses: number; entries: number }>;
}>;

export type DecisionCacheOptions = Readonly<{
  /** 0: nothing is kept. */
  ttlMs: number;
  entriesMax: number;
}>;

type Allowed = Extract<Verdict, { kind: 'allow' }>;

type Entry = Readonly<{
  verdict: Allowed;
  atMs: number;
  agent: string;
  /** Of the policy's own agent, whose id and labels go with them. */
  labels: Agent['labels'];
  scheme: Destination['scheme'];
  port: number;
  method: string;
  hostIsAddress: boolean;
  /** Undefined where the decision did not read it. */
  query: string | undefined;
}>;

export function createDecisionCache({ ttlMs, entriesMax }: DecisionCacheOptions): DecisionCache {
  let hits = 0;
  let misses = 0;
  if (ttlMs <= 0 || entriesMax <= 0)
    return {
      evaluate: (policy, facts) => policy.evaluate(facts),
      stats: () => ({ hits, misses, entries: 0 }),
    };
  // By host and path, whose text differs most; the rest is compared. A host has no slash, and a path begins with one.
  const entries = new LRUCache<string, readonly Entry[]>({
    max: entriesMax,
    maxSize: entriesMax,
    sizeCalculation: (list) => list.length,
  });
  /** The one snapshot that the entries are of. A new one has its own version, names and rules. */
  let of: CompiledPolicy | undefined;

  // By the clock that conditions read too. Compared both ways: one that is set back must not stretch a minute.
  const isFresh = (entry: Entry, nowMs: number): boolean => nowMs >= entry.atMs && nowMs - entry.atMs < ttlMs;

  const decide = (policy: CompiledPolicy, facts: RequestFacts, key: string): Verdict => {
    misses += 1;
    const watched = new Watched(facts);
    const verdict = policy.evaluate(watched);
    if (verdict.kind !== 'allow' || watched.readMore) return verdict;
    const { agent, destination, nowMs } = facts;
    const { scheme, port, method, hostIsAddress } = destination;
    const query = watched.destination.readQuery ? destination.query : undefined;
    const others = (entries.get(key) ?? []).filter(
      (entry) => !isOf(entry, agent, destination) && isFresh(entry, nowMs),
    );
    entries.set(key, [
      {
        verdict,
        atMs: nowMs,
        agent: agent.name,
        labels: agent.labels,
        scheme,
        port,
        method,
        hostIsAddress,
        query,
      },
      ...others.slice(0, limits.cachedDecisionsPerPathMax - 1),
    ]);
    return verdict;
  };

  return {
    evaluate: (policy, facts) => {
      const { agent, destination } = facts;
      if (destination.mcp.kind !== 'none') return policy.evaluate(facts);
      if (policy !== of) {
        entries.clear();
        of = policy;
      }
      const key = destination.host + destination.path;
      const list = entries.get(key);
      if (list !== undefined)
        for (const entry of list)
          if (isOf(entry, agent, destination) && isFresh(entry, facts.nowMs)) {
            hits += 1;
            return entry.verdict;
          }
      return decide(policy, facts, key);
    },
    stats: () => ({ hits, misses, entries: entries.calculatedSize }),
  };
}

const isOf = (entry: Entry, agent: Agent, destination: Destination): boolean =>
  entry.agent === agent.name &&
  entry.method === destination.method &&
  entry.port === destination.port &&
  entry.scheme === destination.scheme &&
  (entry.query === undefined || entry.query === destination.query) &&
  // An agent that was found under an older policy has the same name and other labels.
  entry.labels === agent.labels &&
  entry.hostIsAddress === destination.hostIsAddress;

/** The same facts, which know what was read of them. */
class Watched implements RequestFacts {
  readonly #facts: RequestFacts;
  readonly agent: Agent;
  readonly destination: WatchedDestination;
  readMore = false;
  constructor(facts: RequestFacts) {
    this.#facts = facts;
    this.agent = facts.agent;
    this.destination = new WatchedDestination(facts.destination);
  }
  get headers(): Readonly<Record<string, string>> {
    this.readMore = true;
    return this.#facts.headers;
  }
  get body(): Body {
    this.readMore = true;
    return this.#facts.body;
  }
  get nowMs(): number {
    this.readMore = true;
    return this.#facts.nowMs;
  }
}

class WatchedDestination implements Destination {
  readonly #query: string;
  readonly scheme: Destination['scheme'];
  readonly host: string;
  readonly hostIsAddress: boolean;
  readonly port: number;
  readonly method: string;
  readonly path: string;
  readonly mcp: Destination['mcp'];
  readQuery = false;
  constructor(destination: Destination) {
    this.#query = destination.query;
    this.scheme = destination.scheme;
    this.host = destination.host;
    this.hostIsAddress = destination.hostIsAddress;
    this.port = destination.port;
    this.method = destination.method;
    this.path = destination.path;
    this.mcp = destination.mcp;
  }
  get query(): string {
    this.readQuery = true;
    return this.#query;
  }
}
