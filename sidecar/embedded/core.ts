/** What every part of the embedded plane works with. */
import type { SallyportError } from '../../config/errors.ts';
import type { PlaneDeps } from '../../envoy/data-plane.ts';
import type { Deny } from '../../filters/decision.ts';
import type { CompiledPolicy } from '../../filters/policy/compiled.ts';
import type { BodyBudget } from './body.ts';
import type { Pools } from './pools.ts';

export type Core = Readonly<{
  deps: PlaneDeps;
  /** The snapshot that holds now; read once per request. */
  policy: () => CompiledPolicy;
  pools: Pools;
  bodies: BodyBudget;
  /** The denial of what never reached the check. */
  refusal: (error: SallyportError) => Deny;
  /** Refuses what names the proxy itself, before any check: throws NotFound. */
  assertElsewhere: (authority: string) => void;
}>;
