/**
 * A trace as one picture:
 *
 *   dec_01K…  ALLOW  2026-11-21 06:17:38.805 UTC, decided in 0.24 ms
 *   ├─ request   POST https://api.example.org:443/orders
 *   ├─ …
 *   └─ audit     leaf 41 of 120 in log sallyport.test/log: proven
 */
import { msOf } from '../../filters/common/journal-scan.ts';
import { printable } from '../../filters/common/printable.ts';
import type { DecisionRecord, HoldRecord, SettlementRecord } from '../../filters/common/record.ts';
import type { LedgerUse } from '../../filters/metering/use.ts';
import type { Trace } from '../trace.ts';
import { duration } from './output.ts';
import { exactTime } from './since.ts';

type Branch = readonly [name: string, lines: readonly string[]];

const words: Readonly<Record<string, string>> = {
  Allow: 'ALLOW',
  Deny: 'DENY',
  RequiresOversight: 'HOLD',
  QuotaExceeded: 'THROTTLE',
  RateLimited: 'THROTTLE',
};

const nameWidth = 10;
const lineCharsMax = 2_000;
/** Uses of one lease that are drawn; `--json` has them all. */
const usesShown = 10;

const clock = (ms: number): string => new Date(ms).toISOString().slice(11, 23);
const bytes = (count: number): string =>
  count < 1024
    ? `${count} B`
    : count < 1024 * 1024
      ? `${(count / 1024).toFixed(1)} KiB`
      : `${(count / 1024 / 1024).toFixed(1)} MiB`;
const brief = (ms: number): string => (ms < 1_000 ? `${Math.round(ms)} ms` : duration(ms));
const joined = (...parts: readonly (string | undefined)[]): string =>
  parts.filter((part) => part !== undefined && part !== '').join(', ');

export function picture(trace: Trace, ordinal: number | undefined): string[] {
  const { decision } = trace;
  const code = decision.code === '' ? '' : ` ${decision.code}`;
  const head = `${decision.id}  ${words[decision.kind] ?? decision.kind}${code}  ${exactTime(msOf(decision.at))}, decided in ${micros(decision.duration_us)}`;
  const branches = branchesOf(trace, ordinal).filter(([, lines]) => lines.length > 0);
  return [
    head,
    ...branches.flatMap(([name, lines], index) => {
      const isLast = index === branches.length - 1;
      return lines.map((line, row) =>
        row === 0
          ? `${isLast ? '└' : '├'}─ ${name.padEnd(nameWidth)} ${line}`
          : `${isLast ? ' ' : '│'}  ${' '.repeat(nameWidth)} ${line}`,
      );
    }),
  ].map((line) => printable(line, lineCharsMax));
}

const micros = (us: number): string => (us < 1_000 ? `${us} µs` : brief(us / 1_000));

function branchesOf(trace: Trace, ordinal: number | undefined): Branch[] {
  const { decision, span } = trace;
  const { calls = 1 } = decision;
  const advance = calls > 1 ? `, with all ${calls} calls of the lease, which are paid in advance` : '';
  return [
    ['request', requestLines(decision)],
    ['agent', [decision.agent || 'unknown'].concat(chainLine(decision))],
    ['rule', ruleLines(decision)],
    ['shadow', decision.shadow.map(({ rule, would }) => `rule ${rule} would ${would} it`)],
    [
      'quota',
      (decision.quotas ?? []).map(({ name, used, limit }) => `${name}: ${used} of ${limit} used${advance}`),
    ],
    ['lease', leaseLines(trace, ordinal)],
    ['pin', decision.pin === '' ? [] : [decision.pin]],
    ['hold', holdLines(trace)],
    ['upstream', upstreamLines(trace, ordinal)],
    ['settled', trace.settlements.map(settlementLine)],
    [
      'usage',
      trace.usage.map(
        ({ event }) =>
          `${event.type} ${event.id}: ${event.data.calls} ${event.data.calls === 1 ? 'call' : 'calls'}, ${bytes(event.data.bytes_in)} out, ${bytes(event.data.bytes_out)} back`,
      ),
    ],
    ['incident', trace.incidents.map(({ kind, why, at }) => `${kind} at ${clock(msOf(at))}: ${why}`)],
    [
      'span',
      [
        joined(
          `trace ${span.traceId}`,
          `span ${span.spanId}`,
          span.parentId && `below the caller’s ${span.parentId}`,
        ),
      ],
    ],
    ['audit', [auditLine(trace)]],
  ];
}

function requestLines({
  what,
  resource,
  via,
  tunnelled,
  stage,
  request_id: requestId,
  mcp_invalid: invalid,
}: DecisionRecord): string[] {
  const detail = joined(
    `by ${via === 'authzen' ? 'AuthZEN' : via}`,
    tunnelled === true ? 'inside a CONNECT' : undefined,
    stage === undefined ? undefined : `at the ${stage === 'connect' ? 'CONNECT' : 'first bytes of a tunnel'}`,
    invalid === true ? 'not strict MCP' : undefined,
    requestId === '' ? undefined : `request id ${requestId}`,
  );
  return [`${what} ${resource}`.trim(), detail];
}

const chainLine = ({ delegation_chain: chain }: DecisionRecord): string[] =>
  chain.length > 1 ? [`for ${chain.slice(0, -1).join(' → ')}`] : [];

