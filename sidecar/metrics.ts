/** Prometheus metrics: names, help, labels and buckets are those of `config/metrics.ts`. */
// Not the package's index: it loads OpenTelemetry, quantiles and a push client as well, 80 modules that nothing here needs.
import Counter from 'prom-client/lib/counter.js';
import Gauge from 'prom-client/lib/gauge.js';
import Histogram from 'prom-client/lib/histogram.js';
import Registry from 'prom-client/lib/registry.js';
import { metrics as declared, type Metric, type MetricKey } from '../config/metrics.ts';
import { type Decision, errorCodeOf } from '../filters/decision.ts';
import type { Hold } from '../filters/oversight/holds.ts';

type Labels = Readonly<Record<string, string>>;

export type Metrics = Readonly<{
  add(key: MetricKey, labels?: Labels, by?: number): void;
  set(key: MetricKey, value: number, labels?: Labels): void;
  observe(key: MetricKey, value: number, labels?: Labels): void;
  /** Forgets the label values of a gauge, before it is set anew. */
  clear(key: MetricKey): void;
  render(): Promise<Readonly<{ contentType: string; text: string }>>;
}>;

/** The declaration says which of the three it is; a call that does not fit is a fault of ours. */
export function createMetrics(): Metrics {
  const registry = new Registry();
  const counters = new Map<MetricKey, Counter>();
  const gauges = new Map<MetricKey, Gauge>();
  const histograms = new Map<MetricKey, Histogram>();
  for (const key of keysOf(declared)) {
    const { type, name, help, labels, buckets }: Metric = declared[key];
    const base = { name, help, labelNames: [...labels], registers: [registry] };
    if (type === 'counter') counters.set(key, new Counter(base));
    else if (type === 'gauge') gauges.set(key, new Gauge(base));
    else histograms.set(key, new Histogram({ ...base, buckets: [...(buckets ?? [])] }));
  }
  const known = <T>(found: T | undefined, key: MetricKey): T => {
    if (found === undefined) throw new TypeError(`metric ${key} is a ${declared[key].type}`);
    return found;
  };
  return {
    add: (key, labels = {}, by = 1) => known(counters.get(key), key).inc(labels, by),
    set: (key, value, labels = {}) => known(gauges.get(key), key).set(labels, value),
    observe: (key, value, labels = {}) => known(histograms.get(key), key).observe(labels, value),
    clear: (key) => known(gauges.get(key), key).reset(),
    render: async () => ({ contentType: registry.contentType, text: await registry.metrics() }),
  };
}

const keysOf = <T extends object>(value: T): (keyof T)[] => Object.keys(value) as (keyof T)[];

/** What the rule that decided stands for; a call that a quota stopped was let pass by its rule. */
function outcomeOf(decision: Decision): 'forbid' | 'hold' | 'allow' {
  if (decision.kind === 'RequiresOversight') return 'hold';
  if (decision.kind === 'Allow') return decision.hold === undefined ? 'allow' : 'hold';
  if (decision.kind !== 'Deny') return 'allow';
  return decision.code === 'Forbidden' ? 'forbid' : decision.code.startsWith('Hold') ? 'hold' : 'allow';
}

export function countDecision(metrics: Metrics, decision: Decision, durationUs: number): void {
  const { kind } = decision;
  metrics.add('decisions', { kind, code: errorCodeOf(decision) ?? '' });
  // A person's time is not ours: a decision that a hold had a part in is not timed here.
  const held = 'hold' in decision && decision.hold !== undefined;
  if (!held) metrics.observe('decisionSeconds', durationUs / 1e6, { kind });
  if (decision.rule !== undefined)
    metrics.add('ruleMatches', { rule: decision.rule, outcome: outcomeOf(decision) });
  for (const { rule, would } of decision.shadow) metrics.add('shadowOutcomes', { rule, would });
  if (kind === 'Allow')
    for (const { name } of decision.quotas)
      metrics.add('quotaDebits', { quota: name }, decision.lease?.calls ?? 1);
  if (kind === 'QuotaExceeded' || kind === 'RateLimited')
    metrics.add('quotaRefusals', { quota: decision.quota });
}

export function countHold(metrics: Metrics, hold: Hold): void {
  metrics.add('holdTransitions', { state: hold.state });
  const answered = hold.state === 'Approved' || hold.state === 'Denied' || hold.state === 'TimedOut';
  if (answered && hold.decidedMs !== undefined)
    metrics.observe('holdWaitSeconds', Math.max(0, hold.decidedMs - hold.createdMs) / 1_000, {
      state: hold.state,
    });
}
