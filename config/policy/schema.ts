/**
 * The policy language, declared once: shape, default and a sentence for every field. Types are inferred,
 * `docs/policy.md` and the published JSON Schema are generated from here.
 */
import { z } from 'zod';
import { limits } from '../limits.ts';

/** `constructor` is refused because a plain object looked up by it answers with something of its own. */
const name = z
  .string()
  .regex(
    /^(?!constructor$)[a-z0-9][a-z0-9._-]*$/,
    'a name of lower-case letters, digits, dot, underscore and hyphen',
  )
  .max(limits.policyNameCharsMax);

/** `250ms`, `30s`, `5m`, `1h`, `7d` → milliseconds. */
export const durationPattern = /^(\d{1,9})(ms|s|m|h|d)$/;
const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
/** The shortest spelling that `durationPattern` reads back: 80000 → `80s`. */
export function durationText(ms: number): string {
  const units = ['d', 'h', 'm', 's'] as const;
  const unit = ms === 0 ? 's' : (units.find((candidate) => ms % unitMs[candidate] === 0) ?? 'ms');
  return `${ms / unitMs[unit]}${unit}`;
}
const duration = (minMs: number, maxMs: number) =>
  z
    .string()
    .regex(durationPattern, 'a duration such as 250ms, 30s, 5m, 1h or 7d')
    .transform((text, context) => {
      const match = durationPattern.exec(text);
      const unit = match?.[2] as keyof typeof unitMs;
      const ms = Number(match?.[1]) * unitMs[unit];
      if (ms < minMs || ms > maxMs) {
        context.addIssue({
          code: 'custom',
          message: `expected a duration from ${durationText(minMs)} to ${durationText(maxMs)}, found ${text}`,
        });
        return z.NEVER;
      }
      return ms;
    });

const port = z.int().min(1).max(65_535);

const agent = z.strictObject({
  identity: z
    .string()
    .regex(/^spiffe:\/\/[a-z0-9._-]{1,255}(\/[A-Za-z0-9._-]+)*$/, 'a SPIFFE ID: spiffe://trust-domain/path')
    .describe(
      'The SPIFFE ID that every record of this agent carries. A client certificate with it is this agent.',
    ),
  users: z
    .array(z.union([z.string().min(1).max(64), z.int().min(0).max(4_294_967_294)]))
    .max(64)
    .default([])
    .describe(
      'Unix users, by name or number, whose connections are this agent. No user may stand with two agents.',
    ),
  credentials: z
    .array(z.string().regex(/^sha256:[0-9a-f]{64}$/, 'sha256: and 64 lower-case hex digits'))
    .max(16)
    .default([])
    .describe('SHA-256 of each proxy password of this agent; the proxy user name is the agent’s name.'),
  labels: z
    .record(z.string().max(64), z.string().max(256))
    .default({})
    .describe('Free words that conditions read as `agent.labels`.'),
});

const mcp = z.strictObject({
  methods: z
    .array(z.string().min(1).max(limits.policyMcpNameCharsMax))
    .min(1)
    .max(limits.policyMcpMethodsPerRuleMax)
    .optional()
    .describe('MCP methods, exact or ending in `*`. Absent: every method.'),
  tools: z
    .array(z.string().min(1).max(limits.policyMcpNameCharsMax))
    .min(1)
    .max(limits.policyMcpToolsPerRuleMax)
    .optional()
    .describe('MCP tools of `tools/call`, exact or ending in `*`. Absent: every tool.'),
});

