/** docs/errors.md, docs/metrics.md, docs/limits.md: one table or more, straight from the declarations. */
import { type ErrorEntry, errors } from '../errors.ts';
import { limits } from '../limits.ts';
import { type Metric, metrics } from '../metrics.ts';
import { code, generatedNote, grouped, table } from './table.ts';

const retryWords = { never: 'never', after: 'after a while', changed: 'once something changed' } as const;

export function errorsPage(): string {
  const entries: [string, ErrorEntry][] = Object.entries(errors);
  const rows = entries.map(([name, entry]) => [
    code(name),
    String(entry.status),
    entry.category,
    retryWords[entry.retry] +
      (entry.retryAfterMs === undefined ? '' : ` (${grouped(entry.retryAfterMs)} ms)`),
    entry.title,
    entry.next,
  ]);
  return [
    generatedNote('config/errors.ts'),
    '# Errors',
    'Every refusal carries one of these codes, in the shape of the caller’s own protocol. The category says how to treat ' +
      'it: Transient, retry with backoff; Permanent, fail at once; Security, log and alert; Degraded, fall back. ' +
      '“Retry” says whether the same request can succeed later, and after how long where nothing better is known.',
    table(['code', 'status', 'category', 'retry', 'what', 'what to do'], rows),
    '',
  ].join('\n\n');
}

export function metricsPage(): string {
  const all: readonly Metric[] = Object.values(metrics);
  const rows = all.map((metric) => [
    code(metric.name),
    metric.type,
    metric.labels.map(code).join(', '),
    metric.help,
  ]);
  const buckets = all.flatMap((metric) =>
    metric.buckets === undefined ? [] : [[code(metric.name), metric.buckets.join(', ')]],
  );
  return [
    generatedNote('config/metrics.ts'),
    '# Metrics',
    'Served in the text format of Prometheus by the admin API at `/metrics`. Names are stable. Labels hold only what the ' +
      'policy or the code declares, never what an agent sends.',
    table(['name', 'type', 'labels', 'what'], rows),
    '## Buckets',
    'Upper bounds in seconds.',
    table(['name', 'buckets'], buckets),
    '## A new metric',
    'Declare it in `config/metrics.ts`, count it where it happens, run `npm run docs`: [how](../CONTRIBUTING.md#to-add-a-metric).',
    '',
  ].join('\n\n');
}

type LimitSection = { title: string; rows: string[][] };

/** Titles and sentences are the comments of the declarations, so `source` is the text of `config/limits-*.ts`. */
export function limitsPage(source: string): string {
  const values: Readonly<Record<string, number>> = limits;
  const sections: LimitSection[] = [];
  let sentence = '';
  for (const line of source.split('\n')) {
    const title = /^ {2}\/\/ (.+?)\.?$/.exec(line)?.[1];
    const comment = /^ {2}\/\*\* (.+) \*\/$/.exec(line)?.[1];
    const name = /^ {2}(\w+):/.exec(line)?.[1];
    if (title !== undefined) sections.push({ title, rows: [] });
    else if (comment !== undefined) sentence = comment;
    else if (name !== undefined) {
      const value = values[name];
      sections.at(-1)?.rows.push([code(name), value === undefined ? '' : grouped(value), sentence]);
      sentence = '';
    }
  }
  return [
    generatedNote('config/limits-*.ts'),
    '# Limits',
    'Units are in the names. A limit that can be moved is ' +
      'the default or the bound of a [setting](configuration.md).',
    ...sections.map(({ title, rows }) => `## ${title}\n\n${table(['limit', 'value', 'note'], rows)}`),
    '',
  ].join('\n\n');
}
