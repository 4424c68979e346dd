/**
 * Records → spans, with the ids that the records have:
 *
 *   check POST          a decision; below the caller's span where it sent one
 *   ├─ hold             once somebody has decided it
 *   └─ POST             what was sent, once the ledger has settled it
 *
 * Names and attributes are those of OpenTelemetry's semantic conventions (HTTP spans, MCP); ours begin with
 * `sallyport.`. No header, query, body or name of a person, and no part of a path that looks like a secret.
 */
import { type ErrorEntry, errors } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import { maskPath } from '../filters/common/path-secrets.ts';
import type {
  DecisionRecord,
  HoldRecord,
  JournalRecord,
  SettlementRecord,
} from '../filters/common/record.ts';
import { childSpanId, decisionPlace, type SpanPlace } from '../filters/common/trace-ids.ts';
import { parseTraceparent } from '../filters/common/traceparent.ts';
import type { Attributes, Span } from './otlp-json.ts';

export type SpanMaker = Readonly<{
  /** Spans that this record completes. Records are given in the order of the journal. */
  spansOf(record: JournalRecord): Span[];
}>;

type Held = { readonly openedNs: bigint; endedNs: bigint | undefined; state: string };
type Sent = Readonly<{ place: SpanPlace; attributes: Attributes; method: string; calls: number }>;

/** A map that forgets what was put first. */
function remember<K, V>(map: Map<K, V>, key: K, value: V): void {
  if (map.size >= limits.otlpOpenMax && !map.has(key)) {
    const oldest = map.keys().next();
    if (oldest.done !== true) map.delete(oldest.value);
  }
  map.set(key, value);
}

const entries = new Map<string, ErrorEntry>(Object.entries(errors));

const nsOf = ({ at }: JournalRecord): bigint => BigInt(at.physical_ns);

/** RFC 9110, section 9, and RFC 5789; another word is `_OTHER`, so that an agent cannot make names without end. */
const knownMethods = new Set([
  'CONNECT',
  'DELETE',
  'GET',
  'HEAD',
  'OPTIONS',
  'PATCH',
  'POST',
  'PUT',
  'TRACE',
]);

const resourcePattern = /^(https?|tcp):\/\/(.*):(\d+)(\/.*)?$/;

function requestAttributes(what: string, resource: string): Attributes & Readonly<{ method: string }> {
  const method = what.split(' ', 1)[0] ?? '';
  const [, scheme = '', host = '', port = '', path = ''] = resourcePattern.exec(resource) ?? [];
  const known = knownMethods.has(method) ? method : method === '' ? '' : '_OTHER';
  return {
    method: known,
    'http.request.method': known,
    'url.scheme': scheme === 'tcp' ? undefined : scheme,
    'server.address': host.replace(/^\[|\]$/g, ''),
    'server.port': port === '' ? undefined : Number(port),
    'url.path': maskPath(path),
  };
}

/**
 * How many a second are sampled since their callers ask for it: one agent that asks every time would fill the queue
 * that the others' spans wait in. Pure: the time is that of the records.
 */
function createAsked(): (record: DecisionRecord) => boolean {
  let second = -1n;
  let taken = 0;
  const byAgent = new Map<string, number>();
  return (record) => {
    const now = nsOf(record) / 1_000_000_000n;
    if (now !== second) {
      second = now;
      taken = 0;
      byAgent.clear();
    }
    const own = byAgent.get(record.agent) ?? 0;
    if (taken >= limits.otlpAskedPerSecondMax || own >= limits.otlpAskedPerAgentPerSecondMax) return false;
    taken += 1;
    byAgent.set(record.agent, own + 1);
    return true;
  };
}

/**
 * The part is taken from the end of the decision's id, not of the trace's, which is the caller's to choose. The
 * caller may ask that it be sampled, within bounds, and cannot ask that it be not.
 */
function isSampled(
  record: DecisionRecord,
  ratio: number,
  asked: (record: DecisionRecord) => boolean,
): boolean {
  if (ratio >= 1 || isInPart(record, ratio)) return true;
  return parseTraceparent(record.traceparent)?.sampled === true && asked(record);
}

function isInPart(record: DecisionRecord, ratio: number): boolean {
  const low = Number.parseInt(decisionPlace(record.id, undefined).spanId.slice(-8), 16);
  // Ids of one millisecond count up; the multiplication (Knuth, "The Art of Computer Programming", 6.4) spreads them.
  return Math.imul(low, 0x9e3779b1) >>> 0 < ratio * 2 ** 32;
}

