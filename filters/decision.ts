/**
 * The decision: one tagged union from policy to wire. Names and fields are the seeds' (mission row A2);
 * each variant holds only what is valid for it.
 */
import type { ErrorCode } from '../config/errors.ts';
import type { DecisionId, HoldId, PolicyVersion, RuleName } from './common/brand.ts';
import type { Timestamp } from './common/time.ts';
import type { Agent, DelegationChain, Destination, Inspect, Pin } from './facts.ts';

/** State of one quota after this decision, for RateLimit headers (draft-ietf-httpapi-ratelimit-headers). */
export type QuotaState = Readonly<{
  name: string;
  limit: number;
  used: number;
  windowMs: number;
  /** Until the oldest counted call leaves the window. */
  resetMs: number;
}>;

/** What every decision carries, whatever its kind. */
export type DecisionHead = Readonly<{
  id: DecisionId;
  at: Timestamp;
  policyVersion: PolicyVersion;
  /** The rule that decided; undefined where none matched or the request never reached the rules. */
  rule: RuleName | undefined;
  /** Undefined only where the caller is unknown. */
  agent: Agent | undefined;
  chain: DelegationChain;
  /** Undefined only where the destination could not be read. */
  destination: Destination | undefined;
  /** Rules in shadow mode that would have decided otherwise, and how. */
  shadow: readonly ShadowOutcome[];
  quotas: readonly QuotaState[];
}>;

export type ShadowOutcome = Readonly<{ rule: RuleName; would: 'forbid' | 'hold' | 'allow' }>;

/** One decision that stands for many requests: of this agent, destination and method, in this region of paths. */
export type LeaseTerms = Readonly<{
  calls: number;
  lifeMs: number;
  /** The whole path where `exact`, else the directory that the paths are in. */
  path: string;
  exact: boolean;
}>;

export type Allow = DecisionHead &
  Readonly<{
    kind: 'Allow';
    /** How the connection goes on. For stage `request` always `tls`. */
    inspect: Inspect;
    /** Undefined only for an intercepted CONNECT: each request inside gets its own. */
    pin: Pin | undefined;
    /** The approved hold that this decision consumed. */
    hold: HoldId | undefined;
    /** Present where this decision is a lease. */
    lease?: LeaseTerms | undefined;
  }>;

export type Deny = DecisionHead &
  Readonly<{
    kind: 'Deny';
    code: ErrorCode;
    reason: string;
    retryAfterMs: number | undefined;
    hold: HoldId | undefined;
  }>;

export type RequiresOversight = DecisionHead &
  Readonly<{
    kind: 'RequiresOversight';
    /** The rule that holds. */
    policy_id: RuleName;
    /** Milliseconds until the hold times out. */
    timeout: number;
    hold: HoldId;
    /** When to send the same request again. */
    retryAfterMs: number;
  }>;

export type QuotaExceeded = DecisionHead &
  Readonly<{
    kind: 'QuotaExceeded';
    quota: string;
    limit: number;
    used: number;
    reset_at: number;
    retryAfterMs: number;
  }>;

export type RateLimited = DecisionHead &
  Readonly<{ kind: 'RateLimited'; quota: string; retry_after: number }>;

export type Decision = Allow | Deny | RequiresOversight | QuotaExceeded | RateLimited;

/** The catalogue entry that tells a refusal to its caller; undefined for Allow. */
export function errorCodeOf(decision: Decision): ErrorCode | undefined {
  switch (decision.kind) {
    case 'Allow':
      return undefined;
    case 'Deny':
      return decision.code;
    case 'RequiresOversight':
      return 'HoldPending';
    case 'QuotaExceeded':
      return 'QuotaExceeded';
    case 'RateLimited':
      return 'RateLimited';
  }
}

/** When the caller may try again, in milliseconds; undefined where a retry cannot help by waiting. */
export function retryAfterMsOf(decision: Decision): number | undefined {
  switch (decision.kind) {
    case 'Allow':
      return undefined;
    case 'Deny':
    case 'RequiresOversight':
    case 'QuotaExceeded':
      return decision.retryAfterMs;
    case 'RateLimited':
      return decision.retry_after;
  }
}
