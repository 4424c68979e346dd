/** Which rule decides a described request, and why each other one does not. Sends nothing and counts nothing. */
import { isIP } from 'node:net';
import { z } from 'zod';
import { type ErrorCode, SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { RuleName } from '../filters/common/brand.ts';
import { readMcp } from '../filters/content/mcp.ts';
import { assertAgreement } from '../filters/egress/agreement.ts';
import { canonicalDestination } from '../filters/egress/canonical.ts';
import type { Agent, Call, Destination } from '../filters/facts.ts';
import type { CompiledPolicy, Explained, Verdict } from '../filters/policy/compiled.ts';
import type { LeaseScope } from '../filters/policy/lease-region.ts';

export const explainRequestSchema = z.strictObject({
  method: z.string().min(1).max(32),
  url: z.string().min(1).max(limits.pathBytesMax),
  agent: z.string().max(512).optional(),
  headers: z.record(z.string().max(256), z.string().max(limits.requestHeaderBytesMax)).default({}),
  body: z.string().max(limits.inspectedBodyBytesMax).optional(),
});
export type ExplainRequest = z.output<typeof explainRequestSchema>;

export type ExplainReport = Readonly<{
  decision: 'Allow' | 'Deny' | 'RequiresOversight' | 'Intercept';
  code: ErrorCode | undefined;
  rule: string | undefined;
  reason: string;
  agent: string | undefined;
  destination:
    | Readonly<{ scheme: string; host: string; port: number; method: string; path: string }>
    | undefined;
  policy_version: string;
  /** Quotas that the call would be paid from. */
  quotas: readonly Readonly<{ name: string; limit: number; window_ms: number }>[];
  approvers: readonly string[];
  /** Requests that one decision may stand for, by their paths, or why it stands for this one alone. Undefined where nothing passes. */
  lease: LeaseScope | undefined;
  shadow: readonly Readonly<{ rule: string; would: string }>[];
  rules: readonly Explained[];
}>;

function findAgent(policy: CompiledPolicy, wanted: string | undefined): Agent {
  const names = Object.keys(policy.source.agents);
  const only = wanted === undefined && names.length === 1 ? names[0] : wanted;
  if (only === undefined)
    throw new SallyportError(
      'RequestMalformed',
      `the policy has ${names.length} agents; name one as agent (--agent): ${names.slice(0, 10).join(', ')}`,
    );
  const known = policy.agent(only) ?? policy.agentBySpiffeId(only);
  if (known === undefined)
    throw new SallyportError('InvalidAgent', `the policy has no agent ${JSON.stringify(only)}`);
  return { ...known, by: 'pod' };
}

/** RFC 3986, appendix B: the parts as they stand; `URL` would already have canonicalised what is to be judged. */
function splitUrl(url: string): { scheme: string; authority: string; path: string } {
  const match = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/([^/?#]*)([^#]*)/.exec(url);
  if (match === null)
    throw new SallyportError(
      'RequestMalformed',
      `${JSON.stringify(url.slice(0, 200))} is not a URL such as https://api.example.org/v1`,
    );
  const rest = match[3] ?? '';
  return {
    scheme: (match[1] ?? '').toLowerCase(),
    authority: match[2] ?? '',
    path: rest.startsWith('/') ? rest : `/${rest}`,
  };
}

/** The target of a CONNECT, as it stands. */
function splitTarget(target: string): { scheme: string; authority: string; path: string } {
  if (!/^[^/?#]+:\d+$/.test(target))
    throw new SallyportError(
      'RequestMalformed',
      `${JSON.stringify(target.slice(0, 200))} is not host:port, which a CONNECT names`,
    );
  return { scheme: '', authority: target, path: '' };
}

export function callOf(request: ExplainRequest): Call {
  const connect = request.method === 'CONNECT';
  const { scheme, authority, path } = connect ? splitTarget(request.url) : splitUrl(request.url);
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(request.headers)) headers[name.toLowerCase()] = value;
  const host = authority.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return {
    stage: connect ? 'connect' : 'request',
    connection: {
      sourceAddress: '',
      sourcePort: 0,
      connectionId: '',
      peerSpiffeId: '',
      tunnelAgent: '',
      tunnelProof: '',
      tunnelAuthority: '',
      sni: scheme === 'https' && isIP(host) === 0 ? host.toLowerCase() : '',
    },
    method: request.method,
    scheme,
    authority,
    path,
    headers,
    body: { kind: 'whole', bytes: new TextEncoder().encode(request.body ?? '') },
    mcp: { kind: 'none' },
    requestId: '',
    via: 'cli',
  };
}

/** The call and its canonical destination; MCP is read where the policy asks for it, as a data plane does. */
export function described(
  policy: CompiledPolicy,
  request: ExplainRequest,
): Readonly<{ call: Call; destination: Destination }> {
  const call = callOf(request);
  const found = canonicalDestination(call);
  const readsMcp = call.stage === 'request' && policy.needsOf(found.host, found.path, found.method).mcp;
  const bytes = call.body.kind === 'whole' ? call.body.bytes : new Uint8Array();
  const mcp = readsMcp ? readMcp(bytes, call.headers['content-type'] ?? '') : call.mcp;
  const destination = { ...found, mcp };
  assertAgreement(call, destination);
  return { call: { ...call, mcp }, destination };
}

export function explain(policy: CompiledPolicy, request: ExplainRequest, nowMs: number): ExplainReport {
  const agent = findAgent(policy, request.agent);
  const report = {
    code: undefined,
    rule: undefined,
    reason: '',
    agent: agent.name,
    destination: undefined,
    policy_version: policy.version,
    quotas: [],
    approvers: [],
    lease: undefined,
    shadow: [],
    rules: [],
  } as const satisfies Omit<ExplainReport, 'decision'>;
  let found: ReturnType<typeof described>;
  try {
    found = described(policy, request);
  } catch (thrown) {
    // What is no request is the asker's mistake; what is one and may not be sent is a denial.
    if (!(thrown instanceof SallyportError) || thrown.code === 'RequestMalformed') throw thrown;
    return { ...report, decision: 'Deny', code: thrown.code, reason: thrown.message };
  }
  const { call, destination } = found;
  const { scheme, host, port, method, path } = destination;
  const shown = { ...report, destination: { scheme, host, port, method, path } };
  if (call.stage === 'connect') {
    const verdict = policy.connect(agent, destination, nowMs);
    const inTunnel = { ...shown, lease: { why: 'each CONNECT is checked by itself' } };
    if (verdict.kind === 'intercept')
      return { ...inTunnel, decision: 'Intercept', reason: 'each request inside is decided by itself' };
    if (verdict.kind === 'unread')
      return { ...inTunnel, ...told(verdict.verdict), reason: `passed unread (inspect: ${verdict.inspect})` };
    return { ...shown, ...told(verdict.kind === 'forbid' ? verdict.verdict : { kind: 'none', shadow: [] }) };
  }
  const facts = { agent, destination, headers: call.headers, body: call.body, nowMs };
  const verdict = policy.evaluate(facts);
  const debits =
    verdict.kind === 'allow' || verdict.kind === 'hold' ? policy.debits(facts, verdict.rule) : [];
  return {
    ...shown,
    ...told(verdict),
    lease: leaseOf(verdict, (rule) => policy.leaseRegion(agent, destination, rule)),
    quotas: debits.map((debit) => ({ name: debit.quota, limit: debit.limit, window_ms: debit.windowMs })),
    rules: policy.explain(facts),
  };
}

function leaseOf(verdict: Verdict, region: (rule: RuleName) => LeaseScope): LeaseScope | undefined {
  switch (verdict.kind) {
    case 'allow':
      return region(verdict.rule);
    case 'hold':
      return { why: 'each request waits for a person' };
    case 'forbid':
    case 'none':
      return undefined;
  }
}

function told(
  verdict: Verdict,
): Pick<ExplainReport, 'decision' | 'code' | 'rule' | 'reason' | 'approvers' | 'shadow'> {
  const head = { code: undefined, reason: '', approvers: [], shadow: verdict.shadow };
  switch (verdict.kind) {
    case 'none':
      return { ...head, decision: 'Deny', code: 'EgressDenied', rule: undefined, reason: 'no rule matches' };
    case 'forbid':
      return { ...head, decision: 'Deny', code: 'Forbidden', rule: verdict.rule, reason: verdict.reason };
    case 'hold':
      return {
        ...head,
        decision: 'RequiresOversight',
        code: 'HoldPending',
        rule: verdict.rule,
        reason: verdict.reason,
        approvers: verdict.members,
      };
    case 'allow':
      return { ...head, decision: 'Allow', rule: verdict.rule };
  }
}
