/** What the check is made of, and what its parts hand to each other. */
import type { Logger } from 'pino';
import type { Ids } from '../filters/common/ids.ts';
import type { Journal } from '../filters/common/journal.ts';
import type { Clock } from '../filters/common/time.ts';
import type { Decision } from '../filters/decision.ts';
import type { Resolver } from '../filters/egress/resolver.ts';
import type { Call, Pin } from '../filters/facts.ts';
import type { UnixUsers } from '../filters/identity/unix-users.ts';
import type { HoldStore } from '../filters/oversight/holds.ts';
import type { Mark } from '../filters/oversight/mask.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';
import type { DecisionCache } from '../filters/policy/decision-cache.ts';
import type { Debit, QuotaStore } from '../filters/quota/quota.ts';
import type { LeaseBook } from './lease-book.ts';

export type CheckerDeps = Readonly<{
  /** The snapshot that holds now; read once per check. */
  policy: () => CompiledPolicy;
  /** Name of the pod's one agent, or empty. */
  podAgent: string;
  /** Retry-After of a pending hold, in milliseconds. */
  holdRetryAfterMs: number;
  clock: Clock;
  ids: Ids;
  resolver: Resolver;
  users: UnixUsers;
  /** User that the data plane runs as, where it is one of its own: never the pod’s agent. */
  planeUid?: number | undefined;
  /** True where dialling this pin would reach the sidecar or its data plane. */
  isOwn: (pin: Pin) => boolean;
  quota: QuotaStore;
  holds: HoldStore;
  /** Stands for masked values in what a person is shown. */
  mark: Mark;
  journal: Journal;
  log: Logger;
  /** Aborted when the sidecar stops: whoever waits for a person is told to come back, and nobody waits any more. */
  stopping: AbortSignal;
  /** Why everything is refused; undefined where it is not. */
  locked: () => string | undefined;
  /** Allows that need not be worked out again. */
  decisions?: DecisionCache;
  /** Present where leases are granted. */
  leases?: Readonly<{ book: LeaseBook; options: LessorOptions }>;
  /** Told after each decision is written; must not throw. */
  onDecision?: (decision: Decision, call: Call, durationUs: number) => void;
}>;

/** Bounds of a lease, beside those of its quotas. */
export type LessorOptions = Readonly<{ lifeMs: number; callsMax: number }>;

/** What was taken for a call, so that it can be given back where the call never left. */
export type Payment = Readonly<{ debits: readonly Debit[]; atMs: number; calls: number }>;
