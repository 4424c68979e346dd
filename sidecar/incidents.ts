/**
 * What must not happen, told wherever somebody may look: journal, log and metrics, and lockdown where the
 * settings say so. Beside it what Envoy refused by itself, which no check saw. Both are bounded: past so many in a
 * second they are counted, and the count is told.
 */
import type { Logger } from 'pino';
import { type ErrorCode, errors, SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import { decisionRecord } from '../ext-authz/record.ts';
import { type OnRefusal, refusal, unreadRequest } from '../ext-authz/refusal.ts';
import type { Ids } from '../filters/common/ids.ts';
import type { Journal } from '../filters/common/journal.ts';
import { printable } from '../filters/common/printable.ts';
import type { IncidentRecord } from '../filters/common/record.ts';
import { type Clock, toWireTimestamp } from '../filters/common/time.ts';
import type { IncidentKind, LedgerUse } from '../filters/metering/use.ts';
import { countDecision, type Metrics } from './metrics.ts';

/** All but a `Gap` say that something passed which nothing had let pass. */
export type Bypass = Exclude<IncidentKind, 'Gap'>;

const reasons: Readonly<Record<Bypass, string>> = {
  NoDecision: 'was forwarded without a decision',
  UnknownDecision: 'was forwarded under a decision that lets nothing pass',
  Replayed: 'was forwarded under a decision that another request has used',
  BeyondLease: 'was forwarded under a lease that has no such call',
};

export type Incidents = Readonly<{
  /** @param line where the log tells of it. Throws where it cannot be written down. */
  bypass(kind: Bypass, use: LedgerUse, line: string): void;
  /** Lines were lost: so many calls have an outcome that nobody knows. */
  gap(calls: number, why: string): void;
  /** A line of the log that is there and cannot be read; it may have told of a call. */
  unreadable(line: string): void;
  /** Envoy refused by itself. */
  refused(use: LedgerUse, line: string): void;
  /** Tells what was only counted in the second before. */
  flush(): void;
}>;

export type IncidentDeps = Readonly<{
  journal: Journal;
  ids: Ids;
  clock: Clock;
  log: Logger;
  metrics: Metrics;
  /** Throws where it cannot be written down. */
  onRefusal: OnRefusal;
  /** Called after a bypass is written down. */
  onBypass: (record: IncidentRecord) => void;
}>;

const unreadableWhy = 'of the access log cannot be read: what it told is lost';

/** `https://host/path`, as the client wrote it: not canonical, and without a query. */
export const resourceOfUse = ({ scheme, authority, path }: LedgerUse): string =>
  authority === '' ? '' : printable(`${scheme}://${authority}${path}`, limits.journalLongFieldCharsMax);

/** At most so many in a second; the rest is counted. */
function perSecond(clock: Clock, most: number) {
  let beganMs = Number.NEGATIVE_INFINITY;
  let taken = 0;
  return (): boolean => {
    const nowMs = clock.monotonicMs();
    if (nowMs - beganMs >= 1_000) {
      beganMs = nowMs;
      taken = 0;
    }
    if (taken >= most) return false;
    taken += 1;
    return true;
  };
}

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(errors, code);

/** What the caller was told; where Envoy has no words of ours for it, what its status says. */
function codeOf({ error, status }: LedgerUse): ErrorCode {
  if (isErrorCode(error)) return error;
  return status >= 500 ? 'ServiceUnavailable' : 'RequestMalformed';
}

export function createIncidents(deps: IncidentDeps): Incidents {
  const { journal, ids, clock, log, metrics } = deps;
  const mayTellBypass = perSecond(clock, limits.incidentsPerSecondMax);
  const mayTellRefusal = perSecond(clock, limits.refusalsPerSecondMax);
  const mayTellUnreadable = perSecond(clock, limits.incidentsPerSecondMax);
  const untold = new Map<Bypass, number>();
  const untoldRefusals = new Map<ErrorCode, number>();
  let untoldUnreadable = 0;

  const write = (fields: Pick<IncidentRecord, 'kind' | 'count' | 'why'> & Partial<IncidentRecord>) => {
    const record: IncidentRecord = {
      type: 'incident',
      id: ids.of('inc'),
      at: toWireTimestamp(clock.now()),
      ...{ agent: '', delegation_chain: [], policy_version: '' },
      ...{ decision: '', upstream: '', what: '', resource: '', outcome: 'Failure', line: '' },
      ...fields,
    };
    journal.append(record);
    metrics.add('incidents', { kind: record.kind }, record.count);
    const { id, kind, decision, count, upstream, what, resource, why } = record;
    log.error(
      { incident: id, kind, decision, count, upstream },
      `incident: ${what} ${resource} ${why}`.trim(),
    );
    return record;
  };

  return {
    bypass: (kind, use, line) => {
      if (!mayTellBypass()) {
        untold.set(kind, (untold.get(kind) ?? 0) + 1);
        return;
      }
      const { decision, upstream, method } = use;
      const what = printable(method || (use.kind === 'tunnel' ? 'CONNECT' : ''), 64);
      const why = reasons[kind];
      const resource = resourceOfUse(use);
      deps.onBypass(write({ kind, decision, upstream, what, resource, why, line, count: 1 }));
    },
    gap: (count, why) => void write({ kind: 'Gap', count, why }),
    unreadable: (line) => {
      if (mayTellUnreadable()) write({ kind: 'Gap', count: 1, why: `a line ${unreadableWhy}`, line });
      else untoldUnreadable += 1;
    },
    refused: (use, line) => {
      const code = codeOf(use);
      const why = use.details === '' ? errors[code].title : `${errors[code].title} (${use.details})`;
      const deny = refusal(new SallyportError(code, why), clock, ids.decision());
      const { method, authority, path } = use;
      if (mayTellRefusal())
        try {
          deps.onRefusal(deny, { method, authority, path, requestId: '', via: 'envoy', line });
          return;
        } catch (err) {
          // It is counted instead, and the ledger does not go on before the count is written.
          log.warn({ err, code }, 'a refusal by Envoy could not be written down by itself');
        }
      untoldRefusals.set(code, (untoldRefusals.get(code) ?? 0) + 1);
      countDecision(metrics, deny, 0);
    },
    flush: () => {
      for (const [kind, count] of untold) {
        const why = `${count} more requests, of which each ${reasons[kind]}`;
        deps.onBypass(write({ kind, count, why }));
        untold.delete(kind);
      }
      if (untoldUnreadable > 0)
        write({
          kind: 'Gap',
          count: untoldUnreadable,
          why: `${untoldUnreadable} more lines ${unreadableWhy}`,
        });
      untoldUnreadable = 0;
      for (const [code, count] of untoldRefusals) {
        const why = `${count} more requests, of which each was refused by Envoy: ${errors[code].title}`;
        const deny = refusal(new SallyportError(code, why), clock, ids.decision());
        // Counted one by one already, so this is a record and no decision to observe.
        journal.append(decisionRecord(deny, { ...unreadRequest('envoy'), count }, 0));
        log.warn({ decision: deny.id, code, count }, why);
        untoldRefusals.delete(code);
      }
    },
  };
}
