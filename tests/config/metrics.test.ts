import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { type Metric, metrics } from '../../config/metrics.ts';

const all: readonly Metric[] = Object.values(metrics);

test('names are unique and follow the conventions of Prometheus', () => {
  expect(new Set(all.map((metric) => metric.name)).size).toBe(all.length);
  for (const { name, type } of all) {
    expect(name).toMatch(/^sallyport_[a-z][a-z0-9_]*$/);
    expect(name.endsWith('_total')).toBe(type === 'counter');
    if (type === 'histogram') expect(name).toMatch(/_seconds$/);
  }
});

test('no label can take a value that an agent makes up', () => {
  const labels = new Set(all.flatMap((metric) => metric.labels));
  expect(
    [...labels].filter((label) => ['host', 'path', 'id', 'method', 'url', 'agent'].includes(label)),
  ).toEqual([]);
});

test('a histogram, and nothing else, has buckets, and they grow', () => {
  for (const { type, buckets } of all) {
    expect(buckets !== undefined).toBe(type === 'histogram');
    expect(buckets ?? []).toEqual([...(buckets ?? [])].sort((a, b) => a - b));
  }
});

test('prom-client takes every declaration', async () => {
  const registry = new Registry();
  for (const { name, help, type, labels, buckets } of all) {
    const options = { name, help, labelNames: [...labels], registers: [registry] };
    if (type === 'counter') new Counter(options);
    else if (type === 'gauge') new Gauge(options);
    else new Histogram({ ...options, buckets: [...(buckets ?? [])] });
  }
  expect(await registry.metrics()).toContain('# TYPE sallyport_decisions_total counter');
});
