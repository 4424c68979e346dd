/**
 * Tunnels that pass unread. Nothing inside them is checked again, so each is held against every policy that comes,
 * and ended where that policy would not open it.
 */
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import type { KnownAgent } from '../../ext-authz/known-agent.ts';
import type { Clock } from '../../filters/common/time.ts';
import type { Call, Inspect } from '../../filters/facts.ts';
import type { CompiledPolicy } from '../../filters/policy/compiled.ts';
import { destinationOf } from './call.ts';

export type UnreadTunnels = Readonly<{
  /** @param call as inside the tunnel. A policy that came while it was opened ends it at once. */
  opened(call: Call, inspect: Inspect, socket: Socket): void;
  /** To be called once another policy holds. */
  review(): void;
}>;

type Deps = Readonly<{ identify: KnownAgent; clock: Clock; policy: () => CompiledPolicy; log: Logger }>;

export function createUnreadTunnels({ identify, clock, policy, log }: Deps): UnreadTunnels {
  const open = new Map<Socket, Readonly<{ call: Call; inspect: Inspect }>>();

  const mayStay = (call: Call, inspect: Inspect): boolean => {
    const now = policy();
    const agent = identify(call, now);
    const destination = destinationOf(call);
    if (agent === undefined || destination === undefined) return false;
    const verdict = now.connect(agent, destination, clock.wallMs());
    return verdict.kind === 'unread' && verdict.inspect === inspect;
  };
  const review = (socket: Socket, call: Call, inspect: Inspect): void => {
    try {
      if (mayStay(call, inspect)) return;
    } catch (thrown) {
      // One that cannot be looked at ends, and the others are looked at.
      log.error({ err: thrown }, 'an unread tunnel could not be held against the policy; it is ended');
    }
    socket.destroy();
  };

  return {
    opened: (call, inspect, socket) => {
      open.set(socket, { call, inspect });
      socket.once('close', () => open.delete(socket));
      review(socket, call, inspect);
    },
    review: () => {
      for (const [socket, { call, inspect }] of open) review(socket, call, inspect);
    },
  };
}
