/** The exporter against a real receiver: batches, retries, limits, and that nothing ever waits for it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { type Settings, settingsSchema } from '../../config/settings.ts';
import { openSpanExport, type SpanExport } from '../../sidecar/otlp.ts';
import { rejectedOf } from '../../sidecar/otlp-json.ts';
import { retryAfterOf } from '../../sidecar/otlp-post.ts';
import { until } from '../support/cli.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { type Collector, startCollector } from '../support/otlp-collector.ts';
import { someDecision } from '../support/some-record.ts';

let collector: Collector;
let spans: SpanExport | undefined;
let counted: Record<string, number>;
let logged: string[];
let waits: number[];
beforeEach(async () => {
  collector = await startCollector();
  counted = {};
  logged = [];
  waits = [];
});
afterEach(async () => {
  await spans?.close();
  spans = undefined;
  await collector.close();
});

const open = (changes: Partial<Settings['telemetry']['otlp']> = {}): SpanExport => {
  const { otlp } = settingsSchema.parse({}).telemetry;
  spans = openSpanExport(
    { ...otlp, endpoint: collector.url, ...changes },
    {
      log: pino({ level: 'info' }, { write: (line: string) => logged.push(line) }),
      metrics: {
        add: (_key, labels, by = 1) => {
          const { result = '' } = labels ?? {};
          counted[result] = (counted[result] ?? 0) + by;
        },
      },
      wait: async (ms) => {
        waits.push(ms);
      },
      flushMs: 5,
      stopMs: 200,
    },
  );
  return spans;
};
const numbered = (index: number) =>
  someDecision({ id: `dec_01M7J8Q0ZK3V5N8R${String(index).padStart(10, '0')}` });
const offer = (to: SpanExport, count: number): void => {
  for (let index = 0; index < count; index += 1) to.offer(numbered(index));
};
const settled = (count: number) =>
  until(`${count} spans to be counted`, () =>
    Object.values(counted).reduce((sum, one) => sum + one, 0) >= count ? counted : undefined,
  );

describe('sending', () => {
  test('spans arrive in batches, on the path of the signal', async () => {
    offer(open(), 1_000);
    await settled(1_000);
    expect(collector.spans).toHaveLength(1_000);
    expect(collector.requests.map(({ path }) => path)).toEqual(collector.requests.map(() => '/v1/traces'));
    for (const request of collector.requests)
      expect(request.spans).toBeLessThanOrEqual(limits.otlpBatchSpansMax);
    expect(new Set(collector.spans.map(({ spanId }) => spanId)).size).toBe(1_000);
    expect(counted).toEqual({ sent: 1_000 });
  });

  test('what waits is sent at the stop', async () => {
    const exporter = open();
    offer(exporter, 3);
    await exporter.close();
    expect(collector.spans).toHaveLength(3);
  });

  test('headers come from the list and from the file, and no log has them', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'sp-otlp-'));
    const file = join(dir, 'headers');
    writeFileSync(file, '# for the collector\nauthorization: Bearer hunter2\n');
    try {
      collector.answers.push((response) => response.writeHead(401).end('no, Bearer hunter2'));
      offer(open({ headers: 'x-tenant=a%2Cb', headers_file: file }), 1);
      await settled(1);
      expect(collector.requests[0]?.headers).toMatchObject({
        'x-tenant': 'a,b',
        authorization: 'Bearer hunter2',
      });
      expect(logged.join('')).toContain('spans cannot be sent: the collector answered 401');
      expect(logged.join('')).not.toContain('hunter2');
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  test('a file of headers that is none is refused by its name', () => {
    const dir = mkdtempSync(join(tmpdir(), 'sp-otlp-'));
    const file = join(dir, 'headers');
    writeFileSync(file, 'hunter2');
    try {
      expect(() => open({ headers_file: file })).toThrow(`headers_file ${file} is not lines of`);
      expect(() => open({ headers_file: join(dir, 'gone') })).toThrow('cannot be read');
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});

describe('when the collector does not take them', () => {
  test.each([429, 502, 503, 504])('%i is tried again, after the time that it says', async (status) => {
    collector.answers.push((response) => response.writeHead(status, { 'retry-after': '2' }).end());
    offer(open(), 2);
    await settled(2);
    expect([counted, waits, collector.requests.length]).toEqual([{ sent: 2 }, [2_000], 2]);
  });

  test('without a time the wait doubles, up to a limit, and in the end the batch is dropped', async () => {
    for (let index = 0; index < limits.otlpTriesMax; index += 1)
      collector.answers.push((response) => response.writeHead(503).end());
    offer(open(), 2);
    await settled(2);
    expect(counted).toEqual({ dropped: 2 });
    expect(waits).toHaveLength(limits.otlpTriesMax - 1);
    for (const [index, ms] of waits.entries()) {
      const whole = Math.min(limits.otlpRetryMsMax, limits.otlpRetryMsMin * 2 ** index);
      expect(ms).toBeGreaterThanOrEqual(whole / 2);
      expect(ms).toBeLessThanOrEqual(whole);
    }
  });

  test('400 is final', async () => {
    collector.answers.push((response) => response.writeHead(400).end());
    offer(open(), 2);
    await settled(2);
    expect([counted, collector.requests.length]).toEqual([{ refused: 2 }, 1]);
  });

  test('of a partial success the refused are counted', async () => {
    collector.answers.push((response) =>
      response.writeHead(200).end('{"partialSuccess":{"rejectedSpans":"2","errorMessage":"late"}}'),
    );
    offer(open(), 5);
    await settled(5);
    expect(counted).toEqual({ refused: 2, sent: 3 });
  });

  test('a connection that breaks is tried again, and told once', async () => {
    collector.answers.push(
      (response) => response.destroy(),
      (response) => response.destroy(),
    );
    offer(open(), 1);
    await settled(1);
    expect(counted).toEqual({ sent: 1 });
    expect(logged.filter((line) => line.includes('cannot be sent'))).toHaveLength(1);
    expect(logged.filter((line) => line.includes('sent again'))).toHaveLength(1);
  });

  test('an answer without end is not read to its end', async () => {
    collector.answers.push((response) => {
      response.writeHead(200);
      response.write(Buffer.alloc(limits.otlpAnswerBytesMax + 1, 0x20));
    });
    offer(open(), 1);
    await settled(1);
    expect(counted).toEqual({ sent: 1 });
    expect(logged.join('')).toContain(`more than ${limits.otlpAnswerBytesMax} bytes`);
  });

  test('past the queue’s limit records are dropped and counted, and offering never waits', async () => {
    const held = Promise.withResolvers<void>();
    collector.answers.push((response) => void held.promise.then(() => response.writeHead(200).end('{}')));
    const exporter = open();
    offer(exporter, 1);
    await until('a batch under way', () => (collector.requests.length === 1 ? true : undefined));
    offer(exporter, limits.otlpQueueSpansMax + 7);
    expect(counted).toEqual({ dropped: 7 });
    held.resolve();
    await settled(limits.otlpQueueSpansMax + 8);
    expect(counted).toEqual({ dropped: 7, sent: limits.otlpQueueSpansMax + 1 });
  });

  test('a collector that never answers does not keep the sidecar from ending', async () => {
    collector.answers.push(() => undefined);
    const exporter = open();
    offer(exporter, 1);
    await until('a batch under way', () => (collector.requests.length === 1 ? true : undefined));
    offer(exporter, 4);
    await exporter.close();
    expect(counted['dropped']).toBeGreaterThanOrEqual(4);
    // What comes after the end is counted too.
    offer(exporter, 1);
    expect(counted['dropped']).toBeGreaterThanOrEqual(5);
  });
});

test('an answer that is no JSON refuses nothing', () => {
  expect(
    ['', 'x', '[]', '{"partialSuccess":null}', '{"partialSuccess":{"rejectedSpans":"-1"}}'].map(rejectedOf),
  ).toEqual([0, 0, 0, 0, 0]);
  expect([
    rejectedOf('{"partialSuccess":{"rejectedSpans":3}}'),
    rejectedOf('{"partialSuccess":{"rejectedSpans":"4"}}'),
  ]).toEqual([3, 4]);
});

test('no answer makes it throw, and none refuses less than nothing', () => {
  const partial = fc
    .anything()
    .map((rejectedSpans) => JSON.stringify({ partialSuccess: { rejectedSpans } }) ?? '');
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), partial), (answer) => {
      const count = rejectedOf(answer);
      expect(Number.isSafeInteger(count) && count >= 0).toBe(true);
    }),
    fuzzRuns,
  );
});

test('Retry-After is seconds or a date', () => {
  const now = Date.parse('2026-11-21T00:00:00Z');
  expect(
    [undefined, '3', 'Sat, 21 Nov 2026 00:00:05 GMT', 'soon'].map((header) => retryAfterOf(header, now)),
  ).toEqual([undefined, 3_000, 5_000, undefined]);
});
