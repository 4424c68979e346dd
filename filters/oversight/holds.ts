/**
 * Holds: an action parked for a person. States are the seeds' (mission row C1), and what became of an
 * approved one: `Released` once, `Unknown` where a crash hides whether it was sent.
 *
 *   Pending ──approve──▶ Approved ──consume──▶ Released ──settle──▶ Sent | NotSent
 *      │ ├──deny────▶ Denied          (Released at a start without an answer on record ▶ Unknown ──settle──▶ …)
 *      │ └──cancel──▶ Cancelled      (an Approved one may be cancelled too, until it is consumed)
 *      └──time──────▶ TimedOut
 */
import type { AgentName, Digest, HoldId, PolicyVersion, RuleName, SpiffeId } from '../common/brand.ts';
import type { WireTimestamp } from '../common/time.ts';

export const holdStates = [
  'Pending',
  'Approved',
  'Denied',
  'Escalated',
  'TimedOut',
  'Cancelled',
  'Released',
  'Unknown',
  'Sent',
  'NotSent',
] as const;

export type HoldState = (typeof holdStates)[number];

export type Approval = Readonly<{ by: string; at: WireTimestamp; note: string }>;

export type Hold = Readonly<{
  id: HoldId;
  state: HoldState;
  agent: AgentName;
  agentId: SpiffeId;
  chain: readonly SpiffeId[];
  rule: RuleName;
  /** Digest of the rule's own text: an approval lives on through a reload only while it is the same. */
  ruleDigest: Digest;
  policyVersion: PolicyVersion;
  approvers: string;
  quorum: number;
  /** Digest of the exact request (`filters/oversight/digest.ts`). */
  digest: Digest;
  /** What a person is shown: no secret header, body preview bounded and only where it is text. */
  request: Readonly<{
    method: string;
    url: string;
    headers: Readonly<Record<string, string>>;
    bodyBytes: number;
    bodyPreview: string;
    mcp: string;
  }>;
  reason: string;
  createdAt: WireTimestamp;
  createdMs: number;
  expiresMs: number;
  decidedMs: number | undefined;
  approvals: readonly Approval[];
  decidedBy: string;
  note: string;
  /** Who said whether it was sent; empty before that. */
  settledBy?: string;
}>;

export type NewHold = Omit<
  Hold,
  | 'id'
  | 'state'
  | 'createdAt'
  | 'createdMs'
  | 'expiresMs'
  | 'decidedMs'
  | 'approvals'
  | 'decidedBy'
  | 'note'
  | 'settledBy'
> &
  Readonly<{
    timeoutMs: number;
    /** Nobody decides a hold of an agent that runs under their own name. Absent: true. */
    notRequester?: boolean;
  }>;

export type HoldFilter = Readonly<{
  states?: readonly HoldState[];
  agent?: string;
  limit: number;
  before?: HoldId;
}>;

/**
 * Guarantee: every transition is on disk (synced) before the method returns; exactly one terminal
 * transition happens, the first writer's; `consume` succeeds at most once per hold.
 * All methods throw SallyportError: HoldNotFound, HoldNotPending, HoldLimitReached, ApproverNotAllowed, StateUnavailable.
 */
export interface HoldStore {
  /**
   * Opens a hold, or returns the open (Pending or Approved) one of the same agent, rule and digest. An open one
   * that an earlier text of the rule opened can never be used again, so it is Cancelled and a new one opened.
   */
  open(hold: NewHold): Hold;
  get(id: HoldId): Hold | undefined;
  /** The newest hold of this agent and digest that a repeat of the request meets: Pending, Approved, Denied, TimedOut, Cancelled or Unknown. */
  findForRequest(agent: AgentName, digest: Digest): Hold | undefined;
  list(filter: HoldFilter): Hold[];
  /** Adds one member's approval; the hold is Approved once `quorum` different members did. */
  approve(id: HoldId, by: string, note: string): Hold;
  deny(id: HoldId, by: string, note: string): Hold;
  /** Pending or Approved → Cancelled. */
  cancel(id: HoldId, by: string, note: string): Hold;
  /** Approved → Released: this request may go out, once. False where somebody else consumed it. */
  consume(id: HoldId): boolean;
  /** Released or Unknown → Sent or NotSent. */
  settle(id: HoldId, outcome: 'Sent' | 'NotSent', by: string): Hold;
  /** Marks a Denied, TimedOut or Cancelled hold as told to its caller, so that the next request asks anew. */
  acknowledge(id: HoldId): void;
  /** Pending and Approved holds past their time, by the store's own clock → TimedOut. Returns how many. */
  expire(): number;
  /** Called once at start: Released without an outcome → Unknown. Returns how many. */
  recover(): number;
  counts(): Readonly<Record<HoldState, number>>;
  /** Called after every transition, after it is durable. Returns the unsubscribe function. */
  onTransition(listener: (hold: Hold) => void): () => void;
  close(): void;
}
