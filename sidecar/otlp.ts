/**
 * Spans to an OpenTelemetry collector, over OTLP/HTTP. Nothing waits for it: a record is put on a queue, and what
 * the queue has no room for is counted and gone. Loaded only where an endpoint is set.
 *
 *   journal ──▶ queue of records ──every second, or a batch full──▶ spans ──▶ one POST at a time
 */
import { readFileSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { Settings } from '../config/settings.ts';
import { type Header, headersOfFile, headersOfList, tracesUrl } from '../config/settings-telemetry.ts';
import type { JournalRecord } from '../filters/common/record.ts';
import type { Metrics } from './metrics.ts';
import { exportRequest, rejectedOf, type Span } from './otlp-json.ts';
import { type Answer, createPoster, type Poster } from './otlp-post.ts';
import { createSpanMaker } from './otlp-spans.ts';
import { version } from './version.ts';

export type SpanExport = Readonly<{
  /** Takes a record that was written. Never throws, never waits. */
  offer(record: JournalRecord): void;
  /** Sends what waits, within its time. */
  close(): Promise<void>;
}>;

export type ExportDeps = Readonly<{
  log: Logger;
  metrics: Pick<Metrics, 'add'>;
  /** Injected by tests. */
  post?: Poster;
  /** Between two tries; injected by tests. */
  wait?: (ms: number, signal: AbortSignal) => Promise<void>;
  flushMs?: number;
  stopMs?: number;
}>;

/** OTLP/HTTP, "Retryable Response Codes". */
const retryable = new Set([429, 502, 503, 504]);

/** A record gives two spans at most. */
const batchRecords = limits.otlpBatchSpansMax / 2;

const spanTypes: ReadonlySet<string> = new Set<JournalRecord['type']>(['decision', 'hold', 'settlement']);

export function openSpanExport(settings: Settings['telemetry']['otlp'], deps: ExportDeps): SpanExport {
  const { log, metrics, flushMs = limits.otlpFlushMs, stopMs = limits.otlpStopMs } = deps;
  const url = tracesUrl(settings.endpoint);
  if (url === undefined)
    throw new SallyportError('SettingsInvalid', 'telemetry.otlp.endpoint is no http or https URL');
  const post =
    deps.post ??
    createPoster(
      url,
      headersOf(settings),
      settings.ca_file === '' ? undefined : readFileSync(settings.ca_file),
    );
  const wait =
    deps.wait ?? ((ms, signal) => delay(ms, undefined, { signal, ref: false }).catch(() => undefined));
  const maker = createSpanMaker(1 / settings.sample_one_in);
  const resource = {
    'service.name': 'sallyport',
    'service.version': version,
    'host.name': hostname(),
    'process.pid': process.pid,
  };
  const scope = { name: 'sallyport', version };
  const queue: JournalRecord[] = [];
  const stopping = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let sending: Promise<void> | undefined;
  let isFailing = false;
  /** A flush is about to begin. */
  let isDue = false;

  const count = (result: 'sent' | 'dropped' | 'refused', spans: number): void => {
    if (spans > 0) metrics.add('otlpSpans', { result }, spans);
  };

  /** Said once when it begins and once when it ends, not for each batch. */
  const failing = (why: string): void => {
    if (!isFailing) log.warn({ collector: url.origin }, `spans cannot be sent: ${why}`);
    isFailing = true;
  };
  const working = (): void => {
    if (isFailing) log.info({ collector: url.origin }, 'spans are sent again');
    isFailing = false;
  };

  const sendBatch = async (spans: readonly Span[]): Promise<void> => {
    const body = Buffer.from(exportRequest(spans, resource, scope));
    for (let attempt = 1; ; attempt += 1) {
      let answer: Answer;
      try {
        answer = await post(body);
      } catch (thrown) {
        answer = {
          status: 0,
          text: '',
          retryAfterMs: undefined,
          why: thrown instanceof Error ? thrown.message : 'no answer',
        };
      }
      const { status, text, retryAfterMs, why } = answer;
      if (status >= 200 && status < 300) {
        const refused = Math.min(rejectedOf(text), spans.length);
        count('refused', refused);
        count('sent', spans.length - refused);
        working();
        return;
      }
      failing(why ?? `the collector answered ${status}`);
      const isFinal = status !== 0 && !retryable.has(status);
      if (isFinal || attempt >= limits.otlpTriesMax || stopping.signal.aborted) {
        count(isFinal ? 'refused' : 'dropped', spans.length);
        return;
      }
      const backoff = Math.min(limits.otlpRetryMsMax, limits.otlpRetryMsMin * 2 ** (attempt - 1));
      // Half of it by chance, so that the sidecars of a fleet do not come back together.
      await wait(
        Math.min(limits.otlpRetryMsMax, retryAfterMs ?? backoff * (0.5 + Math.random() / 2)),
        stopping.signal,
      );
    }
  };

  const sendAll = async (): Promise<void> => {
    while (queue.length > 0) {
      const spans = queue.splice(0, batchRecords).flatMap((record) => maker.spansOf(record));
      if (spans.length > 0) await sendBatch(spans);
    }
  };

  const flush = (): Promise<void> => {
    clearTimeout(timer);
    timer = undefined;
    isDue = false;
    sending ??= sendAll()
      .catch((thrown: unknown) => log.error({ err: thrown }, 'spans were lost by a fault of ours'))
      .finally(() => {
        sending = undefined;
        if (queue.length > 0) arrange();
      });
    return sending;
  };

  /** Never in the call that offers: what a decision waits for is a place on the queue and no more. */
  const arrange = (): void => {
    if (sending !== undefined || isDue) return;
    if (queue.length >= batchRecords) {
      isDue = true;
      setImmediate(() => void flush()).unref();
    } else timer ??= setTimeout(() => void flush(), flushMs).unref();
  };

  return {
    offer: (record) => {
      if (!spanTypes.has(record.type)) return;
      if (queue.length >= limits.otlpQueueSpansMax || stopping.signal.aborted) {
        count('dropped', 1);
        return;
      }
      queue.push(record);
      arrange();
    },
    close: async () => {
      const timedOut = AbortSignal.timeout(stopMs);
      timedOut.addEventListener('abort', () => stopping.abort(), { once: true });
      await Promise.race([
        (async () => {
          while (queue.length > 0 || sending !== undefined) await flush();
        })(),
        new Promise((resolve) => timedOut.addEventListener('abort', resolve, { once: true })),
      ]);
      stopping.abort();
      count('dropped', queue.length);
      queue.length = 0;
      clearTimeout(timer);
      post.close();
    },
  };
}

/** Both sources together; a file's header wins over the list's of the same name. */
function headersOf({ headers, headers_file: file }: Settings['telemetry']['otlp']): readonly Header[] {
  const list = headersOfList(headers) ?? [];
  if (file === '') return list;
  const refuse = (why: string, cause?: unknown): SallyportError =>
    new SallyportError('SettingsInvalid', `telemetry.otlp.headers_file ${file} ${why}`, { cause });
  let text: string;
  try {
    if (statSync(file).size > limits.otlpHeadersBytesMax)
      throw refuse(`has more than ${limits.otlpHeadersBytesMax} bytes`);
    text = readFileSync(file, 'utf8');
  } catch (thrown) {
    throw thrown instanceof SallyportError ? thrown : refuse('cannot be read', thrown);
  }
  const read = headersOfFile(text);
  if (read === undefined) throw refuse('is not lines of `name: value`');
  return [...list, ...read];
}
