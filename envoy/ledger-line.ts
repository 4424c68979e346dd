/**
 * A line of the access log (`access-log.ts`, and the embedded plane's) → what the ledger matches. A client writes
 * method, authority and path of it, escaped by JSON; everything else is the data plane's own.
 */
import { jsonObject } from '../filters/common/json-object.ts';
import type { LedgerUse } from '../filters/metering/use.ts';

/** Envoy's response flags for a request that never left: no connection, no healthy host, overflow, no route, no cluster, refused. */
const neverLeft = new Set(['UF', 'UH', 'UO', 'NR', 'NC', 'UAEX']);

/** Of a decision, with the ordinal of one of its calls where it is a lease. */
const decisionPattern = /^(dec_[0-9A-HJKMNP-TV-Z]{26})(?:#([1-9]\d{0,9}))?$/;

/** Keys of a line are sorted, so that every line begins with one of these two. */
const lineStart = /\{"(?:agent|at)":"/g;

/** A kill of the data plane cuts its last line, and the next process writes on behind it: the line after the cut is whole. */
function wholeOf(text: string): Readonly<Record<string, unknown>> | undefined {
  const value = jsonObject(text);
  if (value !== undefined) return value;
  const at = [...text.matchAll(lineStart)].at(-1)?.index ?? 0;
  return at === 0 ? undefined : jsonObject(text.slice(at));
}

const finals: Readonly<Record<string, boolean>> = {
  DownstreamEnd: true,
  TcpConnectionEnd: true,
  DownstreamPeriodic: false,
  TcpPeriodic: false,
};

/** Envoy's other types (data/accesslog/v3, AccessLogType): each is of a stream that a line of the above tells whole. */
const ofParts: ReadonlySet<unknown> = new Set([
  'NotSet',
  'TcpUpstreamConnected',
  'DownstreamStart',
  'UpstreamPoolReady',
  'UpstreamPeriodic',
  'UpstreamEnd',
  'DownstreamTunnelSuccessfullyEstablished',
  'UdpTunnelUpstreamConnected',
  'UdpPeriodic',
  'UdpSessionEnd',
]);

/** A whole line, of a type that the ledger has no use for. */
export function isOfPart(line: string): boolean {
  const value = wholeOf(line);
  return value !== undefined && ofParts.has(value['type']);
}

const kindOf = (stage: string, method: string): LedgerUse['kind'] =>
  stage === 'opaque' || stage === 'tunnel' ? 'tunnel' : method === 'CONNECT' ? 'connect' : 'request';

/** Undefined where the line is none of ours: cut, or not one of the types that tell of a whole stream. */
export function decodeLedgerLine(line: string): LedgerUse | undefined {
  const fields = wholeOf(line);
  if (fields === undefined) return undefined;
  const text = (key: string): string => {
    const found = fields[key];
    return typeof found === 'string' ? found : '';
  };
  const count = (key: string): number => {
    const found = fields[key];
    return typeof found === 'number' && Number.isSafeInteger(found) && found > 0 ? found : 0;
  };
  const final = finals[text('type')];
  const atMs = Number(text('at')) * 1_000;
  const connection = text('connection');
  if (final === undefined || !(atMs > 0) || connection === '') return undefined;
  const stage = text('stage');
  const method = text('method');
  const kind = kindOf(stage, method);
  const match = decisionPattern.exec(text('decision'));
  const dialled = text('upstream');
  // Between the listeners of one Envoy nothing leaves.
  const upstream = dialled === '-' || dialled.startsWith('envoy://') ? '' : dialled;
  const flags = text('flags') === '-' ? '' : text('flags');
  return {
    final,
    kind,
    stream: `${connection}@${text('at')}`,
    decision: match?.[1] ?? '',
    ordinal: match?.[2] === undefined ? undefined : Number(match[2]),
    connectDecision: decisionPattern.exec(text('connect_decision'))?.[1] ?? '',
    hold: text('hold'),
    upstream,
    left: upstream !== '' && (flags === '' || !flags.split(',').some((flag) => neverLeft.has(flag))),
    status: count('status'),
    bytesIn: count('bytes_in'),
    bytesOut: count('bytes_out'),
    durationMs: count('duration_ms'),
    atMs,
    flags,
    details: text('details'),
    error: text('error'),
    method,
    scheme: kind !== 'request' ? 'tcp' : stage === 'mitm' ? 'https' : 'http',
    authority: kind === 'tunnel' ? text('connect') : text('authority'),
    path: text('path'),
  };
}
