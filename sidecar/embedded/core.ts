/** What every part of the embedded plane works with. */
import type { SallyportError } from '../../config/errors.ts';
import type { PlaneDeps } from '../../envoy/data-plane.ts';
import type { Found, RefusedRequest } from '../../ext-authz/refusal.ts';
import type { Deny } from '../../filters/decision.ts';
import type { CompiledPolicy } from '../../filters/policy/compiled.ts';
import type { BodyBudget } from './body.ts';
import type { Connections } from './connections.ts';
import type { EmbeddedLedger } from './ledger.ts';
import type { Pools } from './pools.ts';
import type { UnreadTunnels } from './unread.ts';

export type Core = Readonly<{
  deps: PlaneDeps;
  /** The snapshot that holds now; read once per request. */
  policy: () => CompiledPolicy;
  pools: Pools;
  bodies: BodyBudget;
  connections: Connections;
  ledger: EmbeddedLedger;
  unread: UnreadTunnels;
  /** The denial of what never reached the check, with what is known of it; it is written down here. */
  refusal: (error: SallyportError, request?: RefusedRequest, found?: Found) => Deny;
  /** Refuses what names the proxy itself, before any check: throws NotFound. */
  assertElsewhere: (authority: string) => void;
}>;
