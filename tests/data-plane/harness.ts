/** A data plane between real clients and real upstreams, with the real checker, stores and resolver behind it. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { formatIssue } from '../../config/policy/issue.ts';
import { parsePolicy } from '../../config/policy/parse.ts';
import { type Settings, settingsSchema } from '../../config/settings.ts';
import type { DataPlane, PlaneDeps } from '../../envoy/data-plane.ts';
import { createExampleAuthority, type ExampleAuthority } from '../../examples/upstream/certificates.ts';
import { startUpstream, type Upstream } from '../../examples/upstream/server.ts';
import { createChecker } from '../../ext-authz/check.ts';
import { createKnownAgent } from '../../ext-authz/known-agent.ts';
import type { RefusedRequest } from '../../ext-authz/refusal.ts';
import { openDatabase } from '../../filters/common/database.ts';
import { createIds } from '../../filters/common/ids.ts';
import type { Journal } from '../../filters/common/journal.ts';
import { openJournal } from '../../filters/common/journal-file.ts';
import { createClock } from '../../filters/common/time.ts';
import type { Decision, Deny } from '../../filters/decision.ts';
import { createResolver } from '../../filters/egress/dns.ts';
import { isOwnAddress } from '../../filters/egress/own-address.ts';
import type { Call } from '../../filters/facts.ts';
import { createUnixUsers } from '../../filters/identity/unix-users.ts';
import type { HoldStore } from '../../filters/oversight/holds.ts';
import { markWith } from '../../filters/oversight/mask.ts';
import { openHoldStore } from '../../filters/oversight/sqlite.ts';
import { compilePolicy } from '../../filters/policy/compile.ts';
import type { CompiledPolicy } from '../../filters/policy/compiled.ts';
import { openQuotaStore } from '../../filters/quota/sqlite.ts';
import { portsOf } from '../../sidecar/data-plane.ts';
import type { Ledger } from '../../sidecar/ledger.ts';
import { authorityIn } from '../support/keys.ts';
import { testLedger } from '../support/ledger.ts';
import { type RawServer, startRawServer } from './raw-server.ts';

export type StartPlane = (deps: PlaneDeps) => Promise<DataPlane>;

/** What the policy text is made from: where the upstreams listen. */
export type Ports = Readonly<{ http: number; https: number; wrong: number; raw: number; dead: number }>;

export type HarnessOptions = Readonly<{
  policy: (ports: Ports) => string;
  podAgent?: string;
  proxy?: Partial<Settings['proxy']>;
  identity?: (authority: ExampleAuthority, dir: string) => Promise<Partial<Settings['identity']>>;
}>;

export type Harness = Readonly<{
  plane: DataPlane;
  /** State in `s`, run directory in `r`. */
  dir: string;
  /** Of the proxy. */
  port: number;
  ports: Ports;
  upstream: Upstream;
  raw: RawServer;
  upstreamAuthority: ExampleAuthority;
  /** What agents trust. */
  caPem: string;
  holds: HoldStore;
  /** Everything is refused for this reason; undefined: no more. */
  lock(reason: string | undefined): void;
  /** Takes note of what the plane says became of released requests. */
  followOutcomes(): void;
  ledger: Ledger;
  journal: Journal;
  decisions: readonly Readonly<{ decision: Decision; call: Call }>[];
  /** What was refused before its check. */
  refusals: readonly Readonly<{ deny: Deny; request: RefusedRequest | undefined }>[];
  apply(policy: (ports: Ports) => string): Promise<void>;
  close(): Promise<void>;
}>;

/** Every name of the tests is at loopback; what a rule does not name as internal is refused there. */
export const hosts: Readonly<Record<string, string>> = {
  'api.test': '127.0.0.1',
  'other.test': '127.0.0.1',
  'opaque.test': '127.0.0.1',
  'wrong.test': '127.0.0.1',
  'tunnel.test': '127.0.0.1',
  'private.test': '127.0.0.1',
  'mcp.test': '127.0.0.1',
  'hold.test': '127.0.0.1',
};

export function compiled(text: string): CompiledPolicy {
  const parsed = parsePolicy(text, 'policy.yaml');
  const result = parsed.ok ? compilePolicy(parsed.value, { uidOf: () => undefined }) : parsed;
  if (!result.ok) throw new Error(result.issues.map(formatIssue).join('\n'));
  return result.value;
}

