/**
 * The leases that are out. Each was paid for when it was granted; what was not used flows back once it is sure
 * that nothing uses it any more: the data plane's own report says so, or the ledger's silence (`lease-proof.ts`).
 * A lease of which neither can tell counts as spent.
 *
 *   granted ─▶ open ─ report of the data plane ──────────────────────▶ closed, rest given back
 *                   ─ ended, and silence about it proved it unused ───▶ closed, rest given back
 *                   ─ neither within limits.leaseSettleMsMax ─────────▶ closed, rest forfeited
 */
import { limits } from '../config/limits.ts';
import type { DecisionId } from '../filters/common/brand.ts';
import type { Clock } from '../filters/common/time.ts';
import type { LedgerUse } from '../filters/metering/use.ts';
import type { Debit, QuotaStore } from '../filters/quota/quota.ts';
import { createLeaseProof, type LeaseProof } from './lease-proof.ts';

/** What the ledger tells of leased requests. */
export type LeaseLedger = Readonly<{
  /** Monotonic time at which the last reading that reached the end of the log began. */
  caughtUpMs(): number;
  /** Names the data plane's process; another one may have lost lines of the one before. */
  epoch(): string;
  /** Told of every line that names a decision. */
  onUse(listener: (use: Pick<LedgerUse, 'decision' | 'ordinal'>) => void): void;
}>;

export type LeaseTerms = Readonly<{
  id: DecisionId;
  /** Which state of the data plane holds it. */
  vm: string;
  calls: number;
  debits: readonly Debit[];
  atMs: number;
}>;

type Lease = LeaseTerms & {
  readonly openedMs: number;
  readonly endsMs: number;
  /** The log had to be told of each of its calls by then, even where the data plane's clock was set back once. */
  readonly dueMs: number;
  /** When it was known that its worker has run what was due; infinite until then. */
  ranKnownMs: number;
  readonly epoch: string;
  /** A bit for each use that the ledger has seen, begun or ended: it is told of both. */
  readonly seen: Uint8Array;
  seenCount: number;
};

export type LeaseClosed = Readonly<{
  id: DecisionId;
  /** Requests that were let pass, as far as it is known. */
  used: number;
  unused: number;
  how: 'reported' | 'settled' | 'forfeited';
}>;

export type LeaseBook = Readonly<{
  open(terms: LeaseTerms, lifeMs: number): void;
  isOpen(id: DecisionId): boolean;
  /** The data plane takes nothing more from it and `left` of it were not used. What is impossible is not believed. */
  report(id: DecisionId, left: number): void;
  /**
   * Waits until a lease on this quota was closed, the time is over or the caller is gone. False at once where no
   * call may flow back to it, or as many wait already as could be served by what flows back.
   */
  flowBack(debit: Debit, timeoutMs: number, signal: AbortSignal): Promise<boolean>;
  /** Closes what has ended; called from time to time. */
  sweep(): void;
  /** Told what the data plane does. */
  readonly proof: LeaseProof;
  count(): number;
}>;