const to = z.strictObject({
  hosts: z
    .array(z.string().min(1).max(limits.policyHostCharsMax))
    .min(1)
    .max(limits.policyHostsPerRuleMax)
    .describe('Host names, host groups or address literals. `*` is one label, `**` any number of them.'),
  schemes: z
    .array(z.enum(['http', 'https']))
    .min(1)
    .optional()
    .describe('Absent: both.'),
  ports: z
    .array(port)
    .min(1)
    .max(64)
    .optional()
    .describe(
      'Absent: every port for a forbid and a quota, else 80 for http and 443 for https; a rule with `inspect: tunnel` names its ports.',
    ),
  methods: z
    .array(z.string().regex(/^[A-Z][A-Z-]{0,31}$/, 'an HTTP method in upper case'))
    .min(1)
    .max(32)
    .optional()
    .describe('Absent: every method.'),
  paths: z
    .array(z.string().startsWith('/').max(limits.policyPathCharsMax))
    .min(1)
    .max(limits.policyPathsPerRuleMax)
    .optional()
    .describe('`*` is one segment, `**` any number of them. Absent: every path.'),
  mcp: mcp.optional().describe('Only strict MCP messages with these methods and tools.'),
  inspect: z
    .enum(['tls', 'sni', 'tunnel'])
    .default('tls')
    .describe('`tls`: read the requests. `sni`: pass TLS unread, checked by name. `tunnel`: pass any bytes.'),
  internal: z
    .boolean()
    .default(false)
    .describe('The named hosts may resolve to addresses that are not public.'),
});

const hold = z.strictObject({
  approvers: name.describe('The approver group that decides.'),
  wait: duration(0, limits.holdWaitMsMax)
    .prefault('30s')
    .describe(
      `How long the connection waits before the caller is told to retry. \`0s\`: at once. At most ${durationText(limits.holdWaitMsMax)}.`,
    ),
  timeout: duration(1_000, limits.holdTimeoutMsMax)
    .prefault('1h')
    .describe(
      `When nobody has decided by then, the hold times out. From 1s to ${durationText(limits.holdTimeoutMsMax)}.`,
    ),
  on_timeout: z.enum(['deny']).default('deny').describe('A time-out is its own outcome, never an approval.'),
  reason: z.string().max(1_000).optional().describe('Told to the caller and the approver.'),
});

/** What the fields of one rule must agree on. Tolerates any value: it also runs where fields are missing or wrong. */
function ruleIssues(rule: unknown, add: (path: string[], message: string) => void): void {
  if (typeof rule !== 'object' || rule === null || Array.isArray(rule)) return;
  const has = (value: object, key: string): boolean =>
    Object.hasOwn(value, key) && Reflect.get(value, key) !== undefined;
  const outcomes = ['forbid', 'hold', 'allow'].filter((key) => has(rule, key));
  if (outcomes.length !== 1)
    add(
      [],
      `expected exactly one of forbid, hold, allow; found ${outcomes.length === 0 ? 'none' : outcomes.join(' and ')}`,
    );
  const to: unknown = Reflect.get(rule, 'to');
  if (typeof to !== 'object' || to === null) return;
  const inspect: unknown = Reflect.get(to, 'inspect');
  if (inspect !== 'sni' && inspect !== 'tunnel') return;
  for (const field of ['methods', 'paths', 'mcp'].filter((key) => has(to, key)))
    add(
      ['to', field],
      `\`inspect: ${inspect}\` passes bytes unread, so ${field} cannot be checked; use \`inspect: tls\` or remove ${field}`,
    );
  if (has(rule, 'hold'))
    add(['hold'], `a hold needs the request, which \`inspect: ${inspect}\` does not read`);
  if (inspect === 'tunnel' && !has(to, 'ports'))
    add(['to', 'ports'], '`inspect: tunnel` needs the ports it is for');
}

const rule = z
  .strictObject({
    name: name.describe('Unique; it is in every decision that the rule makes.'),
    agents: z
      .array(z.union([z.literal('*'), name]))
      .min(1)
      .max(limits.policyAgentsMax)
      .optional()
      .describe('Names of agents. Absent or `*`: every agent that the policy knows.'),
    to: to.describe('The destinations, compared with the canonical destination only.'),
    when: z
      .string()
      .min(1)
      .max(limits.celExpressionCharsMax)
      .optional()
      .describe('A CEL condition, compiled and type-checked at load.'),
    forbid: z
      .strictObject({ reason: z.string().max(1_000).optional().describe('Told to the caller.') })
      .optional()
      .describe('Refuse, whatever else allows.'),
    hold: hold.optional().describe('Ask a person.'),
    allow: z.strictObject({}).optional().describe('Let it pass.'),
    mode: z
      .enum(['enforce', 'shadow'])
      .default('enforce')
      .describe('`shadow`: recorded in each decision, without effect.'),
  })
  // `when`: also where other fields are wrong, so that one reading of the file tells everything.
  .superRefine(
    (value, context) =>
      ruleIssues(value, (path, message) => context.addIssue({ code: 'custom', path, message })),
    {
      when: () => true,
    },
  );

