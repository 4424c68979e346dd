/** Cases that a policy is tested with: requests and the decision that is expected of the rules. */
import { z } from 'zod';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { FieldPath, Result } from '../../config/policy/issue.ts';
import { refusal, refusalOf } from '../../config/policy/parse.ts';
import { inputSchemaOf } from '../../config/schema-tools.ts';
import { textIssue } from '../../config/source.ts';
import { parseYaml } from '../../config/yaml-source.ts';
import { problemsOf } from '../../config/zod-issues.ts';
import type { Destination, McpCall } from '../facts.ts';
import type { CompiledPolicy, RequestFacts } from './compiled.ts';

const request = z.strictObject({
  method: z
    .string()
    .regex(/^[A-Z][A-Z-]{0,31}$/, 'an HTTP method in upper case')
    .describe('`CONNECT` asks what a tunnel may become; its url is host:port.'),
  url: z.string().min(1).max(limits.pathBytesMax),
  headers: z.record(z.string().min(1).max(256), z.string().max(8_192)).default({}),
  body: z.string().max(limits.inspectedBodyBytesMax).optional(),
  mcp: z
    .strictObject({ method: z.string().min(1).max(128), tool: z.string().max(128).default('') })
    .optional()
    .describe('A strict MCP message. Absent: what the body says.'),
});

const decisions = ['allow', 'hold', 'forbid', 'none', 'intercept'] as const;

const policyCase = z.strictObject({
  name: z.string().min(1).max(limits.policyNameCharsMax),
  agent: z.string().min(1).max(limits.policyNameCharsMax),
  request,
  expect: z.strictObject({
    decision: z.enum(decisions).describe('`none`: no rule matches, so it is denied.'),
    rule: z.string().max(limits.policyNameCharsMax).optional(),
  }),
});

const casesSchema = z.strictObject({
  cases: z.array(policyCase).min(1).max(limits.policyCasesMax),
});

export type PolicyCase = z.output<typeof policyCase>;

export type CaseResult = Readonly<{
  name: string;
  ok: boolean;
  expected: string;
  /** `invalid`: the request or its agent could not be understood, which no case can expect. */
  got: (typeof decisions)[number] | 'invalid';
  /** Empty where no rule decided. */
  rule: string;
  /** Empty where `ok`. */
  why: string;
}>;

/** The canonical destination of a described request; throws SallyportError where there is none. */
export type DestinationOf = (method: string, url: string, body: Uint8Array) => Destination;

/** Headers and bodies may hold credentials, which no message repeats. */
const mayShow = (path: FieldPath): boolean => !path.includes('headers') && !path.includes('body');

export function parseCases(text: string, file: string): Result<readonly PolicyCase[]> {
  const unclean = textIssue(text, file, limits.policyBytesMax);
  if (unclean !== undefined) return { ok: false, issues: [unclean] };
  const read = parseYaml(text, file, limits.policyTokensMax);
  const source = read.ok ? read.value : read.rest;
  const repeated = read.ok ? [] : read.issues;
  if (source === undefined) return refusal(repeated, file);
  const parsed = casesSchema.safeParse(source.value);
  if (parsed.success && repeated.length === 0) return { ok: true, value: parsed.data.cases };
  const problems = parsed.success
    ? []
    : problemsOf(parsed.error, source.value, inputSchemaOf(casesSchema), mayShow);
  return refusalOf(problems, source, file, repeated);
}

type Got = Readonly<{ got: CaseResult['got']; rule: string; why: string }>;

export function runCases(
  policy: CompiledPolicy,
  cases: readonly PolicyCase[],
  nowMs: number,
  destinationOf: DestinationOf,
): readonly CaseResult[] {
  return cases.map((one) => {
    const { got, rule, why } = runCase(policy, one, nowMs, destinationOf);
    const wanted = one.expect.rule;
    const ok = got === one.expect.decision && (wanted === undefined || wanted === rule);
    const expected = wanted === undefined ? one.expect.decision : `${one.expect.decision} by ${wanted}`;
    const found = rule === '' ? got : `${got} by ${rule}`;
    return {
      name: one.name,
      ok,
      expected,
      got,
      rule,
      why: ok ? '' : `expected ${expected}, got ${found}${why === '' ? '' : ` (${why})`}`,
    };
  });
}

function runCase(
  policy: CompiledPolicy,
  { agent: name, request: asked }: PolicyCase,
  nowMs: number,
  destinationOf: DestinationOf,
): Got {
  const known = policy.agent(name);
  if (known === undefined) return { got: 'invalid', rule: '', why: `the policy has no agent ${name}` };
  const agent = { ...known, by: 'pod' } as const;
  const bytes = new TextEncoder().encode(asked.body ?? '');
  let destination: Destination;
  try {
    const found = destinationOf(asked.method, asked.url, bytes);
    const mcp: McpCall = asked.mcp === undefined ? found.mcp : { kind: 'call', ...asked.mcp };
    destination = { ...found, mcp };
  } catch (thrown) {
    if (!(thrown instanceof SallyportError)) throw thrown;
    return { got: 'invalid', rule: '', why: thrown.message };
  }
  if (destination.scheme === 'tcp') {
    const connect = policy.connect(agent, destination, nowMs);
    switch (connect.kind) {
      case 'forbid':
      case 'unread':
        return { got: connect.verdict.kind, rule: connect.verdict.rule, why: '' };
      case 'intercept':
      case 'none':
        return { got: connect.kind, rule: '', why: '' };
    }
  }
  const facts: RequestFacts = {
    agent,
    destination,
    headers: Object.fromEntries(
      Object.entries(asked.headers).map(([header, value]) => [header.toLowerCase(), value]),
    ),
    body: { kind: 'whole', bytes },
    nowMs,
  };
  const verdict = policy.evaluate(facts);
  return { got: verdict.kind, rule: verdict.kind === 'none' ? '' : verdict.rule, why: '' };
}
