/** A real Envoy between real clients and servers; the check behind it is a function that each test sets. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import type { z } from 'zod';
import type { ErrorCode } from '../../config/errors.ts';
import { settingsSchema } from '../../config/settings.ts';
import type { DataPlane, PlaneDeps } from '../../envoy/data-plane.ts';
import { startEnvoyPlane } from '../../envoy/plane.ts';
import type { Checker } from '../../ext-authz/checker.ts';
import type { AgentName, DecisionId, PolicyVersion, RuleName, SpiffeId } from '../../filters/common/brand.ts';
import { createClock } from '../../filters/common/time.ts';
import type { Decision, DecisionHead } from '../../filters/decision.ts';
import type { Call, Inspect } from '../../filters/facts.ts';
import type { CompiledPolicy } from '../../filters/policy/compiled.ts';
import { envoyBinary } from '../support/envoy.ts';
import { authorityIn } from '../support/keys.ts';

const clock = createClock();
let count = 0;

const head = (): DecisionHead => {
  count += 1;
  return {
    id: `dec_${String(count).padStart(26, '0')}` as DecisionId,
    at: clock.now(),
    policyVersion: '0123456789ab' as PolicyVersion,
    rule: 'test' as RuleName,
    agent: {
      name: 'tester' as AgentName,
      id: 'spiffe://test/tester' as SpiffeId,
      labels: {},
      by: 'pod',
    },
    chain: [],
    destination: undefined,
    shadow: [],
    quotas: [],
  };
};

export const allow = (pinPort?: number, inspect: Inspect = 'tls', address = '127.0.0.1'): Decision => ({
  ...head(),
  kind: 'Allow',
  inspect,
  pin: pinPort === undefined ? undefined : { address, port: pinPort, class: 'internal' },
  hold: undefined,
});

export const deny = (code: ErrorCode, reason = 'the test says so'): Decision => ({
  ...head(),
  kind: 'Deny',
  code,
  reason,
  retryAfterMs: undefined,
  hold: undefined,
});

/** The parts of a compiled policy that Envoy's configuration reads. */
export type PolicyParts = Pick<CompiledPolicy, 'needs' | 'routes' | 'inspectable' | 'source'>;

export const policyOf = (parts: Partial<PolicyParts> = {}): CompiledPolicy => {
  const unused = (): never => {
    throw new Error('not part of what Envoy is configured by');
  };
  return {
    version: '0123456789ab' as PolicyVersion,
    source: { version: 1, agents: {}, hosts: {}, routes: {}, rules: [], quotas: [], approvers: {} },
    agent: unused,
    agentByUser: unused,
    agentBySpiffeId: unused,
    credentialMatches: unused,
    credentialsOf: unused,
    usesUnixUsers: false,
    evaluate: unused,
    recorded: unused,
    connect: unused,
    needsOf: unused,
    debits: unused,
    leaseRegion: unused,
    explain: unused,
    needs: [],
    routes: new Map(),
    inspectable: (host) => host.endsWith('.test'),
    ...parts,
  };
};

export type Decide = (call: Call, signal: AbortSignal) => Decision | Promise<Decision>;

export type World = Readonly<{
  plane: DataPlane;
  deps: PlaneDeps;
  port: number;
  /** Where Envoy was told to look; kept when only the sidecar's half is stopped. */
  dir: string;
  calls: Call[];
  decideBy(decide: Decide): void;
  caPem: string;
  stop(): Promise<void>;
}>;

/** A directory that Envoy's user can pass through. */
export function openDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'spe-'));
  chmodSync(dir, 0o755);
  return dir;
}

export const portOf = (url: string): number => Number(new URL(url).port);

export async function startWorld(options: {
  decide: Decide;
  policy?: CompiledPolicy;
  upstreamCaPem?: string;
  settings?: z.input<typeof settingsSchema>;
  dir?: string;
}): Promise<World> {
  const dir = options.dir ?? openDir();
  const stateDir = join(dir, 's');
  const runDir = join(dir, 'r');
  await mkdir(stateDir, { recursive: true });
  await mkdir(runDir, { recursive: true });
  const upstreamCaFile = join(dir, 'upstream-ca.pem');
  const authority = await authorityIn(join(stateDir, 'authority'), clock);
  const upstreamCaPem = options.upstreamCaPem ?? authority.caPem;
  writeFileSync(upstreamCaFile, upstreamCaPem, { mode: 0o644 });
  const calls: Call[] = [];
  let decide = options.decide;
  const checker: Checker = {
    check: async (call, signal) => {
      calls.push(call);
      return decide(call, signal);
    },
    settle: () => undefined,
    refundUnsent: () => undefined,
  };
  const given = options.settings ?? {};
  const deps: PlaneDeps = {
    settings: settingsSchema.parse({
      ...given,
      proxy: { port: 0, ...given.proxy },
      envoy: { binary: await envoyBinary(), ...given.envoy },
    }),
    policy: options.policy ?? policyOf(),
    checker,
    identify: () => undefined,
    onRefusal: () => undefined,
    ledger: {
      began: () => undefined,
      ended: () => undefined,
      notSent: () => undefined,
      hasRead: () => true,
      lost: () => undefined,
    },
    authority,
    log: pino({ level: process.env['TEST_LOG'] ?? 'silent' }),
    clock,
    stateDir,
    runDir,
    upstreamCaPem,
    upstreamCaFile,
  };
  const plane = await startEnvoyPlane(deps);
  return {
    plane,
    deps,
    port: portOf(plane.proxyUrl),
    dir,
    calls,
    decideBy: (next) => {
      decide = next;
    },
    caPem: authority.caPem,
    stop: async () => {
      await plane.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
