/** The parts that count themselves: each is the part it was given, with its use counted. */
import { SallyportError } from '../config/errors.ts';
import type { Authority, DataPlane, Minted } from '../envoy/data-plane.ts';
import type { Checker } from '../ext-authz/checker.ts';
import type { Journal } from '../filters/common/journal.ts';
import type { JournalRecord } from '../filters/common/record.ts';
import type { Clock } from '../filters/common/time.ts';
import type { Resolver } from '../filters/egress/resolver.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';
import type { Audit } from './audit.ts';
import type { Metrics } from './metrics.ts';
import type { State } from './state.ts';
import { version } from './version.ts';

const results: Readonly<Record<string, string>> = {
  AddressDenied: 'denied',
  ResolutionFailed: 'failed',
  Overloaded: 'overloaded',
};

export const countedResolver = (resolver: Resolver, metrics: Metrics, clock: Clock): Resolver => ({
  pin: async (host, port, internal, owner) => {
    const startedMs = clock.monotonicMs();
    try {
      const pin = await resolver.pin(host, port, internal, owner);
      metrics.add('resolverLookups', { result: 'pinned' });
      return pin;
    } catch (thrown) {
      const code = thrown instanceof SallyportError ? thrown.code : '';
      metrics.add('resolverLookups', { result: results[code] ?? 'failed' });
      throw thrown;
    } finally {
      metrics.observe('resolverSeconds', (clock.monotonicMs() - startedMs) / 1_000);
    }
  },
  close: () => resolver.close(),
});

export const countedJournal = (
  journal: Journal,
  metrics: Metrics,
  onRecord?: (record: JournalRecord) => void,
): Journal => ({
  append: (...records) => {
    try {
      journal.append(...records);
    } catch (thrown) {
      metrics.add('journalFailures');
      throw thrown;
    }
    for (const record of records) {
      metrics.add('journalAppends', { type: record.type });
      onRecord?.(record);
    }
  },
  tail: (limit) => journal.tail(limit),
  find: (id) => journal.find(id),
  close: () => journal.close(),
});

export type CountedChecker = Checker & Readonly<{ inFlight(): number }>;

export function countedChecker(checker: Checker, metrics: Metrics): CountedChecker {
  let running = 0;
  return {
    check: async (call, signal) => {
      running += 1;
      metrics.set('checksInFlight', running);
      try {
        return await checker.check(call, signal);
      } finally {
        running -= 1;
        metrics.set('checksInFlight', running);
      }
    },
    settle: (decision, outcome) => checker.settle(decision, outcome),
    refundUnsent: (id, calls, unsent) => checker.refundUnsent(id, calls, unsent),
    inFlight: () => running,
    ...(checker.lessor === undefined ? {} : { lessor: checker.lessor }),
  };
}

/** A certificate from the cache is the very one that was given before. */
export function countedAuthority(authority: Authority, metrics: Metrics): Authority {
  const known = new WeakSet<Minted>();
  return {
    get caPem() {
      return authority.caPem;
    },
    epoch: () => authority.epoch(),
    size: () => authority.size(),
    mint: async (host) => {
      const minted = await authority.mint(host);
      if (!known.has(minted)) {
        known.add(minted);
        metrics.add('certificatesMinted');
      }
      return minted;
    },
  };
}

/** What is asked when it is scraped, rather than followed. */
export async function renderMetrics(
  metrics: Metrics,
  parts: Readonly<{
    state: State;
    audit: Pick<Audit, 'log'>;
    policy: { current(): CompiledPolicy };
    authority: Authority;
    plane: DataPlane;
  }>,
): Promise<Readonly<{ contentType: string; text: string }>> {
  for (const [state, count] of Object.entries(parts.state.holds.counts()))
    metrics.set('holds', count, { state });
  const { ledger, lockdown } = parts.state;
  metrics.set('ledgerOpen', ledger.health().open);
  metrics.set('ledgerLagSeconds', ledger.health().lagMs / 1_000);
  metrics.set('lockdown', lockdown.isLocked() === undefined ? 0 : 1);
  metrics.set('auditBehind', parts.audit.log.health().behind);
  const policy = parts.policy.current();
  metrics.clear('policyInfo');
  metrics.set('policyInfo', 1, { version: policy.version });
  metrics.set('policyRules', policy.source.rules.length);
  metrics.set('certificatesCached', parts.authority.size());
  metrics.set('buildInfo', 1, { version, node: process.version });
  const healthy = await parts.plane.health().then(
    (health) => health.healthy,
    () => false,
  );
  metrics.set('dataPlaneUp', healthy ? 1 : 0, { kind: parts.plane.kind });
  return metrics.render();
}
