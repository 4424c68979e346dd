/**
 * The decisions that let something pass and are not settled yet, matched with what the ledger tells. Pure: time
 * is given, and what is found goes to the sink. A sink that throws leaves everything as it was, so that the same
 * line can be given again.
 *
 *   opened ─ its stream ends ────────────────────────────▶ Sent │ NotSent
 *          ─ no stream came, and none can any more ──────▶ Expired
 *          ─ the data plane's process ended untold ──────▶ Unknown
 *
 * A lease is settled once, when its life and the last of its streams are over: one settlement for each kind that
 * its calls came to.
 */
import { limits } from '../../config/limits.ts';
import type { IncidentKind, LedgerUse, OpenFacts, Settlement, SettlementKind, Totals } from './use.ts';

export type LedgerSink = Readonly<{
  /** All that became of one decision, at once. */
  settled(settlements: readonly Settlement[]): void;
  incident(kind: IncidentKind, use: LedgerUse): void;
  /** The data plane answered by itself; no decision was asked for. */
  refused(use: LedgerUse): void;
}>;

type Stream = { left: boolean; latest: LedgerUse; toldMs: number };

/** One decision. `streams` holds those that go on, by ordinal (0 without). */
export type OpenDecision = {
  readonly facts: OpenFacts;
  /** Monotonic time after which no stream of it can begin: a decision is made for a stream that has begun. */
  readonly endsMs: number;
  readonly streams: Map<number, Stream>;
  /** A bit for each ordinal that has ended; undefined without a lease. */
  readonly ended: Uint8Array | undefined;
  readonly sent: Totals;
  readonly notSent: Totals;
  /** Of the CONNECT of an unread tunnel: monotonic time of its newest line, and whether that was its last. */
  connect: Readonly<{ toldMs: number; isOver: boolean }> | undefined;
  /** Lines were lost while it was open: that none told of it proves nothing. */
  isDoubtful: boolean;
};

const noTotals = (): Totals => ({
  calls: 0,
  bytesIn: 0,
  bytesOut: 0,
  durationMs: 0,
  status: 0,
  upstream: '',
  firstMs: undefined,
  lastMs: undefined,
});

function add(to: Totals, use: LedgerUse): void {
  to.calls += 1;
  to.bytesIn += use.bytesIn;
  to.bytesOut += use.bytesOut;
  to.durationMs += use.durationMs;
  to.status = use.status;
  to.upstream = use.upstream;
  to.firstMs = Math.min(to.firstMs ?? use.atMs, use.atMs);
  const endMs = use.atMs + use.durationMs;
  to.lastMs = Math.max(to.lastMs ?? endMs, endMs);
}

const settlement = (facts: OpenFacts, kind: SettlementKind, totals: Totals): Settlement => ({
  facts,
  kind,
  ...totals,
});

/** 52 bits for the name of a stream (FNV-1a, twice): the name itself is ten times as large, and is kept for long. */
function markOf(stream: string): number {
  let [one, other] = [0x811c9dc5, 0x01000193];
  for (let i = 0; i < stream.length; i += 1) {
    one = Math.imul(one ^ stream.charCodeAt(i), 0x01000193);
    other = Math.imul(other ^ stream.charCodeAt(i), 0x85ebca6b);
  }
  return (one >>> 0) * 2 ** 20 + (other >>> 12);
}

/** Beyond a stream's begin, until the log would have told of it. */
const toldWithinMs = limits.ledgerInterimMs + limits.ledgerFlushMs + limits.leaseSettleSlackMs;

export type OpenDecisions = Readonly<{
  size(): number;
  /** Of these, decisions of this agent. */
  sizeOf(agent: string): number;
  open(facts: OpenFacts, nowMs: number): void;
  has(id: string): boolean;
  /** Forgets a decision of which another tells that it was settled; returns what it was. */
  forget(id: string): OpenFacts | undefined;
  /** One line. */
  use(use: LedgerUse, nowMs: number, sink: LedgerSink): void;
  /**
   * Settles what nothing more can come of. At most `limits.ledgerSettledPerTickMax` at once; true where more wait.
   * @param caughtUpMs begin of the last reading that reached the end of the log.
   * @param ended processes of the data plane whose last line was read, with the last such begin while each lived.
   */
  sweep(nowMs: number, caughtUpMs: number, ended: ReadonlyMap<string, number>, sink: LedgerSink): boolean;
  /** Lines were lost. */
  doubt(): void;
  entries(): IterableIterator<OpenDecision>;
  restore(entry: OpenDecision): void;
}>;