export function createLeaseBook(options: {
  clock: Clock;
  quota: Pick<QuotaStore, 'refund'>;
  ledger: LeaseLedger;
  onClosed?: (closed: LeaseClosed) => void;
}): LeaseBook {
  const { clock, quota, ledger } = options;
  const proof = createLeaseProof(clock);
  const open = new Map<string, Lease>();
  /** Calls of open leases by quota key: what may flow back at most. */
  const outByKey = new Map<string, number>();
  const waitersByKey = new Map<string, Set<() => void>>();

  const count = (debits: readonly Debit[], calls: number): void => {
    for (const { key } of debits) {
      const now = (outByKey.get(key) ?? 0) + calls;
      if (now > 0) outByKey.set(key, now);
      else outByKey.delete(key);
    }
  };

  // Begun or ended: one that goes on is told of as well, and may be told of again.
  ledger.onUse(({ decision, ordinal }) => {
    const lease = ordinal === undefined ? undefined : open.get(decision);
    if (lease === undefined || ordinal === undefined || !(ordinal >= 1 && ordinal <= lease.calls)) return;
    const byte = lease.seen[ordinal >> 3] ?? 0;
    const bit = 1 << (ordinal & 7);
    if ((byte & bit) !== 0) return;
    lease.seen[ordinal >> 3] = byte | bit;
    lease.seenCount += 1;
  });

  const close = (lease: Lease, unused: number, how: LeaseClosed['how']): void => {
    open.delete(lease.id);
    count(lease.debits, -lease.calls);
    if (unused > 0 && how !== 'forfeited') quota.refund(lease.debits, lease.atMs, unused);
    options.onClosed?.({ id: lease.id, used: lease.calls - unused, unused, how });
    for (const { key } of lease.debits) {
      // As many as find something; where nothing is out any more, nobody has anything to wait for.
      const waiters = [...(waitersByKey.get(key) ?? [])];
      const found = outByKey.has(key) ? (how === 'forfeited' ? 0 : unused) : waiters.length;
      for (const wake of waiters.slice(0, found)) wake();
    }
  };

  /** Nobody told of the rest of this lease, and somebody would have. */
  const isProved = (lease: Lease): boolean => {
    const { sinceMs, knownMs } = proof.written();
    return lease.openedMs > proof.lostMs() && lease.ranKnownMs <= sinceMs && ledger.caughtUpMs() >= knownMs;
  };

  return {
    open: (terms, lifeMs) => {
      count(terms.debits, terms.calls);
      const openedMs = clock.monotonicMs();
      open.set(terms.id, {
        ...terms,
        openedMs,
        endsMs: openedMs + lifeMs,
        dueMs: openedMs + 2 * lifeMs + limits.ledgerInterimMs,
        ranKnownMs: Number.POSITIVE_INFINITY,
        epoch: ledger.epoch(),
        seen: new Uint8Array((terms.calls >> 3) + 1),
        seenCount: 0,
      });
    },
    isOpen: (id) => open.has(id),
    report: (id, left) => {
      const lease = open.get(id);
      if (lease === undefined || !Number.isSafeInteger(left) || left < 0) return;
      close(lease, Math.min(left, lease.calls - lease.seenCount), 'reported');
    },
    flowBack: ({ key }, timeoutMs, signal) => {
      const waiters = waitersByKey.get(key) ?? new Set();
      const out = Math.min(outByKey.get(key) ?? 0, limits.leaseFlowBackWaitersMax);
      if (waiters.size >= out || timeoutMs <= 0 || signal.aborted) return Promise.resolve(false);
      return new Promise((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          signal.removeEventListener('abort', wake);
          waiters.delete(wake);
          if (waiters.size === 0) waitersByKey.delete(key);
          resolve(!signal.aborted);
        };
        const timer = setTimeout(wake, timeoutMs);
        waitersByKey.set(key, waiters.add(wake));
        signal.addEventListener('abort', wake);
      });
    },
    sweep: () => {
      const nowMs = clock.monotonicMs();
      const epoch = ledger.epoch();
      let isWaiting = false;
      for (const lease of [...open.values()]) {
        if (nowMs < lease.endsMs) continue;
        if (lease.ranKnownMs > nowMs && proof.ranUntilMs(lease.vm) >= lease.dueMs) lease.ranKnownMs = nowMs;
        if (epoch !== lease.epoch) close(lease, lease.calls - lease.seenCount, 'forfeited');
        else if (isProved(lease)) close(lease, lease.calls - lease.seenCount, 'settled');
        else if (nowMs >= lease.endsMs + limits.leaseSettleMsMax)
          close(lease, lease.calls - lease.seenCount, 'forfeited');
        else isWaiting ||= lease.ranKnownMs <= nowMs;
      }
      if (isWaiting) proof.look(epoch);
    },
    proof,
    count: () => open.size,
  };
}
