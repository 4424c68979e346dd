/**
 * The sidecar, assembled. Everything it opens goes on one list and ends in reverse order; what fails on the
 * way up ends what is open already. Nothing is decided here.
 */
import path from 'node:path';
import { createIds } from '../filters/common/ids.ts';
import { createClock } from '../filters/common/time.ts';
import { startAdmin } from './admin/server.ts';
import { openToken } from './admin/token.ts';
import { openAudit } from './audit.ts';
import { publish, upstreamAuthorities } from './certificates.ts';
import { startCheckServers } from './check-servers.ts';
import { openChecking } from './checking.ts';
import { portsOf, startDataPlane } from './data-plane.ts';
import { openHome } from './directories.ts';
import { createEnding, type Ending } from './ending.ts';
import { askHealth } from './health.ts';
import { renderMetrics } from './instrument.ts';
import { commandLineTo } from './invocation.ts';
import { openKeys } from './keys.ts';
import { endOnLockdown } from './lockdown.ts';
import { createMetrics } from './metrics.ts';
import { observeRefusal } from './observe.ts';
import { openSpans } from './otlp-open.ts';
import { openPolicy } from './policy.ts';
import { probesOf } from './probes.ts';
import { writeRunFile } from './run-file.ts';
import type { Sidecar, SidecarOptions } from './sidecar.ts';
import { openState } from './state.ts';
import { processesOf, statusOf } from './status.ts';
import { openTrust } from './trust.ts';
import { openWitness } from './witness-open.ts';

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
  const keys = await openKeys(settings.keys, stateDir, clock, log);
  const state = openState(stateDir, {
    ...{ clock, ids, log, policy, metrics },
    locksOnIncident: settings.incidents.lockdown,
    commandLine: options.commandLine ?? commandLineTo(''),
    onRecord: await openSpans(settings.telemetry.otlp, { log, metrics }, ending),
  });
  ending.add('state', state.close);
  const onRecord = { stateDir, keys, state, policy, clock, ids, log, metrics, ending };
  const audit = await openAudit({ settings: settings.audit, ...onRecord });
  const checking = openChecking({ settings, ...onRecord });
  const { checker, ports } = checking;

  const { authority, trust, rotation } = await openTrust({
    ...{ settings: settings.keys, runDir, receiptOf: audit.receiptOf, ...onRecord },
  });
  const witnessUrl = await openWitness({ settings: settings.witness, ...onRecord });
  const upstreamCaPem = upstreamAuthorities(settings.upstream.ca_files);
  const carried = policy.current();
  const own = {
    settings,
    checker,
    authority,
    log,
    clock,
    identify: checking.identify,
    onPorts: ports.ofProxy,
    onRefusal: observeRefusal(state.journal, log, metrics),
    ledger: state.ledger.plane,
    stateDir,
    runDir,
    upstreamCaPem,
    upstreamCaFile: publish(path.join(runDir, 'upstream-ca.pem'), upstreamCaPem),
  };
  const chosen = await startDataPlane({ ...own, policy: carried }, report);
  ending.add('data plane', () => chosen.plane.stop());
  endOnLockdown(state.lockdown, chosen.plane, log);
  ports.ofProxy(portsOf(chosen.plane));
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
  const health = () => askHealth(probesOf({ policy, state, stateDir, audit, plane: chosen.plane }));
  const parts = { settings, chosen, checkServers, policy, state, trust, children, health, stateDir, runDir };
  const status = () => statusOf({ ...parts, admin });
  const admin = await startAdmin({
    ...{ log, clock, token, runDir, checker, health, status, report, port: settings.admin.port },
    ...{
      holds: state.holds,
      journal: state.journal,
      keys: rotation,
      lockdown: state.lockdown,
      audit,
      policy,
      policyFile: settings.policy,
    },
    metrics: () => renderMetrics(metrics, { state, audit, policy, authority, plane: chosen.plane }),
    stop: () => options.onStopAsked?.(),
  });
  ending.add('admin API', admin.stop);
  ending.add('callers that wait for a person', checking.answerAll);
  ports.own.add([...checkServers.grpc, ...checkServers.http, admin.url, witnessUrl]);
  ports.own.settle();
  return { status, policy: policy.current, stop: ending.run, reload: async () => (await policy.reload()).ok };
}
