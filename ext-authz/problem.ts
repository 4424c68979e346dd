/** What a denial says, whatever shape it then takes: RFC 9457 with members of our own. */
import { type ErrorCode, type ErrorEntry, errors } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import { type Allow, type Decision, errorCodeOf, retryAfterMsOf } from '../filters/decision.ts';

export type Refused = Exclude<Decision, Allow>;

export type Problem = Readonly<{
  type: string;
  title: string;
  status: number;
  detail: string;
  code: ErrorCode;
  category: string;
  rule?: string;
  decision: string;
  policy_version?: string;
  retry: Readonly<{
    /** True: the same request can pass later by itself. False: never, or only after something else changed. */
    can_help: boolean;
    after_ms?: number;
  }>;
  hold?: string;
  next: string;
  quotas?: readonly Readonly<{
    name: string;
    limit: number;
    remaining: number;
    window_ms: number;
    reset_ms: number;
  }>[];
}>;

/** One line without control characters: it goes into headers, logs and terminals. */
export const line = (text: string, charsMax: number = limits.denialDetailCharsMax): string => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: replacing them is the purpose
  const clean = text.toWellFormed().replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ');
  return clean.length > charsMax ? `${clean.slice(0, charsMax - 1).toWellFormed()}…` : clean;
};

const seconds = (ms: number): string => {
  const whole = Math.max(1, Math.ceil(ms / 1_000));
  return `${whole} second${whole === 1 ? '' : 's'}`;
};

function detailOf(refused: Refused): string {
  switch (refused.kind) {
    case 'Deny':
      return refused.reason;
    case 'RequiresOversight':
      return (
        `Rule ${refused.policy_id} holds this request until a person approves it, for ${seconds(refused.timeout)} at most. ` +
        `Its approvers find it as ${refused.hold}.`
      );
    case 'QuotaExceeded':
      return (
        `Quota ${refused.quota} allows ${refused.limit} calls and ${refused.used} are used. ` +
        `The next may be sent in ${seconds(refused.retryAfterMs)}.`
      );
    case 'RateLimited':
      return `Calls come faster than ${refused.quota} allows. The next may be sent in ${seconds(refused.retry_after)}.`;
  }
}

/** The catalogue's code of a refusal; a decision that has none cannot be one. */
function codeOf(refused: Refused): ErrorCode {
  return errorCodeOf(refused) ?? 'Internal';
}

export function problemOf(refused: Refused): Problem {
  const code = codeOf(refused);
  const entry: ErrorEntry = errors[code];
  const afterMs = entry.retry === 'after' ? (retryAfterMsOf(refused) ?? entry.retryAfterMs) : undefined;
  const hold = refused.kind === 'Deny' || refused.kind === 'RequiresOversight' ? refused.hold : undefined;
  return {
    type: `urn:sallyport:error:${code}`,
    title: entry.title,
    status: entry.status,
    detail: line(detailOf(refused)),
    code,
    category: entry.category,
    ...(refused.rule === undefined ? {} : { rule: refused.rule }),
    decision: refused.id,
    ...(refused.policyVersion === '' ? {} : { policy_version: refused.policyVersion }),
    retry: {
      can_help: entry.retry === 'after',
      ...(afterMs === undefined ? {} : { after_ms: Math.max(0, Math.ceil(afterMs)) }),
    },
    ...(hold === undefined ? {} : { hold }),
    next: entry.next,
    ...(refused.quotas.length === 0
      ? {}
      : {
          quotas: refused.quotas.map((quota) => ({
            name: quota.name,
            limit: quota.limit,
            remaining: Math.max(0, quota.limit - quota.used),
            window_ms: quota.windowMs,
            reset_ms: quota.resetMs,
          })),
        }),
  };
}
