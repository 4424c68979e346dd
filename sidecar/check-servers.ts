/** ext_authz on loopback TCP, for an Envoy that is not ours: only where the settings ask for it. */
import type { Logger } from 'pino';
import type { Settings } from '../config/settings.ts';
import type { Checker } from '../ext-authz/checker.ts';
import type { Deny } from '../filters/decision.ts';
import type { Ending } from './ending.ts';

export type CheckServers = Readonly<{ grpc: string | undefined; http: string | undefined }>;

export async function startCheckServers(options: {
  settings: Settings['ext_authz'];
  checker: Checker;
  log: Logger;
  token: string;
  onRefusal: (deny: Deny) => void;
  ending: Ending;
}): Promise<CheckServers> {
  const { settings, checker, log, token, onRefusal, ending } = options;
  let grpc: string | undefined;
  let http: string | undefined;
  if (settings.grpc_port !== null) {
    const { serveGrpc } = await import('../ext-authz/grpc-server.ts');
    const server = await serveGrpc({
      checker,
      log,
      onRefusal,
      listen: { host: '127.0.0.1', port: settings.grpc_port, token },
    });
    ending.add('ext_authz over gRPC', server.stop);
    grpc = server.address;
  }
  if (settings.http_port !== null) {
    const { serveHttp } = await import('../ext-authz/http-server.ts');
    const server = await serveHttp({
      checker,
      log,
      onRefusal,
      listen: { host: '127.0.0.1', port: settings.http_port, token },
    });
    ending.add('ext_authz over HTTP', server.stop);
    http = server.address;
  }
  return { grpc, http };
}
