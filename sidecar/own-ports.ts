/** TCP ports that the sidecar and its data plane listen on: an agent's request never goes there. */
import type { Settings } from '../config/settings.ts';

/** `host:port` and `http://host:port`; Unix sockets have none. */
const portOf = (address: string): number | undefined => {
  const port = /:(\d{1,5})\/?$/.exec(address)?.[1];
  return address.startsWith('unix:') || port === undefined ? undefined : Number(port);
};

export type OwnPorts = Readonly<{
  has(port: number): boolean;
  /** From now on these addresses are listened on as well. */
  add(addresses: readonly (string | undefined)[]): void;
  addPorts(ports: readonly number[]): void;
  /** Every listener has told its address: a wanted port that another process has is that process's. */
  settle(): void;
}>;

/** Until the listeners tell which ports they took, the wanted ones count too. */
export function createOwnPorts(settings: Settings): OwnPorts {
  const { proxy, ext_authz, admin } = settings;
  const all = [proxy.port, proxy.tls_port, ext_authz.grpc_port, ext_authz.http_port, admin.port];
  const wanted = new Set(all.filter((port) => port !== null));
  const taken = new Set<number>();
  return {
    has: (port) => taken.has(port) || wanted.has(port),
    add: (addresses) => {
      for (const address of addresses) {
        const port = address === undefined ? undefined : portOf(address);
        if (port !== undefined) taken.add(port);
      }
    },
    addPorts: (ports) => {
      for (const port of ports) taken.add(port);
    },
    settle: () => wanted.clear(),
  };
}
