/** The leases that are out, closed in time and counted. */
import type { Logger } from 'pino';
import { limits } from '../config/limits.ts';
import type { Settings } from '../config/settings.ts';
import type { LessorOptions } from '../ext-authz/checker-deps.ts';
import { createLeaseBook, type LeaseBook, type LeaseLedger } from '../ext-authz/lease-book.ts';
import type { Clock } from '../filters/common/time.ts';
import type { QuotaStore } from '../filters/quota/quota.ts';
import type { Ending } from './ending.ts';
import type { Metrics } from './metrics.ts';

export type Leases = Readonly<{ book: LeaseBook; options: LessorOptions }>;

export function openLeases(options: {
  settings: Settings['leases'];
  clock: Clock;
  quota: QuotaStore;
  ledger: LeaseLedger;
  log: Logger;
  metrics: Metrics;
  ending: Ending;
}): Leases {
  const { settings, clock, quota, ledger, log, metrics } = options;
  const book = createLeaseBook({
    ...{ clock, quota, ledger },
    onClosed: ({ id, used, unused, how }) => {
      metrics.add('leasedCalls', { result: 'used' }, used);
      metrics.add('leasedCalls', { result: how === 'forfeited' ? 'forfeited' : 'returned' }, unused);
      if (how === 'forfeited' && unused > 0)
        log.warn(
          { lease: id, calls: unused },
          'calls of a lease were forfeited: whether they were used cannot be known',
        );
    },
  });
  const sweep = setInterval(book.sweep, limits.leaseSweepEveryMs).unref();
  options.ending.add('leases', () => clearInterval(sweep));
  return { book, options: { lifeMs: settings.life_ms, callsMax: settings.calls_max } };
}