const quota = z.strictObject({
  name: name.describe('Unique; told when it is used up.'),
  agents: z
    .array(z.union([z.literal('*'), name]))
    .min(1)
    .max(limits.policyAgentsMax)
    .optional()
    .describe('Absent: every agent.'),
  rules: z
    .array(name)
    .min(1)
    .max(limits.policyRulesMax)
    .optional()
    .describe('Only calls that these rules let pass.'),
  to: to
    .omit({ inspect: true, internal: true })
    .partial({ hosts: true })
    .optional()
    .describe('Only calls to these destinations.'),
  key: z
    .array(z.enum(['agent', 'host', 'rule']))
    .max(3)
    .default(['agent'])
    .describe('Who shares one count: calls equal in all of these. `[]`: everyone.'),
  limit: z.int().min(0).max(limits.quotaLimitMax).describe('Calls in any window of this length.'),
  window: duration(limits.quotaWindowMsMin, limits.quotaWindowMsMax).describe(
    `Length of the sliding window, from ${durationText(limits.quotaWindowMsMin)} to ${durationText(limits.quotaWindowMsMax)}.`,
  ),
  kind: z
    .enum(['quota', 'rate'])
    .default('quota')
    .describe('`quota` refuses with QuotaExceeded, `rate` with RateLimited.'),
});

const approvers = z.strictObject({
  members: z.array(z.string().min(1).max(128)).min(1).max(1_000).describe('Names of people.'),
  quorum: z.int().min(1).max(100).default(1).describe('How many different members must approve.'),
  not_requester: z
    .boolean()
    .default(true)
    .describe('Nobody decides a hold of an agent that runs under their own name.'),
});

export const policySchema = z.strictObject({
  version: z.literal(1).describe('Version of this language.'),
  agents: z
    .record(name, agent)
    .default({})
    .describe('Who may call at all, by name. Unknown callers are denied.'),
  hosts: z
    .record(
      name,
      z.array(z.string().min(1).max(limits.policyHostCharsMax)).min(1).max(limits.policyHostsPerRuleMax),
    )
    .default({})
    .describe('Host groups: a name for a list of hosts, nothing more.'),
  routes: z
    .record(
      z.string().regex(/^\/[a-z0-9][a-z0-9-]{0,62}$/, 'one path segment such as /openai'),
      z.strictObject({
        upstream: z
          .string()
          .max(2_048)
          .regex(
            /^https?:\/\/[^\s/?#@\\]+(\/[^\s?#\\]*)?$/,
            'an http or https URL without user, query or fragment',
          )
          .refine((url) => URL.canParse(url), 'expected a URL with a valid host and port')
          .describe('Base URL that the rest of the path is added to.'),
      }),
    )
    .default({})
    .describe(
      'Base-URL routes of the proxy port for clients that take a base URL: `/openai/v1/models` goes to the upstream’s `/v1/models`, checked like every other call.',
    ),
  rules: z
    .array(rule)
    .max(limits.policyRulesMax)
    .prefault([])
    .describe(
      'The strongest outcome of all matching rules wins: forbid, then hold, then allow. Order never matters. Nothing matching is a denial.',
    ),
  quotas: z
    .array(quota)
    .max(limits.policyQuotasMax)
    .prefault([])
    .describe('Counted on top of any allow or approval.'),
  approvers: z.record(name, approvers).default({}).describe('Groups of people who decide holds.'),
});

/** A policy after defaults, durations in milliseconds. */
export type Policy = z.output<typeof policySchema>;
export type PolicyRule = Policy['rules'][number];
export type PolicyQuota = Policy['quotas'][number];
