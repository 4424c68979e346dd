/** A policy compiled at load: closures and indices, no parsing per request. Immutable; one snapshot serves one request. */
import type { Policy } from '../../config/policy/schema.ts';
import type { AgentName, Digest, PolicyVersion, RuleName } from '../common/brand.ts';
import type { ShadowOutcome } from '../decision.ts';
import type { Agent, Body, Destination } from '../facts.ts';
import type { Debit } from '../quota/quota.ts';
import type { LeaseScope } from './lease-region.ts';
import type { RecordedFacts, RecordedVerdict } from './recorded.ts';

/** What conditions and rules read of one request. */
export type RequestFacts = Readonly<{
  agent: Agent;
  destination: Destination;
  headers: Readonly<Record<string, string>>;
  body: Body;
  /** Milliseconds since the epoch: `now` in conditions. */
  nowMs: number;
}>;

type Decided = Readonly<{ rule: RuleName; ruleDigest: Digest; shadow: readonly ShadowOutcome[] }>;

/** The strongest outcome of all matching rules. Independent of their order. */
export type Verdict =
  | (Decided & Readonly<{ kind: 'forbid'; reason: string }>)
  | (Decided &
      Readonly<{
        kind: 'hold';
        reason: string;
        approvers: string;
        quorum: number;
        members: readonly string[];
        notRequester: boolean;
        waitMs: number;
        timeoutMs: number;
        internal: boolean;
      }>)
  | (Decided & Readonly<{ kind: 'allow'; internal: boolean }>)
  /** Nothing matched. */
  | Readonly<{ kind: 'none'; shadow: readonly ShadowOutcome[] }>;

/** What a CONNECT to host:port may become for this agent, before any request is seen. */
export type ConnectVerdict =
  /** Some rule reads requests of this host and port: intercept, each request is checked. */
  | Readonly<{ kind: 'intercept' }>
  /** Only unread rules match: the verdict is the whole decision. */
  | Readonly<{ kind: 'unread'; inspect: 'sni' | 'tunnel'; verdict: Extract<Verdict, { kind: 'allow' }> }>
  | Readonly<{ kind: 'forbid'; verdict: Extract<Verdict, { kind: 'forbid' }> }>
  | Readonly<{ kind: 'none'; shadow: readonly ShadowOutcome[] }>;

/** Why one rule did or did not decide: `sallyport explain`. */
export type Explained = Readonly<{
  rule: RuleName;
  outcome: 'forbid' | 'hold' | 'allow';
  mode: 'enforce' | 'shadow';
  matched: boolean;
  decided: boolean;
  /** Empty where it decided; else the first thing that did not fit: `method POST is not GET or HEAD`. */
  why: string;
}>;

/** What the data plane has to read of requests to a host before the check. Paths are policy globs. */
export type Needs = Readonly<{
  host: string;
  body: boolean;
  /** Of requests with these methods alone; absent where it is of every method, or of none. */
  bodyMethods?: readonly string[];
  mcpPaths: readonly string[];
}>;

export interface CompiledPolicy {
  readonly version: PolicyVersion;
  readonly source: Policy;
  /** The agent of this name, as records carry it. */
  agent(name: string): Omit<Agent, 'by'> | undefined;
  /** Agent by numeric Unix user id (names are resolved at compile through the injected lookup). */
  agentByUser(uid: number): Omit<Agent, 'by'> | undefined;
  agentBySpiffeId(id: string): Omit<Agent, 'by'> | undefined;
  /** True where the SHA-256 (hex) of a proxy password is one of this agent's. Compared in constant time. */
  credentialMatches(name: AgentName, sha256Hex: string): boolean;
  /** The SHA-256 (hex) of each of this agent's proxy passwords. */
  credentialsOf(name: AgentName): readonly string[];
  /** True where any agent is known by Unix user: then, and only then, the data plane's peer has to be looked up. */
  readonly usesUnixUsers: boolean;
  /** Pure; never throws: a condition that errors counts as its rule's outcome says (forbid and hold: yes, allow: no). */
  evaluate(facts: RequestFacts): Verdict;
  /** The same over a record of a request, which holds no header, query or body: see `recorded.ts`. */
  recorded(facts: RecordedFacts): RecordedVerdict;
  connect(agent: Agent, destination: Destination, nowMs: number): ConnectVerdict;
  /** True where certificates may be minted for this host: some rule reads its requests. */
  inspectable(host: string): boolean;
  /** Host patterns (canonical, groups resolved) whose requests need body or MCP read; for the Envoy configuration. */
  readonly needs: readonly Needs[];
  /** The same of one request: canonical host and path, and method. */
  needsOf(host: string, path: string, method: string): Readonly<{ body: boolean; mcp: boolean }>;
  /** What this call has to be paid from, given the rule that lets it pass. */
  debits(facts: RequestFacts, rule: RuleName): readonly Debit[];
  /**
   * The requests that a lease may be for, granted with an Allow for this destination by this rule: in all of
   * them verdict, rule, shadow outcomes and debits are this request's. Pure; never throws.
   */
  leaseRegion(agent: Agent, destination: Destination, verdictRule: RuleName): LeaseScope;
  explain(facts: RequestFacts): readonly Explained[];
  /** Base-URL routes by first path segment (`/openai`), each with its parsed upstream. */
  readonly routes: ReadonlyMap<
    string,
    Readonly<{ scheme: 'http' | 'https'; host: string; port: number; basePath: string }>
  >;
}