export function createSpanMaker(ratio: number): SpanMaker {
  const holds = new Map<string, Held>();
  const sent = new Map<string, Sent>();
  const asked = createAsked();

  const decided = (record: DecisionRecord): Span[] => {
    if (!isSampled(record, ratio, asked)) return [];
    const place = decisionPlace(record.id, record.traceparent);
    const { method, ...request } = requestAttributes(record.what, record.resource);
    const endNs = nsOf(record);
    const entry = entries.get(record.code);
    // Refusing is what a check is for; only one that could not decide has failed.
    const isFailure = entry?.category === 'Transient' || entry?.category === 'Degraded';
    const span: Span = {
      ...{ traceId: place.traceId, spanId: place.spanId, parentId: place.parentId },
      isParentRemote: place.parentId !== undefined,
      name: method === '' ? 'check' : `check ${method}`,
      kind: 'internal',
      startNs: endNs - BigInt(Math.max(0, Math.round(record.duration_us))) * 1_000n,
      endNs,
      attributes: {
        ...request,
        'mcp.method.name': record.mcp_method,
        'gen_ai.tool.name': record.mcp_tool,
        'error.type': record.code,
        'sallyport.decision.id': record.id,
        'sallyport.decision.kind': record.kind,
        'sallyport.agent.id': record.agent,
        'sallyport.rule': record.rule,
        'sallyport.policy.version': record.policy_version,
        'sallyport.hold.id': record.hold,
        'sallyport.lease.calls': record.calls,
        'sallyport.shadow':
          record.shadow.length === 0 ? undefined : record.shadow.map(({ rule, would }) => `${rule}:${would}`),
      },
      error: isFailure ? record.code : undefined,
    };
    if (record.kind === 'Allow' && record.pin !== '')
      remember(sent, record.id, { place, attributes: request, method, calls: record.calls ?? 1 });
    const held = holds.get(record.hold);
    return held?.endedNs === undefined ? [span] : [span, holdSpan(record, place, held, held.endedNs)];
  };

  const holdSpan = (record: DecisionRecord, place: SpanPlace, held: Held, endNs: bigint): Span => ({
    ...{ traceId: place.traceId, spanId: childSpanId(record.id, 'hold'), parentId: place.spanId },
    ...{ isParentRemote: false, name: 'hold', kind: 'internal', startNs: held.openedNs, endNs },
    attributes: {
      'sallyport.hold.id': record.hold,
      'sallyport.hold.state': held.state,
      'sallyport.decision.id': record.id,
      'sallyport.rule': record.rule,
    },
    error: undefined,
  });

  const held = (record: HoldRecord): void => {
    const { id, state } = record;
    if (state === 'Pending') {
      remember(holds, id, { openedNs: nsOf(record), endedNs: undefined, state });
      return;
    }
    const known = holds.get(id);
    // The first state after Pending is what was decided; what follows tells of the request.
    if (known === undefined || known.endedNs !== undefined || state === 'Escalated') return;
    known.endedNs = nsOf(record);
    known.state = state;
  };

  const settled = (record: SettlementRecord): Span[] => {
    const known = sent.get(record.id);
    if (known === undefined || record.kind === 'Expired') return [];
    const { place, attributes, method, calls } = known;
    if (calls === 1) sent.delete(record.id);
    const [, address, port] = /^\[?(.*?)\]?:(\d+)$/.exec(record.upstream) ?? [];
    const isError = record.kind !== 'Sent' || record.status >= 400;
    const error = record.kind === 'Sent' ? String(record.status) : record.kind;
    return [
      {
        ...{
          traceId: place.traceId,
          spanId: childSpanId(record.id, `upstream ${record.kind}`),
          parentId: place.spanId,
        },
        ...{ isParentRemote: false, name: method === '' ? 'HTTP' : method, kind: 'client' },
        startNs: record.first_ms > 0 ? nanoseconds(record.first_ms) : nsOf(record),
        endNs: record.last_ms > 0 ? nanoseconds(record.last_ms) : nsOf(record),
        attributes: {
          ...attributes,
          'network.peer.address': address,
          'network.peer.port': port === undefined ? undefined : Number(port),
          'http.response.status_code': record.status > 0 ? record.status : undefined,
          'http.request.body.size': record.bytes_in,
          'http.response.body.size': record.bytes_out,
          'error.type': isError ? error : undefined,
          'sallyport.decision.id': record.id,
          'sallyport.settlement.kind': record.kind,
          'sallyport.settlement.calls': record.calls,
        },
        error: isError ? error : undefined,
      },
    ];
  };

  return {
    spansOf: (record) => {
      switch (record.type) {
        case 'decision':
          return decided(record);
        case 'settlement':
          return settled(record);
        case 'hold':
          held(record);
          return [];
        default:
          return [];
      }
    },
  };
}

const nanoseconds = (ms: number): bigint => BigInt(Math.round(ms * 1_000)) * 1_000n;
