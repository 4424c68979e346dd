/** An OTLP receiver over HTTP: reads what an exporter sends by the strict shape of ExportTraceServiceRequest. */
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { z } from 'zod';

const int64 = z.string().regex(/^-?\d{1,19}$/);
const fixed64 = z.string().regex(/^\d{1,20}$/);
const anyValue: z.ZodType = z.lazy(() =>
  z.union([
    z.strictObject({ stringValue: z.string() }),
    z.strictObject({ boolValue: z.boolean() }),
    z.strictObject({ intValue: int64 }),
    z.strictObject({ doubleValue: z.number() }),
    z.strictObject({ arrayValue: z.strictObject({ values: z.array(anyValue) }) }),
  ]),
);
const attributes = z.array(z.strictObject({ key: z.string().min(1), value: anyValue }));
const span = z.strictObject({
  traceId: z.string().regex(/^(?!0{32})[0-9a-f]{32}$/),
  spanId: z.string().regex(/^(?!0{16})[0-9a-f]{16}$/),
  parentSpanId: z
    .string()
    .regex(/^(?!0{16})[0-9a-f]{16}$/)
    .optional(),
  flags: z.int().min(0),
  name: z.string().min(1),
  kind: z.union([z.literal(1), z.literal(3)]),
  startTimeUnixNano: fixed64,
  endTimeUnixNano: fixed64,
  attributes,
  status: z.strictObject({ code: z.literal(2).optional(), message: z.string().optional() }),
});
const request = z.strictObject({
  resourceSpans: z.array(
    z.strictObject({
      resource: z.strictObject({ attributes }),
      scopeSpans: z.array(
        z.strictObject({
          scope: z.strictObject({ name: z.string(), version: z.string() }),
          spans: z.array(span),
        }),
      ),
    }),
  ),
});

export type ReceivedSpan = Readonly<{
  traceId: string;
  spanId: string;
  parentSpanId: string | undefined;
  flags: number;
  name: string;
  kind: number;
  startNs: bigint;
  endNs: bigint;
  attributes: Readonly<Record<string, unknown>>;
  error: string | undefined;
}>;

export type Collector = Readonly<{
  url: string;
  spans: ReceivedSpan[];
  requests: { path: string; headers: IncomingHttpHeaders; spans: number }[];
  /** Instead of 200: answers the next requests, one by one. */
  answers: ((response: ServerResponse) => void)[];
  close(): Promise<void>;
}>;

const plain = (value: Record<string, unknown>): unknown => {
  const [kind, inner] = Object.entries(value)[0] ?? [];
  if (kind === 'intValue') return Number(inner);
  if (kind === 'arrayValue') return (inner as { values: Record<string, unknown>[] }).values.map(plain);
  return inner;
};

export const plainAttributes = (
  list: readonly Readonly<{ key: string; value: unknown }>[],
): Readonly<Record<string, unknown>> =>
  Object.fromEntries(list.map(({ key, value }) => [key, plain(value as Record<string, unknown>)]));

/** Throws where it is not what the protocol says. */
export function decodeExport(text: string): ReceivedSpan[] {
  const { resourceSpans } = request.parse(JSON.parse(text));
  return resourceSpans.flatMap(({ scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((one) => ({
        ...{ traceId: one.traceId, spanId: one.spanId, parentSpanId: one.parentSpanId, flags: one.flags },
        ...{ name: one.name, kind: one.kind, error: one.status.message },
        startNs: BigInt(one.startTimeUnixNano),
        endNs: BigInt(one.endTimeUnixNano),
        attributes: plainAttributes(one.attributes),
      })),
    ),
  );
}

export async function startCollector(): Promise<Collector> {
  const spans: ReceivedSpan[] = [];
  const requests: { path: string; headers: IncomingHttpHeaders; spans: number }[] = [];
  const answers: ((response: ServerResponse) => void)[] = [];
  const server: Server = createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', () => {
      const answer = answers.shift();
      const read = decodeExport(Buffer.concat(chunks).toString('utf8'));
      requests.push({ path: incoming.url ?? '', headers: incoming.headers, spans: read.length });
      if (answer !== undefined) {
        answer(response);
        return;
      }
      spans.push(...read);
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  // A TCP server has an address and a port.
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    ...{ spans, requests, answers },
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
