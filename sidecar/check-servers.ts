/** ext_authz for an Envoy that is not ours, on loopback TCP or a Unix socket: only where the settings ask for it. */
import type { Logger } from 'pino';
import type { Settings } from '../config/settings.ts';
import type { Checker } from '../ext-authz/checker.ts';
import type { Listen } from '../ext-authz/listen.ts';
import type { OnRefusal } from '../ext-authz/refusal.ts';
import type { Ending } from './ending.ts';

/** Addresses, in the order of the settings. */
export type CheckServers = Readonly<{ grpc: readonly string[]; http: readonly string[] }>;

export async function startCheckServers(options: {
  settings: Settings['ext_authz'];
  checker: Checker;
  log: Logger;
  token: string;
  onRefusal: OnRefusal;
  ending: Ending;
}): Promise<CheckServers> {
  const { settings, log, token, onRefusal, ending } = options;
  // What another Envoy does with an answer is in its own log: the ledger waits for nothing of it.
  const checker: Checker = {
    ...options.checker,
    check: (call, signal) => options.checker.check({ ...call, via: 'ext_authz' }, signal),
  };
  const listens = (port: number | null, socketPath: string): Listen[] => [
    ...(port === null ? [] : [{ host: '127.0.0.1', port, token }]),
    ...(socketPath === '' ? [] : [{ socketPath }]),
  ];
  const grpc: string[] = [];
  for (const listen of listens(settings.grpc_port, settings.grpc_socket)) {
    const { serveGrpc } = await import('../ext-authz/grpc-server.ts');
    const server = await serveGrpc({ checker, log, onRefusal, listen });
    ending.add('ext_authz over gRPC', server.stop);
    grpc.push(server.address);
  }
  const http: string[] = [];
  for (const listen of listens(settings.http_port, settings.http_socket)) {
    const { serveHttp } = await import('../ext-authz/http-server.ts');
    const server = await serveHttp({ checker, log, onRefusal, listen });
    ending.add('ext_authz over HTTP', server.stop);
    http.push(server.address);
  }
  return { grpc, http };
}
