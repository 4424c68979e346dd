/** One decision as one line that a person reads, and the same as fields for a machine. */
import { isOpened, openedWhy, whatOf } from '../ext-authz/record.ts';
import { printable } from '../filters/common/printable.ts';
import { type Decision, errorCodeOf, retryAfterMsOf } from '../filters/decision.ts';
import type { Call, Destination } from '../filters/facts.ts';
import { type CommandLine, commandLineTo } from './invocation.ts';

/** What a log says of a decision. No header, no query, no body: those may hold secrets. */
export type DecisionFields = Readonly<{
  id: string;
  kind: Decision['kind'];
  agent: string;
  what: string;
  resource: string;
  rule: string;
  policy_version: string;
  code?: string;
  reason?: string;
  retry_after_ms?: number;
  hold?: string;
  hold_timeout_ms?: number;
  /** Calls that this one decision stands for. */
  lease?: number;
  quota?: Readonly<{ name: string; left: number; limit: number }>;
  shadow?: readonly string[];
  via: string;
  duration_ms?: number;
}>;

const words = {
  Allow: 'ALLOW',
  Deny: 'DENY',
  RequiresOversight: 'HOLD',
  QuotaExceeded: 'THROTTLE',
  RateLimited: 'THROTTLE',
} as const satisfies Record<Decision['kind'], string>;

/** `demo.test/hello`, with scheme and port only where they are not the usual ones. */
function resourceOf(destination: Destination): string {
  const usual =
    (destination.scheme === 'https' && destination.port === 443) ||
    (destination.scheme === 'http' && destination.port === 80);
  const host =
    destination.hostIsAddress && destination.host.includes(':') ? `[${destination.host}]` : destination.host;
  return `${host}${usual ? '' : `:${destination.port}`}${destination.path}`;
}

const withoutQuery = (text: string): string => text.split(/[?#]/, 1)[0] ?? '';

/** What a line takes from the call itself; all but `via` is empty where the call could not be read. */
type Told = Pick<Call, 'method' | 'authority' | 'path' | 'via'>;

export function decisionFields(decision: Decision, call: Told, durationMs?: number): DecisionFields {
  const { destination } = decision;
  const code = errorCodeOf(decision);
  const retryAfterMs = retryAfterMsOf(decision);
  const hold = 'hold' in decision ? decision.hold : undefined;
  const tightest = decision.quotas.toSorted((a, b) => a.limit - a.used - (b.limit - b.used))[0];
  const quota =
    decision.kind === 'QuotaExceeded'
      ? { name: decision.quota, left: Math.max(0, decision.limit - decision.used), limit: decision.limit }
      : tightest && {
          name: tightest.name,
          left: Math.max(0, tightest.limit - tightest.used),
          limit: tightest.limit,
        };
  return {
    id: decision.id,
    kind: decision.kind,
    agent: decision.agent?.name ?? '',
    what: whatOf(destination, call),
    resource: destination
      ? resourceOf(destination)
      : withoutQuery(`${call.authority.replace(/^.*@/, '')}${call.path}`),
    rule: decision.rule ?? '',
    policy_version: decision.policyVersion,
    ...(code === undefined ? {} : { code }),
    ...(decision.kind === 'Deny' ? { reason: decision.reason } : {}),
    ...(decision.kind === 'Allow' && isOpened(decision) ? { reason: openedWhy } : {}),
    ...(retryAfterMs === undefined ? {} : { retry_after_ms: retryAfterMs }),
    ...(hold === undefined ? {} : { hold }),
    ...(decision.kind === 'RequiresOversight' ? { hold_timeout_ms: decision.timeout } : {}),
    ...(decision.kind === 'Allow' && decision.lease ? { lease: decision.lease.calls } : {}),
    ...(quota === undefined ? {} : { quota }),
    ...(decision.shadow.length === 0
      ? {}
      : { shadow: decision.shadow.map((outcome) => `${outcome.rule}:${outcome.would}`) }),
    via: call.via,
    ...(durationMs === undefined ? {} : { duration_ms: Math.round(durationMs * 1_000) / 1_000 }),
  };
}

const clockTime = (ms: number): string => {
  const at = new Date(ms);
  const two = (n: number): string => String(n).padStart(2, '0');
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, '0')}`;
};

const colours: Record<string, string> = { ALLOW: '32', DENY: '31', HOLD: '33', THROTTLE: '35' };

/** `12:00:01.234 ALLOW demo GET demo.sallyport.test/hello rule=demo-read quota 2/3 left id=dec_…` */
export function decisionLine(
  ms: number,
  fields: DecisionFields,
  colour = false,
  commandLine: CommandLine = commandLineTo(''),
): string {
  const word = words[fields.kind];
  const shown = colour ? `\u001b[${colours[word]}m${word}\u001b[0m` : word;
  const parts = [
    clockTime(ms),
    shown,
    fields.agent === '' ? '?' : printable(fields.agent, 128),
    printable(fields.what, 160),
    printable(fields.resource, 200),
  ];
  if (fields.rule !== '') parts.push(`rule=${printable(fields.rule, 128)}`);
  if (fields.lease !== undefined) parts.push(`lease of ${fields.lease} calls`);
  if (fields.quota !== undefined) parts.push(`quota ${fields.quota.left}/${fields.quota.limit} left`);
  if (fields.shadow !== undefined) parts.push(`shadow=${printable(fields.shadow.join(','), 200)}`);
  if (fields.code !== undefined) parts.push(fields.code);
  if (fields.reason !== undefined) parts.push(`(${printable(fields.reason, 200)})`);
  if (fields.retry_after_ms !== undefined)
    parts.push(`retry after ${Math.ceil(fields.retry_after_ms / 1_000)} s`);
  if (fields.kind === 'RequiresOversight' && fields.hold !== undefined)
    parts.push(`approve: ${commandLine(`holds approve ${fields.hold}`)}`);
  else if (fields.hold !== undefined) parts.push(`hold=${fields.hold}`);
  parts.push(`id=${fields.id}`);
  return parts.join(' ');
}

export { clockTime };
