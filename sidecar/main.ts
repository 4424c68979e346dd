/**
 * The sidecar, assembled. Everything it opens goes on one list and ends in reverse order; what fails on the
 * way up ends what is open already. Nothing is decided here.
 */
import path from 'node:path';
import { openAuthority } from '../envoy/authority.ts';
import { createChecker } from '../ext-authz/check.ts';
import { createIds } from '../filters/common/ids.ts';
import { createClock } from '../filters/common/time.ts';
import { findUser } from '../filters/common/unix-user.ts';
import { createResolver } from '../filters/egress/dns.ts';
import { isListenerAddress, isOwnAddress } from '../filters/egress/own-address.ts';
import { createUnixUsers } from '../filters/identity/unix-users.ts';
import { startAdmin } from './admin/server.ts';
import { openToken } from './admin/token.ts';
import { publish, publishAgentTrust, upstreamAuthorities } from './certificates.ts';
import { startCheckServers } from './check-servers.ts';
import { portsOf, startDataPlane } from './data-plane.ts';
import { openHome } from './directories.ts';
import { createEnding, type Ending } from './ending.ts';
import { askHealth } from './health.ts';
import { countedAuthority, countedChecker, countedResolver, renderMetrics } from './instrument.ts';
import { createMetrics } from './metrics.ts';
import { observeDecision, observeHolds, observeRefusal } from './observe.ts';
import { createOwnPorts } from './own-ports.ts';
import { openPolicy } from './policy.ts';
import { probesOf } from './probes.ts';
import { writeRunFile } from './run-file.ts';
import type { Sidecar, SidecarOptions } from './sidecar.ts';
import { openState } from './state.ts';
import { processesOf, statusOf } from './status.ts';

export async function startSidecar(options: SidecarOptions): Promise<Sidecar> {
  const ending = createEnding(options.log);
  try {
    return await assemble(options, ending);
  } catch (thrown) {
    await ending.run();
    throw thrown;
  }
}

async function assemble(options: SidecarOptions, ending: Ending): Promise<Sidecar> {
  const { settings, log, clock = createClock(), children = [], report = () => undefined } = options;
  const { stateDir, runDir } = openHome(settings, children, ending);
  const ids = createIds(clock);
  const metrics = createMetrics();
  const policy = await openPolicy({ file: settings.policy, log, metrics });
  ending.add('policy watch', policy.close);
  const state = openState(stateDir, { clock, ids, log, policy, metrics });
  ending.add('state', state.close);
  observeHolds(state, clock, log, metrics);
  const { hosts, servers, timeout_ms: timeoutMs } = settings.resolver;
  const resolver = countedResolver(createResolver({ hosts, servers, timeoutMs, clock }), metrics, clock);
  ending.add('resolver', () => resolver.close());

  let proxyPorts: readonly number[] = [];
  const ownPorts = createOwnPorts(settings);
  const isProxy = (address: string, port: number): boolean =>
    proxyPorts.includes(port) && isListenerAddress(settings.proxy.host, address);
  const check = createChecker({
    policy: policy.current,
    podAgent: settings.identity.pod_agent,
    holdRetryAfterMs: settings.oversight.retry_after_ms,
    ...{ clock, ids, resolver, log, users: createUnixUsers({ isProxy }) },
    planeUid: process.getuid?.() === 0 ? findUser(settings.agent.envoy_user)?.uid : undefined,
    isOwn: ({ address, port }) => ownPorts.has(port) && isOwnAddress(address),
    ...{ quota: state.quota, holds: state.holds, journal: state.journal },
    onDecision: observeDecision(log, metrics),
  });
  const checker = countedChecker(check, metrics);

  const authority = countedAuthority(await openAuthority(path.join(stateDir, 'authority'), clock), metrics);
  const trust = publishAgentTrust(runDir, authority.caPem);
  const upstreamCaPem = upstreamAuthorities(settings.upstream.ca_files);
  const carried = policy.current();
  const own = {
    settings,
    checker,
    authority,
    log,
    clock,
    onRefusal: observeRefusal(
      state.journal,
      log,
      metrics,
      settings.data_plane === 'embedded' ? 'embedded' : 'envoy',
    ),
    stateDir,
    runDir,
    upstreamCaPem,
    upstreamCaFile: publish(path.join(runDir, 'upstream-ca.pem'), upstreamCaPem),
  };
  const chosen = await startDataPlane({ ...own, policy: carried }, report);
  ending.add('data plane', () => chosen.plane.stop());
  proxyPorts = portsOf(chosen.plane);
  ownPorts.add([chosen.plane.proxyUrl, chosen.plane.proxyTlsUrl]);
  await policy.attach(chosen.plane, carried);
  writeRunFile(stateDir, { runDir, processes: await processesOf(chosen, children) });

  const token = openToken(stateDir);
  const checkServers = await startCheckServers({
    settings: settings.ext_authz,
    checker,
    log,
    token,
    onRefusal: own.onRefusal,
    ending,
  });
  const health = () => askHealth(probesOf({ policy, state, stateDir, plane: chosen.plane }));
  const parts = { settings, chosen, checkServers, policy, state, trust, children, health, stateDir, runDir };
  const status = () => statusOf({ ...parts, admin });
  const admin = await startAdmin({
    ...{ log, clock, token, runDir, checker, health, status, report, port: settings.admin.port },
    ...{ holds: state.holds, journal: state.journal, policy, policyFile: settings.policy },
    metrics: () => renderMetrics(metrics, { state, policy, authority, plane: chosen.plane }),
    stop: () => options.onStopAsked?.(),
  });
  ending.add('admin API', admin.stop);
  ownPorts.add([...checkServers.grpc, ...checkServers.http, admin.url]);
  ownPorts.settle();
  return { status, policy: policy.current, stop: ending.run, reload: async () => (await policy.reload()).ok };
}
