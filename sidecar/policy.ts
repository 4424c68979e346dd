/** The policy that holds now: compiled from the file, watched, replaced at once and only by a valid one. */
import type { Logger } from 'pino';
import { formatIssue, type Issue } from '../config/policy/issue.ts';
import { type PolicyWatch, watchPolicy } from '../config/policy/watch.ts';
import type { DataPlane } from '../envoy/data-plane.ts';
import type { CompiledPolicy } from '../filters/policy/compiled.ts';
import { loadPolicyFile } from '../filters/policy/reader.ts';
import type { Metrics } from './metrics.ts';

export type LivePolicy = PolicyWatch<CompiledPolicy> &
  Readonly<{
    /** From now on a new policy is brought to this plane before it holds. `carried` is the one it was started with. */
    attach(plane: DataPlane, carried: CompiledPolicy): Promise<void>;
    /** Why the file as it stands is not the policy that holds; empty where it is. */
    rejected(): readonly string[];
    /** Told of each policy that takes the place of another. Must not throw. */
    onApplied(listener: (policy: CompiledPolicy) => void): void;
  }>;

export async function openPolicy(options: {
  file: string;
  log: Logger;
  metrics: Metrics;
}): Promise<LivePolicy> {
  const { file, log } = options;
  let plane: DataPlane | undefined;
  let rejected: readonly string[] = [];
  let version = '';
  const listeners: ((policy: CompiledPolicy) => void)[] = [];
  const watch = await watchPolicy<CompiledPolicy>({
    file,
    load: loadPolicyFile,
    apply: async (policy) => plane?.apply(policy),
    onChange: (policy) => {
      rejected = [];
      const isOther = version !== '' && version !== policy.version;
      version = policy.version;
      log.info({ policy: version, rules: policy.source.rules.length }, `policy ${file} holds now`);
      options.metrics.add('policyReloads', { result: 'accepted' });
      if (isOther) for (const listener of listeners) listener(policy);
    },
    onReject: (issues: readonly Issue[]) => {
      rejected = issues.map(formatIssue);
      log.error({ issues: rejected }, `policy ${file} is not valid; ${version} still holds`);
      options.metrics.add('policyReloads', { result: 'refused' });
    },
  });
  version = watch.current().version;
  return {
    current: () => watch.current(),
    reload: () => watch.reload(),
    close: () => watch.close(),
    attach: async (started, carried) => {
      plane = started;
      // The file may have changed while the plane was starting.
      if (watch.current() !== carried) await started.apply(watch.current());
    },
    rejected: () => rejected,
    onApplied: (listener) => {
      listeners.push(listener);
    },
  };
}
