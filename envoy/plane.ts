/** Envoy as the data plane: what it asks of the sidecar is served, then it is configured and run. */
import { chmod, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { Checker } from '../ext-authz/checker.ts';
import { serveGrpc } from '../ext-authz/grpc-server.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';
import { type AdminClient, adminClient } from './admin-client.ts';
import { findEnvoy } from './binary.ts';
import { bootstrap } from './bootstrap.ts';
import { leaseIdleMs } from './clusters.ts';
import { type ConfigInput, type EnvoyConfig, envoyConfig } from './config.ts';
import type { DataPlane, PlaneDeps, PlaneLedger } from './data-plane.ts';
import { confirmed, deliver, deliveries, digestOf, isCurrent, makeDirectories, putFile } from './delivery.ts';
import { authorityHost } from './globs.ts';
import { serveHealth } from './health-socket.ts';
import { keepBounded } from './log-rotation.ts';
import { type EnvoyPaths, envoyPaths } from './paths.ts';
import { pause } from './pause.ts';
import { freePort, ownAuthorities, ownHosts, reachable } from './ports.ts';
import type { Running } from './process.ts';
import { type SecretServer, serveSecrets } from './sds.ts';
import { adoptable, type Supervisor, supervise } from './supervisor.ts';
import { assertReachable, envoyUser, type ProcessUser } from './user.ts';
import { validateConfig } from './validate.ts';

/** What does not change while the plane runs. */
type Ground = Readonly<{
  deps: PlaneDeps;
  binary: string;
  user: ProcessUser | undefined;
  paths: EnvoyPaths;
  admin: AdminClient;
  key: string;
}>;

type Ports = Readonly<{ port: number; tlsPort: number | undefined }>;

export async function startEnvoyPlane(deps: PlaneDeps): Promise<DataPlane> {
  const ground = await prepare(deps);
  const adopted = await adoptable({ ...ground, clock: deps.clock }, deps.log);
  const ports = adopted ?? (await choosePorts(deps));
  deps.onPorts?.([ports.port, ports.tlsPort].filter((port) => port !== undefined));
  const served = await serveEnvoy(ground, deps.policy);
  try {
    return await run(ground, served, ports, adopted);
  } catch (thrown) {
    await served.stop();
    throw thrown;
  }
}

async function prepare(deps: PlaneDeps): Promise<Ground> {
  const { settings, stateDir, runDir } = deps;
  const found = await findEnvoy(settings, join(stateDir, 'tools'));
  if ('missing' in found)
    throw new SallyportError('SettingsInvalid', `Envoy cannot be used: ${found.missing}`);
  const user = envoyUser(settings.agent.envoy_user);
  const paths = envoyPaths(runDir, stateDir, deps.upstreamCaFile);
  if (user !== undefined) {
    // Envoy's user passes through to what is its own; everything else there has its own mode.
    await chmod(runDir, 0o711);
    await chmod(stateDir, 0o711);
  }
  await makeDirectories(paths, user);
  if (user !== undefined)
    for (const path of [found.path, paths.accessLog, paths.adminSocket, paths.upstreamCa])
      await assertReachable(path, user);
  const start = JSON.stringify([
    bootstrap(settings, paths),
    found,
    user ?? null,
    settings.envoy.concurrency,
    settings.proxy,
  ]);
  return {
    deps,
    binary: found.path,
    user,
    paths,
    admin: adminClient(paths.adminSocket),
    key: digestOf(start),
  };
}

async function choosePorts({ settings, log }: PlaneDeps): Promise<Ports> {
  const { host, port: wanted, tls_port: wantedTls } = settings.proxy;
  const port = await freePort(host, wanted, []);
  const tlsPort = wantedTls === null ? undefined : await freePort(host, wantedTls, [port]);
  if (wanted !== 0 && port !== wanted)
    log.warn({ wanted, port }, 'the proxy port is in use; the next free one is taken');
  if (wantedTls !== null && wantedTls !== 0 && tlsPort !== wantedTls)
    log.warn(
      { wanted: wantedTls, port: tlsPort },
      'the proxy TLS port is in use; the next free one is taken',
    );
  return { port, tlsPort };
}

/** Of an answer that did not reach Envoy no line of the access log tells. */
const tellingOf = (checker: Checker, ledger: PlaneLedger): Checker => ({
  ...checker,
  settle: (decision, outcome) => {
    checker.settle(decision, outcome);
    if (outcome === 'NotSent') ledger.notSent(decision.id);
  },
});

type Served = Readonly<{
  secrets: SecretServer;
  policy(): CompiledPolicy;
  /** From now on certificates follow this policy. */
  follow(policy: CompiledPolicy): void;
  stop(): Promise<void>;
}>;

/** The three sockets that Envoy uses: checks, certificates, and whether the sidecar lives. */
async function serveEnvoy(ground: Ground, first: CompiledPolicy): Promise<Served> {
  const { deps, paths, user } = ground;
  const { settings, checker, authority, clock, log } = deps;
  let policy = first;
  const own = new Set(settings.proxy.tls_port === null ? [] : ownHosts(settings.proxy.host));
  const owned = user === undefined ? {} : { socketOwner: user };
  const stops: (() => Promise<void>)[] = [];
  const stop = async (): Promise<void> => {
    for (const each of stops.splice(0).reverse()) await each();
  };
  try {
    const checks = await serveGrpc({
      checker: tellingOf(checker, deps.ledger),
      log,
      clock,
      onRefusal: deps.onRefusal,
      listen: { socketPath: paths.authzSocket, ...owned },
    });
    stops.push(checks.stop);
    const { lessor } = checker;
    if (settings.leases.enabled && lessor !== undefined) {
      const { serveLeases } = await import('../ext-authz/lease-server.ts');
      lessor.proof.readLogBy(() => ground.admin.logState(paths.accessLog));
      const leases = await serveLeases({
        ...{ lessor, log, clock, idleMs: leaseIdleMs(settings) },
        listen: { socketPath: paths.leaseSocket, ...owned },
      });
      stops.push(leases.stop);
    }
    const secrets = await serveSecrets({
      socketPath: paths.sdsSocket,
      owner: user,
      authority,
      clock,
      log,
      inspectable: (host) => own.has(host) || policy.inspectable(host),
    });
    stops.push(secrets.stop);
    stops.push(await serveHealth({ socketPath: paths.healthSocket, ...owned }));
    return {
      secrets,
      policy: () => policy,
      follow: (next) => {
        policy = next;
        secrets.recheck();
      },
      stop,
    };
  } catch (thrown) {
    await stop();
    throw thrown;
  }
}

async function configInput(
  deps: PlaneDeps,
  paths: EnvoyPaths,
  ports: Ports,
): Promise<Omit<ConfigInput, 'policy'>> {
  const { settings } = deps;
  const { host } = settings.proxy;
  return {
    settings,
    paths,
    ...ports,
    trustBundlePem:
      ports.tlsPort === undefined ? undefined : await trustBundle(settings.identity.trust_bundle_file),
    ownName: reachable(host),
    ownAuthorities: ownAuthorities(
      host,
      [ports.port, ports.tlsPort].filter((port) => port !== undefined),
    ),
  };
}

async function trustBundle(file: string): Promise<string> {
  if (file === '')
    throw new SallyportError(
      'SettingsInvalid',
      'proxy.tls_port needs identity.trust_bundle_file: without it no client certificate could be believed',
    );
  let pem: string;
  try {
    pem = await readFile(file, 'utf8');
  } catch (cause) {
    throw new SallyportError('SettingsInvalid', `identity.trust_bundle_file ${file} cannot be read`, {
      cause,
    });
  }
  if (!pem.includes('-----BEGIN CERTIFICATE-----'))
    throw new SallyportError(
      'SettingsInvalid',
      `identity.trust_bundle_file ${file} holds no certificate in PEM`,
    );
  return pem;
}

async function run(
  ground: Ground,
  served: Served,
  ports: Ports,
  adopted: Running | undefined,
): Promise<DataPlane> {
  const { deps, paths, user, admin, binary, key } = ground;
  const { settings, clock, log } = deps;
  const input = await configInput(deps, paths, ports);
  const render = (policy: CompiledPolicy): EnvoyConfig => envoyConfig({ ...input, policy });

  let current = render(deps.policy);
  await validateConfig(binary, current, paths, user);
  if (adopted === undefined) await putFile(paths, paths.bootstrap, JSON.stringify(current.bootstrap), user);
  const first = deliveries(current, paths);
  // What the process of an earlier sidecar still has leased was granted for other routes.
  if (adopted !== undefined && !(await isCurrent(first))) await pause(limits.leaseLifeMsMax);
  await deliver(first, paths, user);
  const options = {
    binary,
    paths,
    user,
    concurrency: settings.envoy.concurrency,
    key,
    ...ports,
    admin,
    clock,
    ledger: deps.ledger,
  };
  const supervisor = await supervise(options, adopted, log);
  try {
    await confirmed(deliveries(current, paths), admin, clock);
  } catch (thrown) {
    await supervisor.stop();
    throw thrown;
  }
  const mayForget = (file: string): boolean => !file.startsWith(paths.accessLog) || deps.ledger.hasRead(file);
  const logs = [paths.accessLog, paths.processLog];
  const unbind = keepBounded(logs, { reopen: admin.reopenLogs, mayForget }, log);
  log.info(
    { pid: supervisor.running()?.pid, adopted: supervisor.adopted, ...ports },
    'Envoy carries the traffic',
  );

  /** A lease is found by the path that the agent says. It must not outlive where a base-URL route leads from there. */
  const leasesEnded = async (before: CompiledPolicy, after: CompiledPolicy): Promise<() => void> => {
    const leads = ({ routes }: CompiledPolicy): string => JSON.stringify([...routes]);
    const { lessor } = deps.checker;
    if (!settings.leases.enabled || lessor === undefined || leads(before) === leads(after))
      return () => undefined;
    const resume = lessor.pause();
    await pause(settings.leases.life_ms);
    return resume;
  };

  const change = async (policy: CompiledPolicy): Promise<void> => {
    const next = render(policy);
    const all = deliveries(next, paths);
    if (!(await isCurrent(all))) {
      await validateConfig(binary, next, paths, user);
      const resume = await leasesEnded(served.policy(), policy);
      try {
        await deliver(all, paths, user);
        await confirmed(all, admin, clock);
      } catch (thrown) {
        await deliver(deliveries(current, paths), paths, user);
        throw thrown;
      } finally {
        resume();
      }
    }
    current = next;
    served.follow(policy);
  };
  // One change at a time, in the order in which they came; one that failed does not stop the next.
  let last: Promise<void> = Promise.resolve();

  const host = authorityHost(reachable(settings.proxy.host));
  return {
    kind: 'envoy',
    proxyUrl: `http://${host}:${ports.port}`,
    proxyTlsUrl: ports.tlsPort === undefined ? undefined : `https://${host}:${ports.tlsPort}`,
    apply: (policy) => {
      const applied = last.then(() => change(policy));
      last = applied.catch(() => undefined);
      return applied;
    },
    health: () => healthOf(supervisor, admin),
    endConnections: supervisor.replace,
    stop: async () => {
      unbind();
      await supervisor.stop();
      await served.stop();
    },
  };
}

async function healthOf(
  supervisor: Supervisor,
  admin: AdminClient,
): Promise<Readonly<{ healthy: boolean; detail: string; pid: number }>> {
  const running = supervisor.running();
  if (running === undefined) return { healthy: false, detail: 'Envoy is being started again', pid: 0 };
  const { pid } = running;
  if (!(await admin.ready())) return { healthy: false, detail: 'Envoy does not answer', pid };
  // Started again, it may find its port taken.
  if (!(await admin.listens('explicit')))
    return { healthy: false, detail: `Envoy does not listen on port ${running.port}`, pid };
  return { healthy: true, detail: 'Envoy is live', pid };
}
