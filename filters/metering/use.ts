/**
 * One line of the ledger: what a data plane tells of one stream. A request of an unleased decision is one use;
 * a lease has one for each of its calls, told apart by their ordinals.
 */
export type LedgerUse = Readonly<{
  /** The last line of its stream; otherwise the stream goes on, and its numbers are those so far. */
  final: boolean;
  /** `connect`: the CONNECT of a tunnel, which sends nothing itself. `tunnel`: what passes unread inside it. */
  kind: 'request' | 'connect' | 'tunnel';
  /** Names the stream among all of all processes: connection and start. */
  stream: string;
  /** Of the request, or of the first bytes of an unread tunnel; empty where there was no decision. */
  decision: string;
  /** Which of a lease's calls it is, from 1; undefined where the decision is no lease. */
  ordinal: number | undefined;
  /** Of the CONNECT around an unread tunnel; empty otherwise. */
  connectDecision: string;
  /** The approved hold that the decision used; empty without. */
  hold: string;
  /** Address that was dialled; empty where none was. */
  upstream: string;
  /** Bytes may have reached the destination. */
  left: boolean;
  /** HTTP status; 0 without. */
  status: number;
  /** Body bytes from the agent, and to it. */
  bytesIn: number;
  bytesOut: number;
  durationMs: number;
  /** Start of the stream, milliseconds since the epoch. */
  atMs: number;
  /** Envoy's response flags, without the sign for none; and its words for why it answered. */
  flags: string;
  details: string;
  /** Of a refusal: the code of the catalogue that its caller was told; empty without. */
  error: string;
  method: string;
  /** `http` or `https`; `tcp` for a tunnel. */
  scheme: 'http' | 'https' | 'tcp';
  authority: string;
  path: string;
}>;

/** What was decided, as far as its settlement has to tell it again. */
export type OpenFacts = Readonly<{
  id: string;
  agent: string;
  chain: readonly string[];
  policyVersion: string;
  rule: string;
  what: string;
  resource: string;
  hold: string;
  /** 1 unless it is a lease. */
  calls: number;
  /** Life of a lease; undefined without. */
  leaseMs: number | undefined;
  /** Where in the connection's life it was made. */
  stage: 'request' | 'connect' | 'tunnel';
  /** Milliseconds since the epoch. */
  atMs: number;
  /** Process of the data plane that it was given to; empty where unknown. */
  epoch: string;
}>;

export const settlementKinds = ['Sent', 'NotSent', 'Unknown', 'Expired'] as const;
/**
 * What became of calls: they left; they provably did not; nobody can know, since lines were lost; they were
 * never made.
 */
export type SettlementKind = (typeof settlementKinds)[number];

/** What the log told of some calls together. */
export type Totals = {
  calls: number;
  bytesIn: number;
  bytesOut: number;
  durationMs: number;
  status: number;
  upstream: string;
  /** Start of the first, and end of the last of them, milliseconds since the epoch; undefined where no line told. */
  firstMs: number | undefined;
  lastMs: number | undefined;
};

export type Settlement = Readonly<{ facts: OpenFacts; kind: SettlementKind } & Totals>;

export const incidentKinds = ['NoDecision', 'UnknownDecision', 'Replayed', 'BeyondLease', 'Gap'] as const;
/**
 * A forwarded request without a decision; with one that is not open; with one that another request used; one
 * that its lease does not have. `Gap`: lines were lost, so that outcomes stay unknown: no bypass.
 */
export type IncidentKind = (typeof incidentKinds)[number];