export function createOpenDecisions(): OpenDecisions {
  const open = new Map<string, OpenDecision>();
  /** How many of them each agent has. */
  const sizes = new Map<string, number>();
  /** Decisions settled lately, each with the mark of the stream that used it, of an empty one for a lease. */
  const recent = new Map<string, number>();
  /** Streams that go on and were told as incidents, so that each is told once. */
  const bypassing = new Set<string>();

  const put = (entry: OpenDecision): void => {
    const { id, agent } = entry.facts;
    if (!open.has(id)) sizes.set(agent, (sizes.get(agent) ?? 0) + 1);
    open.set(id, entry);
  };
  const drop = ({ id, agent }: OpenFacts): void => {
    if (!open.delete(id)) return;
    const left = (sizes.get(agent) ?? 0) - 1;
    if (left > 0) sizes.set(agent, left);
    else sizes.delete(agent);
  };

  const remember = (id: string, stream: string): void => {
    recent.set(id, markOf(stream));
    if (recent.size <= limits.ledgerRecentMax) return;
    const [oldest] = recent.keys();
    if (oldest !== undefined) recent.delete(oldest);
  };

  const close = (
    entry: OpenDecision,
    settlements: readonly Settlement[],
    stream: string,
    sink: LedgerSink,
  ) => {
    sink.settled(settlements);
    drop(entry.facts);
    remember(entry.facts.id, stream);
  };

  const incident = (kind: IncidentKind, use: LedgerUse, sink: LedgerSink): void => {
    if (!bypassing.has(use.stream)) sink.incident(kind, use);
    if (use.final) bypassing.delete(use.stream);
    else if (bypassing.size < limits.ledgerOpenMax) bypassing.add(use.stream);
  };

  /** What a line of this decision that is not open means. */
  const notOpen = (id: string, use: LedgerUse, sink: LedgerSink): void => {
    // The same stream again: a line that is given twice, or the last one of a stream that was given up.
    if (use.upstream === '' || recent.get(id) === markOf(use.stream)) return;
    incident(recent.has(id) ? 'Replayed' : 'UnknownDecision', use, sink);
  };

  const useOnce = (entry: OpenDecision, use: LedgerUse, nowMs: number, sink: LedgerSink): void => {
    const known = entry.streams.get(0);
    if (known !== undefined && known.latest.stream !== use.stream) {
      if (use.upstream !== '') incident('Replayed', use, sink);
      return;
    }
    const left = use.left || known?.left === true;
    if (!use.final) {
      entry.streams.set(0, { left, latest: use, toldMs: nowMs });
      return;
    }
    const totals = noTotals();
    add(totals, use);
    close(entry, [settlement(entry.facts, left ? 'Sent' : 'NotSent', totals)], use.stream, sink);
  };

  const useLease = (entry: OpenDecision, use: LedgerUse, nowMs: number, sink: LedgerSink): void => {
    const { ordinal = 0 } = use;
    const { ended, facts } = entry;
    const bit = 1 << (ordinal & 7);
    const byte = ended?.[ordinal >> 3] ?? 0;
    const known = entry.streams.get(ordinal);
    const isBeyond = ended === undefined || ordinal < 1 || ordinal > facts.calls;
    const isAgain = (byte & bit) !== 0 || (known !== undefined && known.latest.stream !== use.stream);
    if (isBeyond || isAgain) {
      if (use.upstream !== '') incident(isBeyond ? 'BeyondLease' : 'Replayed', use, sink);
      return;
    }
    const left = use.left || known?.left === true;
    if (!use.final) {
      entry.streams.set(ordinal, { left, latest: use, toldMs: nowMs });
      return;
    }
    ended[ordinal >> 3] = byte | bit;
    if (known !== undefined) entry.streams.delete(ordinal);
    add(left ? entry.sent : entry.notSent, use);
  };

  const used = (id: string, use: LedgerUse, nowMs: number, sink: LedgerSink): void => {
    const entry = open.get(id);
    if (entry === undefined) notOpen(id, use, sink);
    else if (entry.ended === undefined && use.ordinal === undefined) useOnce(entry, use, nowMs, sink);
    else useLease(entry, use, nowMs, sink);
  };

  /** The rest of a lease, and streams that no line will tell the end of, by what is known of them. */
  const rest = (entry: OpenDecision, isKnown: boolean): readonly Settlement[] => {
    const { facts } = entry;
    const sent = { ...entry.sent };
    const lost = noTotals();
    for (const { left, latest } of entry.streams.values()) add(left ? sent : lost, latest);
    const missing = facts.calls - sent.calls - entry.notSent.calls - lost.calls;
    const unused = noTotals();
    (isKnown ? unused : lost).calls += Math.max(0, missing);
    return [
      settlement(facts, 'Sent', sent),
      settlement(facts, 'NotSent', entry.notSent),
      settlement(facts, 'Unknown', lost),
      settlement(facts, 'Expired', unused),
    ].filter(({ calls }) => calls > 0);
  };

  /** Undefined where something may still come. */
  const overOf = (
    entry: OpenDecision,
    nowMs: number,
    caughtUpMs: number,
    ended: ReadonlyMap<string, number>,
  ): readonly Settlement[] | undefined => {
    const { connect, facts, streams, isDoubtful } = entry;
    const lastMs = ended.get(facts.epoch);
    if (lastMs !== undefined)
      // A tunnel may begin to carry bytes at any time while its CONNECT is open.
      return rest(entry, !isDoubtful && connect === undefined && lastMs >= entry.endsMs + toldWithinMs);
    if (entry.sent.calls + entry.notSent.calls === facts.calls) return rest(entry, true);
    if (connect?.isOver === true && streams.size === 0 && !isDoubtful)
      return caughtUpMs >= connect.toldMs + toldWithinMs
        ? [settlement(facts, 'NotSent', { ...noTotals(), calls: 1 })]
        : undefined;
    if (caughtUpMs < entry.endsMs + toldWithinMs + limits.ledgerLateMs) return undefined;
    const isSilent = (toldMs: number): boolean =>
      nowMs >= toldMs + limits.ledgerSilentMs && caughtUpMs >= toldMs + limits.ledgerSilentMs;
    // What goes on is told of every second: of what is silent the last line was lost.
    if (connect !== undefined && !isSilent(connect.toldMs)) return undefined;
    for (const { toldMs } of streams.values()) if (!isSilent(toldMs)) return undefined;
    return rest(entry, !isDoubtful && connect === undefined);
  };

  return {
    size: () => open.size,
    sizeOf: (agent) => sizes.get(agent) ?? 0,
    has: (id) => open.has(id),
    open: (facts, nowMs) => {
      put({
        facts,
        endsMs: nowMs + (facts.leaseMs ?? 0),
        streams: new Map(),
        ended: facts.leaseMs === undefined ? undefined : new Uint8Array((facts.calls >> 3) + 1),
        sent: noTotals(),
        notSent: noTotals(),
        connect: undefined,
        isDoubtful: false,
      });
    },
    forget: (id) => {
      const found = open.get(id);
      if (found === undefined) return undefined;
      drop(found.facts);
      remember(id, '');
      return found.facts;
    },
    use: (use, nowMs, sink) => {
      if (use.kind === 'tunnel') {
        const { decision, connectDecision } = use;
        // The first bytes were compared with the CONNECT; the CONNECT is what let them pass, and what paid.
        if (decision !== '') used(decision, use, nowMs, sink);
        if (connectDecision !== '') used(connectDecision, use, nowMs, sink);
        else if (use.upstream !== '') incident('NoDecision', use, sink);
        return;
      }
      if (use.kind === 'connect' && use.upstream === '' && use.decision !== '') {
        const entry = open.get(use.decision);
        if (entry !== undefined) entry.connect = { toldMs: nowMs, isOver: use.final };
        return;
      }
      if (use.decision !== '') used(use.decision, use, nowMs, sink);
      else if (use.upstream !== '' || (use.kind === 'connect' && use.status === 200))
        incident('NoDecision', use, sink);
      else if (use.final && use.status >= 400) sink.refused(use);
    },
    sweep: (nowMs, caughtUpMs, ended, sink) => {
      let left: number = limits.ledgerSettledPerTickMax;
      for (const entry of open.values()) {
        const settlements = overOf(entry, nowMs, caughtUpMs, ended);
        if (settlements === undefined) continue;
        if (left === 0) return true;
        left -= 1;
        const [stream] = entry.streams.values();
        close(entry, settlements, stream?.latest.stream ?? '', sink);
      }
      return false;
    },
    doubt: () => {
      for (const entry of open.values()) entry.isDoubtful = true;
    },
    entries: () => open.values(),
    restore: put,
  };
}
