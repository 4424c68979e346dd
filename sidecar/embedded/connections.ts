/**
 * Connections, shared out: no agent takes them all, and no caller that is no agent keeps agents out. A
 * connection is nobody's until a request on it, or its CONNECT, names an agent.
 */
import type { Socket } from 'node:net';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { createShares } from '../../filters/common/shares.ts';

export type Connections = Readonly<{
  /** Of nobody so far. Where those are more than their share, the oldest of them is closed for it. */
  opened(id: string, socket: Socket): void;
  /** A request of this agent came by it. It counts for each agent that it carries, until it is closed. Throws Overloaded. */
  claim(id: string, agent: string): void;
}>;

export function createConnections(connectionsMax: number): Connections {
  const eachMax = Math.ceil(connectionsMax / limits.connectionPartsMin);
  const shares = createShares(eachMax);
  const nobodys = new Map<string, Socket>();
  const claims = new Map<string, Map<string, () => void>>();

  const closed = (id: string): void => {
    nobodys.delete(id);
    for (const giveBack of claims.get(id)?.values() ?? []) giveBack();
    claims.delete(id);
  };

  return {
    opened: (id, socket) => {
      nobodys.set(id, socket);
      claims.set(id, new Map());
      socket.once('close', () => closed(id));
      if (nobodys.size <= eachMax) return;
      for (const [oldest, idle] of nobodys) {
        nobodys.delete(oldest);
        idle.destroy();
        return;
      }
    },
    claim: (id, agent) => {
      // Of a connection that is closed already: what its request may do ends with it.
      const mine = claims.get(id);
      if (mine === undefined || mine.has(agent)) return;
      const giveBack = shares.take(agent);
      if (giveBack === undefined)
        throw new SallyportError(
          'Overloaded',
          `this agent has ${eachMax} connections, and that is the limit`,
        );
      mine.set(agent, giveBack);
      nobodys.delete(id);
    },
  };
}
