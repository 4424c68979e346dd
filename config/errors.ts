/**
 * The one catalogue of what can be refused and why. `docs/errors.md` is generated from it and tested equal.
 * Category words are the seeds': Transient (retry with backoff), Permanent (fail at once),
 * Security (log, alert, deny), Degraded (fall back or break the circuit).
 */
export type ErrorCategory = 'Transient' | 'Permanent' | 'Security' | 'Degraded';

/** Whether sending the same request again can help: never, after a while, or after something else changed. */
export type Retry = 'never' | 'after' | 'changed';

export type ErrorEntry = Readonly<{
  category: ErrorCategory;
  /** HTTP status of the denial. */
  status: number;
  retry: Retry;
  /** Default for `retry_after` in milliseconds where `retry` is `after` and nothing better is known. */
  retryAfterMs?: number;
  title: string;
  /** One sentence for the caller: what to do next. */
  next: string;
}>;

const entry = <const T extends ErrorEntry>(value: T): T => value;

export const errors = {
  // Identity.
  InvalidAgent: entry({
    category: 'Security',
    status: 401,
    retry: 'changed',
    title: 'The caller is not an agent that the policy knows',
    next: 'Add the agent to the policy, or connect as the user, credential or certificate that the policy names.',
  }),
  DelegationInvalid: entry({
    category: 'Security',
    status: 403,
    retry: 'never',
    title: 'The delegation chain is not valid',
    next: 'Obtain a chain whose every link is signed, in date and within the scope of the one before.',
  }),
  // Egress.
  EgressDenied: entry({
    category: 'Permanent',
    status: 403,
    retry: 'changed',
    title: 'No rule allows this destination',
    next: 'Ask for a rule that allows it; `sallyport explain` shows why each rule did not.',
  }),
  Forbidden: entry({
    category: 'Permanent',
    status: 403,
    retry: 'changed',
    title: 'A rule forbids this request',
    next: 'Do not retry: the rule named here forbids it whatever else allows it.',
  }),
  DestinationInvalid: entry({
    category: 'Permanent',
    status: 400,
    retry: 'never',
    title: 'The destination cannot be read without doubt',
    next: 'Send one host, one port and a path without encoded slashes, backslashes or control characters.',
  }),
  DestinationMismatch: entry({
    category: 'Security',
    status: 421,
    retry: 'never',
    title: 'CONNECT authority, SNI and Host do not name the same host',
    next: 'Open a new connection to the host that the request is for.',
  }),
  AddressDenied: entry({
    category: 'Security',
    status: 403,
    retry: 'changed',
    title: 'The name resolves to an address that is not public',
    next: 'Name the host in a rule with `internal: true` if it is meant to be reached.',
  }),
  ResolutionFailed: entry({
    category: 'Transient',
    status: 502,
    retry: 'after',
    retryAfterMs: 1_000,
    title: 'The host name could not be resolved',
    next: 'Check the name; try again if the resolver was away.',
  }),
  UpstreamUnreachable: entry({
    category: 'Transient',
    status: 502,
    retry: 'after',
    retryAfterMs: 1_000,
    title: 'The destination could not be reached',
    next: 'Try again later; nothing is known to have been done.',
  }),
  UpstreamCertificateInvalid: entry({
    category: 'Security',
    status: 502,
    retry: 'never',
    title: 'The destination did not prove its name',
    next: 'Add its certificate authority to `upstream.ca_files` if it is trusted.',
  }),
  ProtocolNotAllowed: entry({
    category: 'Security',
    status: 403,
    retry: 'never',
    title: 'This protocol is not allowed towards this destination',
    next: 'Use HTTP, or a rule with `inspect: sni` or `inspect: tunnel`.',
  }),
  McpInvalid: entry({
    category: 'Security',
    status: 400,
    retry: 'never',
    title: 'The request is not one strict MCP message',
    next: 'Send one JSON-RPC 2.0 request with content-type application/json, no batch and no repeated key.',
  }),
  // Size and shape.
  RequestMalformed: entry({
    category: 'Permanent',
    status: 400,
    retry: 'never',
    title: 'The request is malformed',
    next: 'Correct the request; the detail names the field.',
  }),
  RequestTooLarge: entry({
    category: 'Permanent',
    status: 413,
    retry: 'never',
    title: 'The request is larger than the limit',
    next: 'Send less; the detail names the limit.',
  }),
  HeadersTooLarge: entry({
    category: 'Permanent',
    status: 431,
    retry: 'never',
    title: 'The request headers are larger than the limit',
    next: 'Send fewer or shorter headers.',
  }),
  // Quota.
  QuotaExceeded: entry({
    category: 'Transient',
    status: 429,
    retry: 'after',
    title: 'The quota is used up',
    next: 'Try again after the time in Retry-After.',
  }),
  RateLimited: entry({
    category: 'Transient',
    status: 429,
    retry: 'after',
    title: 'Calls come faster than the rate allows',
    next: 'Try again after the time in Retry-After.',
  }),
  // Holds.
  HoldPending: entry({
    category: 'Transient',
    status: 403,
    retry: 'after',
    retryAfterMs: 5_000,
    title: 'A person has to approve this request',
    next: 'Send exactly the same request again after Retry-After; it goes out once it is approved.',
  }),
  HoldDenied: entry({
    category: 'Permanent',
    status: 403,
    retry: 'changed',
    title: 'A person denied this request',
    next: 'Do not repeat it; change the request or ask the approver.',
  }),
  HoldTimedOut: entry({
    category: 'Permanent',
    status: 403,
    retry: 'changed',
    title: 'Nobody decided in time',
    next: 'Send the request again to ask anew.',
  }),
  HoldCancelled: entry({
    category: 'Permanent',
    status: 403,
    retry: 'changed',
    title: 'The hold was cancelled',
    next: 'Send the request again to ask anew.',
  }),
  HoldOutcomeUnknown: entry({
    category: 'Degraded',
    status: 409,
    retry: 'changed',
    title: 'The approved request may or may not have been sent',
    next: 'An operator must look at the destination and run `sallyport holds settle ID --sent` or `--not-sent`.',
  }),
  HoldPolicyChanged: entry({
    category: 'Permanent',
    status: 403,
    retry: 'changed',
    title: 'The rule that held this request no longer decides it',
    next: 'Send the request again; it is decided by the policy that holds now.',
  }),
  HoldLimitReached: entry({
    category: 'Transient',
    status: 429,
    retry: 'after',
    retryAfterMs: 60_000,
    title: 'Too many holds are open',
    next: 'Wait until open holds are decided.',
  }),
  HoldNotFound: entry({
    category: 'Permanent',
    status: 404,
    retry: 'never',
    title: 'There is no such hold',
    next: 'List the holds with `sallyport holds list`.',
  }),
  HoldNotPending: entry({
    category: 'Permanent',
    status: 409,
    retry: 'never',
    title: 'The hold is already decided',
    next: 'Look at it with `sallyport holds show ID`.',
  }),
  ApproverNotAllowed: entry({
    category: 'Security',
    status: 403,
    retry: 'never',
    title: 'This person may not decide this hold',
    next: 'Ask a member of the approver group that the rule names.',
  }),
  // Policy and settings.
  PolicyInvalid: entry({
    category: 'Permanent',
    status: 422,
    retry: 'never',
    title: 'The policy is not valid',
    next: 'Correct what the errors name; `sallyport check POLICY` lists them all.',
  }),
  SettingsInvalid: entry({
    category: 'Permanent',
    status: 422,
    retry: 'never',
    title: 'A setting is not valid',
    next: 'Correct the setting that the error names.',
  }),
  EvaluationFailed: entry({
    category: 'Permanent',
    status: 403,
    retry: 'never',
    title: 'A rule could not be evaluated',
    next: 'Correct the condition that the detail names.',
  }),
  // Secrets and runtime (used by the services that come later).
  SecretUnavailable: entry({
    category: 'Permanent',
    status: 403,
    retry: 'changed',
    title: 'The secret that the rule gives is not there',
    next: 'Provide the secret under the name that the rule uses.',
  }),
  SandboxSpawnFailed: entry({
    category: 'Transient',
    status: 503,
    retry: 'after',
    retryAfterMs: 1_000,
    title: 'The sandbox could not be started',
    next: 'Try again; look at the cause in the log.',
  }),
  AttestationFailed: entry({
    category: 'Security',
    status: 403,
    retry: 'never',
    title: 'The attestation was not accepted',
    next: 'Run what was measured and signed.',
  }),
  SecurityViolation: entry({
    category: 'Security',
    status: 403,
    retry: 'never',
    title: 'The request broke a security rule',
    next: 'Do not retry.',
  }),
  // The service itself.
  ServiceUnavailable: entry({
    category: 'Transient',
    status: 503,
    retry: 'after',
    retryAfterMs: 1_000,
    title: 'The sidecar cannot decide now',
    next: 'Try again after Retry-After; nothing was sent.',
  }),
  Lockdown: entry({
    category: 'Security',
    status: 503,
    retry: 'changed',
    title: 'Everything is refused: an operator has locked this sidecar',
    next: 'Do not retry; an operator lifts it with `sallyport lockdown --lift`.',
  }),
  StateUnavailable: entry({
    category: 'Degraded',
    status: 503,
    retry: 'after',
    retryAfterMs: 5_000,
    title: 'The decision could not be written down',
    next: 'Free disk space or repair the state directory; until then everything is refused.',
  }),
  Overloaded: entry({
    category: 'Transient',
    status: 503,
    retry: 'after',
    retryAfterMs: 1_000,
    title: 'Too many requests at once',
    next: 'Try again after Retry-After.',
  }),
  Unauthorized: entry({
    category: 'Security',
    status: 401,
    retry: 'changed',
    title: 'The token is missing or wrong',
    next: 'Send `Authorization: Bearer` with the admin token.',
  }),
  NotFound: entry({
    category: 'Permanent',
    status: 404,
    retry: 'never',
    title: 'There is nothing here',
    next: 'See the API in docs/api.md.',
  }),
  Internal: entry({
    category: 'Degraded',
    status: 500,
    retry: 'after',
    retryAfterMs: 1_000,
    title: 'The sidecar failed',
    next: 'Look at the log under the id given here.',
  }),
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof errors;

/** An error of the catalogue: `message` may be shown to the caller; `cause` goes to the log only. */
export class SallyportError extends Error {
  readonly code: ErrorCode;
  readonly retryAfterMs: number | undefined;
  constructor(code: ErrorCode, message: string, options: { cause?: unknown; retryAfterMs?: number } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'SallyportError';
    this.code = code;
    const known: ErrorEntry = errors[code];
    this.retryAfterMs = options.retryAfterMs ?? known.retryAfterMs;
  }
}

/** The one place where something unknown becomes an error of the catalogue. */
export function toSallyportError(thrown: unknown, fallback: ErrorCode = 'Internal'): SallyportError {
  if (thrown instanceof SallyportError) return thrown;
  return new SallyportError(fallback, errors[fallback].title, { cause: thrown });
}