function ruleLines({ rule, policy_version: version, why, calls = 1 }: DecisionRecord): string[] {
  // Why a lease was given is in its own line.
  const reason = why === '' || calls > 1 ? [] : [why];
  return [`${rule === '' ? 'none' : rule} (policy ${version})`, ...reason];
}

function leaseLines({ decision, settlements }: Trace, ordinal: number | undefined): string[] {
  const { calls, lease_ms: ms, lease_path: at, lease_exact: exact, what, at: granted } = decision;
  if (calls === undefined || calls <= 1) return [];
  const paths = at === undefined ? '' : ` of ${what} ${at}${exact === true ? '' : '…'}`;
  const until = ms === undefined ? '' : `, for ${ms} ms until ${clock(msOf(granted) + ms)}`;
  const use =
    ordinal === undefined
      ? []
      : [ordinal > calls ? `there is no use ${ordinal} of it` : `use ${ordinal} of ${calls} is asked for`];
  const open = calls - settlements.reduce((sum, one) => sum + one.calls, 0);
  const rest = open > 0 ? [`${open} of them not settled yet; what was not used is paid back`] : [];
  return [`${calls} calls${paths}${until}`, ...use, ...rest];
}

const told: Readonly<Record<string, string>> = {
  Pending: 'opened',
  Approved: 'approved',
  Denied: 'denied',
  Cancelled: 'cancelled',
  TimedOut: 'timed out',
  Released: 'released for this request',
  Sent: 'sent',
  NotSent: 'not sent',
  Unknown: 'unknown whether it was sent',
};

function holdLines({ decision, holds, same_hold: others }: Trace): string[] {
  if (decision.hold === '') return [];
  const opened = holds[0];
  const openedMs = opened === undefined ? undefined : msOf(opened.at);
  const line = ({ state, by, why, at }: HoldRecord): string => {
    const after =
      openedMs === undefined || state === 'Pending' ? '' : `, after ${brief(msOf(at) - openedMs)}`;
    return `${clock(msOf(at))} ${told[state] ?? state}${by === '' ? '' : ` by ${by}`}${after}${why === '' ? '' : `: ${why}`}`;
  };
  const asked =
    others.length === 0
      ? []
      : [
          `asked ${others.length + 1} times: ${others
            .map(({ id }) => id)
            .slice(-3)
            .join(', ')}`,
        ];
  return [decision.hold, ...holds.map(line), ...asked];
}

function upstreamLines({ decision, uses, settlements }: Trace, ordinal: number | undefined): string[] {
  const wanted = ordinal === undefined ? uses : uses.filter((use) => use.ordinal === ordinal);
  if (wanted.length > 0) {
    const lines = wanted.slice(0, usesShown).map((use) => useLine(use, decision.hold !== ''));
    return wanted.length > usesShown
      ? [...lines, `and ${wanted.length - usesShown} more; --json has them`]
      : lines;
  }
  if (ordinal !== undefined) return ['the access log has no line of this call, or not any more'];
  return decision.kind === 'Allow' && settlements.length === 0 && decision.pin !== ''
    ? ['nothing yet: the access log has no line of it']
    : [];
}

/** The access log tells when a request came: of a held one, that is before anybody approved it. */
function useLine(use: LedgerUse, wasHeld: boolean): string {
  const call = use.ordinal === undefined ? '' : `#${use.ordinal} `;
  const state = use.final ? '' : ' so far';
  const outcome = use.left
    ? `${use.status || '–'} from ${use.upstream}`
    : `not sent${use.flags === '' ? '' : ` (${use.flags})`}`;
  return joined(
    wasHeld ? `asked at ${clock(use.atMs)}: ${call}${outcome}` : `${clock(use.atMs)} ${call}${outcome}`,
    `${bytes(use.bytesIn)} out`,
    `${bytes(use.bytesOut)} back`,
    `${wasHeld ? 'answered after ' : ''}${brief(use.durationMs)}${state}`,
  );
}

function settlementLine(settlement: SettlementRecord): string {
  const { kind, calls, bytes_in: sent, bytes_out: received, status, upstream, duration_ms: ms } = settlement;
  const traffic =
    kind === 'Sent'
      ? joined(
          status === 0 ? '' : `last status ${status}`,
          upstream,
          `${bytes(sent)} out`,
          `${bytes(received)} back`,
          brief(ms),
        )
      : kind === 'Expired'
        ? 'never made, and paid back'
        : '';
  return joined(
    `${kind}: ${calls} ${calls === 1 ? 'call' : 'calls'}`,
    traffic,
    `at ${clock(msOf(settlement.at))}`,
  );
}

function auditLine({ audit }: Trace): string {
  switch (audit.kind) {
    case 'no log':
      return 'there is no audit log here';
    case 'unreadable':
      return `the audit log cannot be read: ${audit.why}`;
    case 'waiting':
      return audit.index === null
        ? 'not a leaf of the log'
        : `leaf ${audit.index}, not under the newest checkpoint yet, which has ${audit.tree_size}`;
    case 'leaf':
      return `leaf ${audit.index} of ${audit.tree_size} in log ${audit.origin}: ${audit.proven ? 'proven by its checkpoint' : `NOT proven, ${audit.why}`}`;
  }
}
