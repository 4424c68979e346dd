/** The check of this sidecar: who calls, where names lead, leases, and what becomes of what was decided. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { limits } from '../config/limits.ts';
import type { Settings } from '../config/settings.ts';
import { createChecker } from '../ext-authz/check.ts';
import { createKnownAgent } from '../ext-authz/known-agent.ts';
import type { Ids } from '../filters/common/ids.ts';
import type { Clock } from '../filters/common/time.ts';
import { findUser } from '../filters/common/unix-user.ts';
import { createResolver } from '../filters/egress/dns.ts';
import { isListenerAddress, isOwnAddress } from '../filters/egress/own-address.ts';
import { createUnixUsers } from '../filters/identity/unix-users.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';
import { createDecisionCache } from '../filters/policy/decision-cache.ts';
import type { Ending } from './ending.ts';
import { countedChecker, countedResolver } from './instrument.ts';
import { openLeases } from './leases.ts';
import type { Metrics } from './metrics.ts';
import { observeDecision } from './observe.ts';
import { createOwnPorts } from './own-ports.ts';
import type { State } from './state.ts';

export function openChecking(options: {
  settings: Settings;
  state: State;
  policy: { current(): CompiledPolicy };
  clock: Clock;
  ids: Ids;
  log: Logger;
  metrics: Metrics;
  ending: Ending;
}) {
  const { settings, state, policy, clock, ids, log, metrics, ending } = options;
  const { hosts, servers, timeout_ms: timeoutMs } = settings.resolver;
  const resolver = countedResolver(createResolver({ hosts, servers, timeoutMs, clock }), metrics, clock);
  ending.add('resolver', () => resolver.close());

  let proxyPorts: readonly number[] = [];
  const own = createOwnPorts(settings);
  const isProxy = (address: string, port: number): boolean =>
    proxyPorts.includes(port) && isListenerAddress(settings.proxy.host, address);
  const identity = {
    policy: policy.current,
    podAgent: settings.identity.pod_agent,
    users: createUnixUsers({ isProxy }),
    planeUid: process.getuid?.() === 0 ? findUser(settings.agent.envoy_user)?.uid : undefined,
  };
  const stopping = new AbortController();
  const leases = openLeases({
    ...{ settings: settings.leases, clock, log, metrics, ending },
    ...{ quota: state.quota, ledger: state.ledger },
  });
  const check = createChecker({
    ...identity,
    stopping: stopping.signal,
    leases,
    decisions: createDecisionCache({
      ttlMs: settings.decisions.cache_ttl_ms,
      entriesMax: settings.decisions.cache_entries_max,
    }),
    holdRetryAfterMs: settings.oversight.retry_after_ms,
    ...{ clock, ids, resolver, log },
    locked: () => state.lockdown.isLocked()?.reason,
    isOwn: ({ address, port }) => own.has(port) && isOwnAddress(address),
    ...{ quota: state.quota, holds: state.holds, mark: state.mark, journal: state.journal },
    onDecision: observeDecision(log, metrics),
  });
  const checker = countedChecker(check, metrics);
  state.ledger.onSettled(({ facts, kind, calls }) => {
    // `Expired` is silence, and a stalled Envoy is silent too: only what a line tells is given back here. What a
    // lease did not use flows back by its book.
    checker.refundUnsent(facts.id, calls, kind === 'NotSent' ? calls : 0);
  });
  return {
    checker,
    identify: createKnownAgent(identity),
    ports: {
      own,
      /** Ports that agents connect to: their other ends are never agents, and dialling them would be a loop. */
      ofProxy: (ports: readonly number[]): void => {
        proxyPorts = ports;
        own.addPorts(ports);
      },
    },
    /** Answers those who wait for a person; the sidecar is about to end. */
    answerAll: async (): Promise<void> => {
      stopping.abort();
      // Answered, but the data plane still has to hand the answers on.
      if (checker.inFlight() > 0) await delay(limits.stopAnswerMs);
    },
  };
}