export async function startHarness(start: StartPlane, options: HarnessOptions): Promise<Harness> {
  const closers: (() => unknown)[] = [];
  const close = async (): Promise<void> => {
    for (const step of closers.splice(0).reverse()) await step();
  };
  try {
    return await assemble(start, options, closers, close);
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

async function assemble(
  start: StartPlane,
  options: HarnessOptions,
  closers: (() => unknown)[],
  close: () => Promise<void>,
): Promise<Harness> {
  const dir = mkdtempSync(join(tmpdir(), 'spd-'));
  // Envoy may run as another user and passes through to its own files.
  chmodSync(dir, 0o755);
  closers.push(() => rmSync(dir, { recursive: true, force: true }));
  const stateDir = join(dir, 's');
  const runDir = join(dir, 'r');
  for (const path of [stateDir, runDir]) mkdirSync(path);

  const upstreamAuthority = await createExampleAuthority();
  const local = { httpPort: 0, httpsPort: 0, host: '127.0.0.1' };
  const tls = await upstreamAuthority.issue([
    ...Object.keys(hosts).filter((name) => name !== 'wrong.test'),
    '127.0.0.1',
  ]);
  const upstream = await startUpstream({ ...local, tls });
  closers.push(upstream.close);
  const wrong = await startUpstream({ ...local, tls: await upstreamAuthority.issue(['elsewhere.test']) });
  closers.push(wrong.close);
  const raw = await startRawServer();
  closers.push(raw.close);
  const gone = await startRawServer();
  await gone.close();
  const ports: Ports = {
    http: upstream.httpPort,
    https: upstream.httpsPort,
    wrong: wrong.httpsPort,
    raw: raw.port,
    dead: gone.port,
  };

  const clock = createClock();
  const log = pino({ level: process.env['TEST_LOG'] ?? 'silent' });
  const ids = createIds(clock);
  let policy = compiled(options.policy(ports));
  const database = openDatabase(join(stateDir, 'state.db'));
  closers.push(() => database.close());
  const holds = openHoldStore(database, {
    clock,
    ids,
    membersOf: (group) => policy.source.approvers[group]?.members ?? [],
    record: () => undefined,
  });
  closers.push(() => holds.close());
  const quota = openQuotaStore(database, clock);
  closers.push(() => quota.close());
  const written = openJournal(stateDir, { clock });
  closers.push(() => written.close());
  const ledger = testLedger({ stateDir, journal: written, holds, ids, clock });
  closers.push(() => ledger.close());
  const journal = ledger.watch(written);
  const resolver = createResolver({ hosts, servers: ['127.0.0.1:1'], timeoutMs: 500, clock });
  closers.push(() => resolver.close());
  const decisions: { decision: Decision; call: Call }[] = [];
  const refusals: { deny: Deny; request: RefusedRequest | undefined }[] = [];
  const own = new Set<number>();
  const identity = {
    policy: () => policy,
    podAgent: options.podAgent ?? 'tester',
    users: createUnixUsers(),
  };
  let locked: string | undefined;
  const checker = createChecker({
    ...identity,
    locked: () => locked,
    stopping: new AbortController().signal,
    mark: markWith(new Uint8Array(32)),
    holdRetryAfterMs: 1_000,
    ...{ clock, ids, resolver, log, quota, holds, journal },
    isOwn: ({ address, port }) => own.has(port) && isOwnAddress(address),
    onDecision: (decision, call) => decisions.push({ decision, call }),
  });
  const authority = await authorityIn(join(stateDir, 'authority'), clock);
  const upstreamCaFile = join(dir, 'upstream-ca.pem');
  writeFileSync(upstreamCaFile, upstreamAuthority.caPem, { mode: 0o644 });
  const plane = await start({
    settings: settingsSchema.parse({
      proxy: { port: 0, ...options.proxy },
      identity: await options.identity?.(upstreamAuthority, dir),
    }),
    ...{ policy, checker, authority, log, clock, stateDir, runDir, upstreamCaFile },
    identify: createKnownAgent(identity),
    onRefusal: (deny, request) => refusals.push({ deny, request }),
    ledger: ledger.plane,
    upstreamCaPem: upstreamAuthority.caPem,
  });
  closers.push(() => plane.stop());
  for (const port of portsOf(plane)) own.add(port);
  return {
    plane,
    dir,
    port: Number(new URL(plane.proxyUrl).port),
    ...{ ports, upstream, raw, upstreamAuthority, holds, decisions, refusals, close },
    followOutcomes: () => void ledger.turn(),
    lock: (reason) => {
      locked = reason;
    },
    ...{ ledger, journal },
    caPem: authority.caPem,
    apply: async (make) => {
      const next = compiled(make(ports));
      await plane.apply(next);
      policy = next;
    },
  };
}
