/** Spans as OTLP writes them in JSON (opentelemetry-proto, "OTLP/HTTP": ids in hex, 64-bit integers as text, enums as numbers). */

export type AttributeValue = string | number | boolean | readonly string[];
export type Attributes = Readonly<Record<string, AttributeValue | undefined>>;

export const spanKinds = { internal: 1, client: 3 } as const;

export type Span = Readonly<{
  traceId: string;
  spanId: string;
  parentId: string | undefined;
  /** The parent is a span of another process. */
  isParentRemote: boolean;
  name: string;
  kind: keyof typeof spanKinds;
  startNs: bigint;
  endNs: bigint;
  attributes: Attributes;
  /** It could not do what it was to do, in a word; a denial is not that. */
  error: string | undefined;
}>;

type Value =
  | Readonly<{ stringValue: string }>
  | Readonly<{ boolValue: boolean }>
  | Readonly<{ intValue: string }>
  | Readonly<{ doubleValue: number }>
  | Readonly<{ arrayValue: Readonly<{ values: readonly Value[] }> }>;

function anyValue(value: AttributeValue): Value {
  if (typeof value === 'string') return { stringValue: value };
  if (typeof value === 'boolean') return { boolValue: value };
  if (typeof value === 'number')
    return Number.isSafeInteger(value) ? { intValue: String(value) } : { doubleValue: value };
  return { arrayValue: { values: value.map(anyValue) } };
}

/** An attribute without a value is left out (OpenTelemetry, "Attributes"). */
export const attributesOf = (attributes: Attributes): readonly Readonly<{ key: string; value: Value }>[] =>
  Object.entries(attributes).flatMap(([key, value]) =>
    value === undefined || value === '' ? [] : [{ key, value: anyValue(value) }],
  );

/** W3C trace flags in the low byte: all that is sent is sampled. Above it, whether the parent is remote is said, and then whether it is. */
const sampled = 0x01;
const saysRemote = 0x100;
const isRemote = 0x200;
const statusError = 2;

const spanJson = (span: Span): object => ({
  traceId: span.traceId,
  spanId: span.spanId,
  ...(span.parentId === undefined ? {} : { parentSpanId: span.parentId }),
  flags: sampled | saysRemote | (span.isParentRemote ? isRemote : 0),
  name: span.name,
  kind: spanKinds[span.kind],
  startTimeUnixNano: String(span.startNs),
  endTimeUnixNano: String(span.endNs),
  attributes: attributesOf(span.attributes),
  status: span.error === undefined ? {} : { code: statusError, message: span.error },
});

/** One `ExportTraceServiceRequest`. */
export const exportRequest = (
  spans: readonly Span[],
  resource: Attributes,
  scope: Readonly<{ name: string; version: string }>,
): string =>
  JSON.stringify({
    resourceSpans: [
      {
        resource: { attributes: attributesOf(resource) },
        scopeSpans: [{ scope, spans: spans.map(spanJson) }],
      },
    ],
  });

/** How many spans the collector did not take (`partialSuccess`); 0 for an answer that says nothing of it. */
export function rejectedOf(answer: string): number {
  let value: unknown;
  try {
    value = JSON.parse(answer);
  } catch {
    return 0;
  }
  if (typeof value !== 'object' || value === null || !('partialSuccess' in value)) return 0;
  const partial = value.partialSuccess;
  if (typeof partial !== 'object' || partial === null || !('rejectedSpans' in partial)) return 0;
  const count = Number(partial.rejectedSpans);
  return Number.isSafeInteger(count) && count > 0 ? count : 0;
}
