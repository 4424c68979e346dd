/** The authority of inspected names: what signs by it, what agents are told to trust, and how a rotation changes both. */
import type { Logger } from 'pino';
import type { Settings } from '../config/settings.ts';
import { openAuthority } from '../envoy/authority.ts';
import type { Authority } from '../envoy/data-plane.ts';
import type { KeyRing } from '../filters/audit/keys.ts';
import type { Ids } from '../filters/common/ids.ts';
import type { Journal } from '../filters/common/journal.ts';
import type { Clock } from '../filters/common/time.ts';
import { type AgentTrust, publishAgentTrust } from './certificates.ts';
import type { Ending } from './ending.ts';
import { countedAuthority } from './instrument.ts';
import { createKeyRotation, type KeyRotation, type RotationDeps } from './key-rotation.ts';
import type { Metrics } from './metrics.ts';

export type Trust = Readonly<{ authority: Authority; trust: AgentTrust; rotation: KeyRotation }>;

export async function openTrust(
  options: Readonly<{
    keys: KeyRing;
    settings: Settings['keys'];
    stateDir: string;
    runDir: string;
    clock: Clock;
    ids: Ids;
    log: Logger;
    metrics: Metrics;
    state: Readonly<{ journal: Journal }>;
    policy: { current(): { version: string } };
    receiptOf: RotationDeps['receiptOf'];
    ending: Ending;
  }>,
): Promise<Trust> {
  const { keys, runDir, clock, ids, log, stateDir, policy, receiptOf } = options;
  const { journal } = options.state;
  const authority = await openAuthority(keys, clock);
  const trust = publishAgentTrust(runDir, authority.caPem);
  const rotation = createKeyRotation({
    ...{ ring: keys, overlapMs: options.settings.overlap_ms, stateDir, clock, ids, log, journal, authority },
    policyVersion: () => policy.current().version,
    publishTrust: (caPem) => void publishAgentTrust(runDir, caPem),
    receiptOf,
  });
  options.ending.add('key rotation', rotation.stop);
  // What was rotated while no sidecar ran is put on record.
  rotation.lookQuietly();
  return { authority: countedAuthority(authority, options.metrics), trust, rotation };
}
