/** What carries the bytes: stock Envoy, or the embedded plane. One suite (`tests/data-plane/`) runs against both. */
import type { Logger } from 'pino';
import type { Settings } from '../config/settings.ts';
import type { Checker } from '../ext-authz/checker.ts';
import type { KnownAgent } from '../ext-authz/known-agent.ts';
import type { OnRefusal } from '../ext-authz/refusal.ts';
import type { Clock } from '../filters/common/time.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';

export interface DataPlane {
  readonly kind: 'envoy' | 'embedded';
  /** Address that agents use as HTTP_PROXY and HTTPS_PROXY, such as `http://127.0.0.1:10080`. */
  readonly proxyUrl: string;
  /** The same over mutual TLS; undefined where `proxy.tls_port` is null. */
  readonly proxyTlsUrl: string | undefined;
  /** Takes a new policy; resolves when every new request is carried under it. Rejects and keeps the old where it cannot. */
  apply(policy: CompiledPolicy): Promise<void>;
  /** For `/health`. `pid` of the data plane's process. */
  health(): Promise<Readonly<{ healthy: boolean; detail: string; pid: number }>>;
  /** Ends every open connection, within `limits.lockdownEndsMsMax`; new ones are taken again after that. */
  endConnections(): Promise<void>;
  /** Ends every connection and process; resolves when nothing is left, at most `limits.stopTimeoutMs`. */
  stop(): Promise<void>;
}

/** What both planes are given. */
export type PlaneDeps = Readonly<{
  settings: Settings;
  policy: CompiledPolicy;
  checker: Checker;
  authority: Authority;
  log: Logger;
  identify: KnownAgent;
  onRefusal: OnRefusal;
  ledger: PlaneLedger;
  /** Told of the ports that agents connect to, before the first check can come. */
  onPorts?: (ports: readonly number[]) => void;
  clock: Clock;
  stateDir: string;
  runDir: string;
  /** PEM bundle of every authority that may prove a destination's name. */
  upstreamCaPem: string;
  /** Path of the same bundle as a file that Envoy's user can read. */
  upstreamCaFile: string;
}>;

/** What a data plane tells the ledger, which reads its access log. */
export type PlaneLedger = Readonly<{
  /** From now on the process of this name writes the log, and the one before has ended. */
  began(epoch: string): void;
  /** It writes no more. */
  ended(epoch: string): void;
  /** The answer with this decision did not reach the data plane: no line will tell of it. */
  notSent(decision: string): void;
  /** The last lines of so many calls could not be written, and are gone. */
  lost(calls: number): void;
  /** False where the file has lines that are not read yet: it must not be deleted. */
  hasRead(file: string): boolean;
}>;

/** Mints leaf certificates for inspected names (`envoy/authority.ts`). */
export type Authority = Readonly<{
  /** PEM of what agents trust: the authority's own certificate, and during a rotation the other one's too. */
  readonly caPem: string;
  /** Another number once another key signs: leaves of the time before are to be replaced. */
  epoch(): number;
  /** Certificate chain and key for a canonical host; cached, bounded, renewed before its end. */
  mint(host: string): Promise<Minted>;
  /** Certificates in the cache. */
  size(): number;
}>;

export type Minted = Readonly<{ certificatePem: string; privateKeyPem: string; notAfterMs: number }>;
