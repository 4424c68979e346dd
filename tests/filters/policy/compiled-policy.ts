/** Policies and requests for the tests of this folder, with what a test cares about given. */
import { expect } from 'vitest';
import { formatIssue } from '../../../config/policy/issue.ts';
import { parsePolicy } from '../../../config/policy/parse.ts';
import type { Agent, Destination } from '../../../filters/facts.ts';
import { compilePolicy } from '../../../filters/policy/compile.ts';
import type { CompiledPolicy, RequestFacts } from '../../../filters/policy/compiled.ts';

export const users = { uidOf: (user: string) => ({ root: 0, research: 1001, deploy: 1002 })[user] };

export const base = {
  version: 1,
  agents: {
    researcher: {
      identity: 'spiffe://example.org/researcher',
      users: ['research', 1005],
      credentials: [`sha256:${'a'.repeat(64)}`],
      labels: { team: 'search' },
    },
    deployer: { identity: 'spiffe://example.org/deployer', users: ['deploy'] },
  },
  hosts: { github: ['api.github.com', '*.githubusercontent.com'] },
  approvers: {
    maintainers: { members: ['dana', 'lee', 'sam'], quorum: 2 },
    one: { members: ['kim'], not_requester: false },
  },
};

/** JSON is YAML, so a policy is written as a value. */
export function tryCompile(parts: object): ReturnType<typeof compilePolicy> {
  const parsed = parsePolicy(JSON.stringify({ ...base, ...parts }), 'policy.yaml');
  return parsed.ok ? compilePolicy(parsed.value, users) : parsed;
}

export function compile(parts: object): CompiledPolicy {
  const result = tryCompile(parts);
  if (!result.ok) throw new Error(result.issues.map(formatIssue).join('\n'));
  return result.value;
}

/** One message for each issue, with its field. */
export function issuesOf(parts: object): string[] {
  const result = tryCompile(parts);
  expect(result.ok).toBe(false);
  return result.ok ? [] : result.issues.map((issue) => `${issue.field}: ${issue.message}`);
}

export function agentOf(policy: CompiledPolicy, name = 'researcher'): Agent {
  const known = policy.agent(name);
  if (known === undefined) throw new Error(`no agent ${name}`);
  return { ...known, by: 'pod' };
}

export function destinationOf(changes: Partial<Destination> = {}): Destination {
  return {
    scheme: 'https',
    host: 'api.github.com',
    hostIsAddress: false,
    port: 443,
    method: 'GET',
    path: '/',
    query: '',
    mcp: { kind: 'none' },
    ...changes,
  };
}

export function factsOf(
  policy: CompiledPolicy,
  changes: Partial<Destination> = {},
  rest: Partial<Omit<RequestFacts, 'destination' | 'agent'>> &
    Readonly<{ agent?: string; json?: unknown }> = {},
): RequestFacts {
  const { agent, json, ...others } = rest;
  return {
    agent: agentOf(policy, agent),
    destination: destinationOf(changes),
    headers: {},
    body:
      json === undefined
        ? { kind: 'unread' }
        : { kind: 'whole', bytes: new TextEncoder().encode(JSON.stringify(json)) },
    nowMs: Date.parse('2026-03-04T12:00:00Z'),
    ...others,
  };
}

export const tunnelTo = (host: string, port: number, hostIsAddress = false): Destination =>
  destinationOf({ scheme: 'tcp', host, port, hostIsAddress, method: 'CONNECT' });

/** The verdict in short: `allow by rule-name`. */
export function decided(policy: CompiledPolicy, facts: RequestFacts): string {
  const verdict = policy.evaluate(facts);
  return verdict.kind === 'none' ? 'none' : `${verdict.kind} by ${verdict.rule}`;
}
