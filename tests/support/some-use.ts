/** Decisions and lines of the ledger, with what a test cares about replaced. */
import type { LedgerUse, OpenFacts } from '../../filters/metering/use.ts';

export const decisionId = (number: number): string => `dec_${String(number).padStart(26, '0')}`;

export const someFacts = (changes: Partial<OpenFacts> = {}): OpenFacts => ({
  id: decisionId(1),
  agent: 'spiffe://example.org/deployer',
  chain: ['spiffe://example.org/deployer'],
  policyVersion: '0123456789ab',
  rule: 'github-read',
  what: 'GET',
  resource: 'https://api.github.com:443/',
  hold: '',
  calls: 1,
  leaseMs: undefined,
  stage: 'request',
  atMs: 1_800_000_000_000,
  epoch: 'e1',
  ...changes,
});

export const someUse = (changes: Partial<LedgerUse> = {}): LedgerUse => ({
  final: true,
  kind: 'request',
  stream: `e1-1@${changes.decision ?? decisionId(1)}#${changes.ordinal ?? 0}`,
  decision: decisionId(1),
  ordinal: undefined,
  connectDecision: '',
  hold: '',
  upstream: '140.82.121.6:443',
  left: true,
  status: 200,
  bytesIn: 3,
  bytesOut: 10,
  durationMs: 20,
  atMs: 1_800_000_000_000,
  flags: '',
  details: 'via_upstream',
  error: '',
  method: 'GET',
  scheme: 'https',
  authority: 'api.github.com',
  path: '/',
  ...changes,
});

/** The same as Envoy writes it. */
export const lineOf = (use: LedgerUse, connection = 'e1-1'): string =>
  JSON.stringify({
    at: `${(use.atMs / 1_000).toFixed(3)}000000`,
    authority: use.authority,
    bytes_in: use.bytesIn,
    bytes_out: use.bytesOut,
    ...(use.connectDecision === '' ? {} : { connect_decision: use.connectDecision }),
    connection,
    ...(use.decision === ''
      ? {}
      : { decision: use.ordinal === undefined ? use.decision : `${use.decision}#${use.ordinal}` }),
    details: use.details,
    duration_ms: use.durationMs,
    ...(use.error === '' ? {} : { error: use.error }),
    flags: use.flags || '-',
    ...(use.hold === '' ? {} : { hold: use.hold }),
    method: use.method,
    path: use.path,
    stage: use.kind === 'tunnel' ? 'opaque' : 'mitm',
    ...(use.status === 0 ? {} : { status: use.status }),
    type: use.final ? 'DownstreamEnd' : 'DownstreamPeriodic',
    ...(use.upstream === '' ? {} : { upstream: use.upstream }),
  });
