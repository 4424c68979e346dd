/**
 * When the silence of the access log about a lease proves that its calls were not made. Since the last moment at
 * which the log had to be told of one of them,
 *
 *   ran      the worker that holds the lease has run its timers, that of the log's interim lines among them. It
 *            shows this by closing the connection over which it asks, by a timer too, or by asking twice more.
 *   written  what was in the log's buffer then is in its file, and no write failed.
 *
 * Only what one process did after another is part of it, never how late a process is supposed to be at most: a
 * stalled Envoy, a full disk or a stopped sidecar prove nothing.
 */
import { limits } from '../config/limits.ts';
import type { Clock } from '../filters/common/time.ts';

/** The access log between Envoy and its file. */
export type LogState = Readonly<{
  /** Told, and not in the file yet. */
  bufferedBytes: number;
  /** Of the file, read after that; `file` tells it from the one before a rotation. */
  file: string;
  fileBytes: number;
  /** Writes that failed since the process began: what they held is lost. */
  failures: number;
}>;

export type LeaseProof = Readonly<{
  /** These states of the data plane have run what was due by then. */
  ran(vms: Iterable<string>, untilMs: number): void;
  /** Until when this one has run what was due. */
  ranUntilMs(vm: string): number;
  /** How to look at the log; `undefined` is answered where it cannot be looked at. */
  readLogBy(look: () => Promise<LogState | undefined>): void;
  /** Looks once; one look at a time. */
  look(epoch: string): void;
  /** What was told before `sinceMs` is in the file for who reads it from `knownMs` on. */
  written(): Readonly<{ sinceMs: number; knownMs: number }>;
  /** Lines were lost: nothing is proved of what was open then. */
  lostMs(): number;
}>;

export function createLeaseProof(clock: Clock): LeaseProof {
  const ranByVm = new Map<string, number>();
  let lookAt: () => Promise<LogState | undefined> = () => Promise.resolve(undefined);
  let isLooking = false;
  let waiting: Readonly<{ sinceMs: number; file: string; untilBytes: number }> | undefined;
  let written = { sinceMs: Number.NEGATIVE_INFINITY, knownMs: Number.NEGATIVE_INFINITY };
  let failures = 0;
  let lostMs = Number.NEGATIVE_INFINITY;
  let process = '';

  const take = (state: LogState, sinceMs: number, epoch: string): void => {
    if (process !== epoch) {
      process = epoch;
      failures = 0;
      waiting = undefined;
    }
    const nowMs = clock.monotonicMs();
    if (state.failures > failures) {
      failures = state.failures;
      lostMs = nowMs;
    }
    if (waiting?.file !== state.file)
      waiting = { sinceMs, file: state.file, untilBytes: state.fileBytes + state.bufferedBytes };
    if (state.fileBytes < waiting.untilBytes) return;
    written = { sinceMs: waiting.sinceMs, knownMs: nowMs };
    waiting = undefined;
  };

  return {
    ran: (vms, untilMs) => {
      for (const vm of vms) {
        const before = ranByVm.get(vm) ?? Number.NEGATIVE_INFINITY;
        ranByVm.delete(vm);
        ranByVm.set(vm, Math.max(before, untilMs));
      }
      for (const [oldest] of ranByVm) {
        if (ranByVm.size <= limits.leaseVmsMax) break;
        ranByVm.delete(oldest);
      }
    },
    ranUntilMs: (vm) => ranByVm.get(vm) ?? Number.NEGATIVE_INFINITY,
    readLogBy: (look) => {
      lookAt = look;
    },
    look: (epoch) => {
      if (isLooking) return;
      isLooking = true;
      const sinceMs = clock.monotonicMs();
      lookAt()
        .then((state) => {
          if (state !== undefined) take(state, sinceMs, epoch);
        })
        .catch(() => undefined) // Nothing is proved by it; who looks says why.
        .finally(() => {
          isLooking = false;
        });
    },
    written: () => written,
    lostMs: () => lostMs,
  };
}
