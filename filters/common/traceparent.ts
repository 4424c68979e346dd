/**
 * The caller's place in its own trace (W3C Trace Context, section 3.2): `00-trace-parent-flags`, lower-case hex.
 * What is not exactly that is as if it had not been sent (section 3.2.2.2 and 3.2.2.3).
 */

/** A later version may append fields, each after a hyphen (section 4.1); version ff is forbidden. */
const pattern = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?$/;
const chars = 55;

export type TraceParent = Readonly<{ traceId: string; spanId: string; sampled: boolean }>;

/** The part of it that every version has; undefined where it is not valid. */
export function traceparentOf(header: string | undefined): string | undefined {
  if (header === undefined || !pattern.test(header)) return undefined;
  // Version 00 is of one length.
  return header.startsWith('00-') && header.length !== chars ? undefined : header.slice(0, chars);
}

export function parseTraceparent(header: string | undefined): TraceParent | undefined {
  const valid = traceparentOf(header);
  if (valid === undefined) return undefined;
  return {
    traceId: valid.slice(3, 35),
    spanId: valid.slice(36, 52),
    sampled: (Number.parseInt(valid.slice(53, 55), 16) & 1) === 1,
  };
}
