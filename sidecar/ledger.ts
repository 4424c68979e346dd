/**
 * The ledger: every line that a data plane writes is matched to the decision that let it pass. What ended is
 * settled in the journal, with its usage; what passed without a decision is an incident; what no line tells of
 * when its process is gone is Unknown, and told as a gap.
 *
 *   decision ─▶ journal ─▶ open ┐
 *   access log ─ tail ─ decode ─┴ match ─▶ settlement, usage │ incident │ refusal  ─▶ journal
 *
 * Reading has a place of its own that is kept together with the open decisions (`ledger-state.ts`). Lines that a
 * crash makes it read again are matched again and write nothing, up to the last one whose records are written.
 */
import type { Logger } from 'pino';
import { SallyportError, toSallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { PlaneLedger } from '../envoy/data-plane.ts';
import { decodeLedgerLine, isOfPart } from '../envoy/ledger-line.ts';
import { type LineEnd, type LinePlace, type Loss, type Place, tailLog } from '../envoy/log-tail.ts';
import { envoyPaths } from '../envoy/paths.ts';
import type { HoldId } from '../filters/common/brand.ts';
import { isHoldId } from '../filters/common/ids.ts';
import type { Journal } from '../filters/common/journal.ts';
import type { Clock } from '../filters/common/time.ts';
import { openFactsOf } from '../filters/metering/facts.ts';
import { createOpenDecisions, type LedgerSink } from '../filters/metering/open-decisions.ts';
import type { LedgerUse, Settlement } from '../filters/metering/use.ts';
import type { HoldStore } from '../filters/oversight/holds.ts';
import { embeddedLogFile } from './embedded/ledger.ts';
import type { Incidents } from './incidents.ts';
import { readLedgerState, writeLedgerState } from './ledger-state.ts';
import type { Metrics } from './metrics.ts';
import { createSettler } from './settle.ts';

export type Ledger = Readonly<{
  /** The journal to write decisions to: each that lets something pass is open from then on. */
  watch(journal: Journal): Journal;
  /** Monotonic time at which the last reading that reached the end of the log began. */
  caughtUpMs(): number;
  /** Names the data plane's process; another one may have lost lines of the one before. Empty where none runs. */
  epoch(): string;
  /** What the data plane does with it. */
  plane: PlaneLedger;
  /** Told of every line that names a decision, after it was matched. Must not throw. */
  onUse(listener: (use: LedgerUse) => void): void;
  /** Told of every settlement, after it is in the journal. Must not throw. */
  onSettled(listener: (settlement: Settlement) => void): void;
  /** One turn of reading; `more` where it ended before the end of the log. Throws where nothing can be written down. */
  turn(): 'end' | 'more';
  health(): Readonly<{ open: number; lagMs: number; failure: string }>;
  /** Reads to the end, settles what no process can tell of any more, and keeps the place. */
  close(): void;
}>;

export type LedgerOptions = Readonly<{
  stateDir: string;
  journal: Journal;
  holds: Pick<HoldStore, 'settle'>;
  incidents: Incidents;
  clock: Clock;
  log: Logger;
  metrics: Metrics;
}>;

const noTimes = { firstMs: undefined, lastMs: undefined } as const;

const lineText = (place: LinePlace | undefined): string =>
  place === undefined ? '' : `${place.inode}:${place.offset}`;

export function openLedger(options: LedgerOptions): Ledger {
  const { stateDir, journal, holds, incidents, clock, log, metrics } = options;
  const open = createOpenDecisions();
  const parts = { stateDir, clock, open };
  const kept = readLedgerState(parts);
  if (kept.anew !== '') log.warn(`the ledger begins anew from the journal: ${kept.anew}`);

  const useListeners: ((use: LedgerUse) => void)[] = [];
  const settler = createSettler({ journal, clock, metrics });
  settler.onSettled(({ facts, kind, calls }) => {
    const process = ended.get(facts.epoch);
    if (kind === 'Unknown' && process !== undefined) process.unknown += calls;
  });
  let { epoch, judgeFromMs } = kept;
  /** Processes that have ended, with what had been read while each lived; `read` once their last line was. */
  const ended = new Map<string, { aliveMs: number; endedMs: number; unknown: number }>();
  let caughtUpMs = Number.NEGATIVE_INFINITY;
  let sweptMs = Number.NEGATIVE_INFINITY;
  let savedMs = clock.monotonicMs();
  let saveTookMs = 0;
  let isChanged = false;
  let failure = '';
  /** Empty once the lines are new. */
  let until = kept.until;
  let { cut } = kept;
  /** Calls whose last lines the data plane could not write, until that is told. */
  let unwritten = 0;
  /** The line that is read now, and the last one that was. */
  let at: LinePlace | undefined;
  let last: LinePlace | undefined;

  const isAgain = (): boolean => until !== '' && at !== undefined;

  const sink: LedgerSink = {
    settled: (settlements) => {
      if (!isAgain()) settler.settle(settlements, lineText(at ?? last));
    },
    incident: (kind, use) => {
      if (isAgain() || use.atMs < judgeFromMs || kind === 'Gap') return;
      incidents.bypass(kind, use, lineText(at));
    },
    refused: (use) => {
      if (isAgain() || use.atMs < judgeFromMs) return;
      incidents.refused(use, lineText(at));
    },
  };

  /** A released request that left, or provably did not; what was said of it first stands. */
  const settleHold = (hold: HoldId, outcome: 'Sent' | 'NotSent'): void => {
    try {
      holds.settle(hold, outcome, 'access log');
    } catch (thrown) {
      if (!(thrown instanceof SallyportError) || !['HoldNotPending', 'HoldNotFound'].includes(thrown.code))
        throw thrown;
    }
  };

  const onLine = (line: string, place: LinePlace, end: LineEnd): void => {
    isChanged = true;
    const use = decodeLedgerLine(line);
    if (use !== undefined) {
      at = place;
      try {
        open.use(use, clock.monotonicMs(), sink);
        if ((use.left || use.final) && isHoldId(use.hold))
          settleHold(use.hold, use.left ? 'Sent' : 'NotSent');
      } finally {
        at = undefined;
      }
      if (use.decision !== '') for (const listener of useListeners) listener(use);
    } else if (end === 'overlong' || (end === 'whole' && !isOfPart(line))) {
      // What a kill of the data plane tears off is told as a gap by the end of its process.
      open.doubt();
      if (until === '') incidents.unreadable(lineText(place));
    }
    last = place;
    if (until !== '' && until === lineText(place)) until = '';
  };

  const onLoss = (loss: Loss): void => {
    isChanged = true;
    until = '';
    open.doubt();
    // What is read now may be of a time whose decisions are settled and forgotten.
    if (loss === 'gone') judgeFromMs = clock.wallMs();
    incidents.gap(
      open.size(),
      loss === 'gone'
        ? 'the access log that was being read is gone: what it told of the open decisions is lost'
        : 'the access log was cut or written anew: what it told of the open decisions is lost',
    );
  };
  const sources = [
    { name: 'envoy', file: envoyPaths('', stateDir, '').accessLog },
    { name: 'embedded', file: embeddedLogFile(stateDir) },
  ].map(({ name, file }) => ({ name, tail: tailLog(file, kept.places[name], onLoss) }));

  // Records of what time settled, or of a journal that was read anew, name lines that were read before the place.
  const known = /^(\d+):(\d+)$/.exec(until);
  const untilAt = { inode: known?.[1] ?? '', offset: Number(known?.[2] ?? 0) };
  if (!sources.some(({ tail }) => tail.isAhead(untilAt))) until = '';

  const save = (): void => {
    const places: Record<string, Place> = {};
    for (const { name, tail } of sources) {
      const place = tail.place();
      if (place !== undefined) places[name] = place;
    }
    const startedMs = clock.monotonicMs();
    writeLedgerState(parts, places, epoch);
    savedMs = clock.monotonicMs();
    saveTookMs = savedMs - startedMs;
    isChanged = false;
  };

  /** Without a state the next sidecar begins anew from the journal. */
  const saveOrTell = (): void => {
    try {
      save();
    } catch (err) {
      log.error({ err }, 'the state of the ledger could not be written');
      isChanged = true;
    }
  };

  /** The processes whose last line was read, each with what had been read while it lived. */
  const over = (): ReadonlyMap<string, number> =>
    new Map(
      [...ended]
        .filter(([, { endedMs }]) => endedMs <= caughtUpMs)
        .map(([name, { aliveMs }]) => [name, aliveMs]),
    );

  const tellGaps = (names: Iterable<string>): void => {
    for (const name of names) {
      const { unknown = 0 } = ended.get(name) ?? {};
      if (unknown > 0)
        incidents.gap(
          unknown,
          `the data plane's process ${name} ended: of ${unknown} calls that it was let make nobody knows whether they left`,
        );
      ended.delete(name);
    }
  };

  /** The disk that had no room for them has none for this either: it is told once there is. */
  const tellUnwritten = (): void => {
    if (unwritten > 0)
      incidents.gap(unwritten, `the last lines of ${unwritten} calls could not be written to the access log`);
    unwritten = 0;
  };

  const sweep = (nowMs: number): boolean => {
    const gone = over();
    const isMore = open.sweep(nowMs, caughtUpMs, gone, sink);
    if (!isMore) tellGaps(gone.keys());
    if (gone.size > 0) isChanged = true;
    incidents.flush();
    sweptMs = nowMs;
    return isMore;
  };

  const turn = (): 'end' | 'more' => {
    if (cut !== undefined) settler.finish(cut);
    cut = undefined;
    tellUnwritten();
    const beganMs = clock.monotonicMs();
    const mayGoOn = (): boolean => clock.monotonicMs() < beganMs + limits.ledgerTurnMs;
    for (const { tail } of sources) if (tail.read(onLine, mayGoOn) === 'more') return 'more';
    caughtUpMs = beganMs;
    until = '';
    if (
      beganMs - sweptMs >= limits.ledgerSweepMs ||
      [...ended.values()].some(({ endedMs }) => endedMs <= beganMs)
    )
      if (sweep(beganMs)) return 'more';
    const saveAfterMs = Math.max(limits.ledgerStateMs, saveTookMs * limits.ledgerStatePartsMin);
    if (isChanged && beganMs - savedMs >= saveAfterMs) save();
    return 'end';
  };

  let timer: NodeJS.Timeout | undefined;
  let immediate: NodeJS.Immediate | undefined;
  const run = (): void => {
    let result: 'end' | 'more' = 'end';
    try {
      result = turn();
      failure = '';
    } catch (thrown) {
      // The line is given again by the next turn. Said once, not ten times a second.
      const { message } = toSallyportError(thrown);
      if (message !== failure) log.error({ err: thrown }, 'the ledger cannot go on');
      failure = message;
    }
    clearImmediate(immediate);
    immediate = undefined;
    if (result === 'more') immediate = setImmediate(run);
    else timer = setTimeout(run, limits.ledgerReadEveryMs).unref();
  };

  const follow = (name: string): void => {
    if (epoch === name) return;
    if (epoch !== '') ended.set(epoch, { aliveMs: caughtUpMs, endedMs: clock.monotonicMs(), unknown: 0 });
    epoch = name;
    // Decisions that the journal has and this state has not are of the process that is named here.
    saveOrTell();
  };

  const notSent = (decision: string): void => {
    const facts = open.forget(decision);
    if (facts === undefined) return;
    const none = { bytesIn: 0, bytesOut: 0, durationMs: 0, status: 0, upstream: '' };
    const settlement: Settlement = { facts, kind: 'NotSent', calls: facts.calls, ...none, ...noTimes };
    settler.settle([settlement], lineText(last));
  };

  const tooMany = (agent: string): SallyportError =>
    new SallyportError(
      'Overloaded',
      `${open.sizeOf(agent)} calls of this agent are let pass and not settled, and that is the limit`,
    );

  // What was logged while no sidecar ran comes before the question what is unknown.
  do run();
  while (immediate !== undefined);
  saveOrTell();

  return {
    watch: (inner) => ({
      ...inner,
      append: (...records) => {
        const opened = records.flatMap((record) =>
          record.type === 'decision' ? (openFactsOf(record, epoch) ?? []) : [],
        );
        if (opened.length > 0 && open.size() + opened.length > limits.ledgerOpenMax)
          throw new SallyportError(
            'Overloaded',
            `${open.size()} calls are let pass and not settled, and that is the limit`,
          );
        for (const { agent } of opened)
          if (open.sizeOf(agent) >= limits.ledgerOpenPerAgentMax) throw tooMany(agent);
        inner.append(...records);
        isChanged = true;
        for (const facts of opened) open.open(facts, clock.monotonicMs());
      },
    }),
    caughtUpMs: () => caughtUpMs,
    epoch: () => epoch,
    plane: {
      began: follow,
      ended: (name) => {
        if (name === epoch) follow('');
      },
      notSent,
      lost: (calls) => {
        open.doubt();
        unwritten += calls;
        isChanged = true;
      },
      hasRead: (file) => sources.some(({ tail }) => tail.hasRead(file)),
    },
    onUse: (listener) => void useListeners.push(listener),
    onSettled: settler.onSettled,
    turn,
    health: () => ({ open: open.size(), lagMs: clock.monotonicMs() - caughtUpMs, failure }),
    close: () => {
      clearTimeout(timer);
      clearImmediate(immediate);
      try {
        while (turn() === 'more');
        incidents.flush();
        save();
      } finally {
        for (const { tail } of sources) tail.close();
      }
    },
  };
}
