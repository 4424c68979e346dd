/** Decisions and calls for tests of what is made of them. */
import type { AgentName, DecisionId, PolicyVersion, RuleName, SpiffeId } from '../../filters/common/brand.ts';
import type { Allow } from '../../filters/decision.ts';
import type { Call } from '../../filters/facts.ts';

export const fakeCall = (over: Partial<Call> = {}): Call => ({
  stage: 'request',
  connection: {
    sourceAddress: '127.0.0.1',
    sourcePort: 40_000,
    connectionId: 'c1',
    peerSpiffeId: '',
    tunnelAgent: '',
    tunnelProof: '',
    tunnelAuthority: '',
    sni: '',
  },
  method: 'GET',
  scheme: 'http',
  authority: 'demo.sallyport.test',
  path: '/hello',
  headers: {},
  body: { kind: 'unread' },
  mcp: { kind: 'none' },
  requestId: 'r1',
  via: 'embedded',
  ...over,
});

export const fakeAllow = (): Allow => ({
  kind: 'Allow',
  id: 'dec_01ARZ3NDEKTSV4RRFFQ69G5FAV' as DecisionId,
  at: { logical: 0, physical: 1_767_355_201_234_000_000n },
  policyVersion: '0123456789ab' as PolicyVersion,
  rule: 'demo-read' as RuleName,
  agent: {
    name: 'demo' as AgentName,
    id: 'spiffe://sallyport.test/agent/demo' as SpiffeId,
    labels: {},
    by: 'user',
  },
  chain: ['spiffe://sallyport.test/agent/demo' as SpiffeId],
  destination: {
    scheme: 'http',
    host: 'demo.sallyport.test',
    hostIsAddress: false,
    port: 80,
    method: 'GET',
    path: '/hello',
    query: '',
    mcp: { kind: 'none' },
  },
  shadow: [],
  quotas: [{ name: 'demo', limit: 3, used: 1, windowMs: 60_000, resetMs: 60_000 }],
  inspect: 'tls',
  pin: { address: '127.0.0.1', port: 80, class: 'internal' },
  hold: undefined,
});
