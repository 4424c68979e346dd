/** Answers Envoy's question whether the sidecar lives. When it no longer does, Envoy ends the open tunnels. */
import { bindSocket, removeSocket, type SocketListen } from '../ext-authz/listen.ts';
import { createServer } from '../filters/common/node-http.ts';

export async function serveHealth(listen: SocketListen): Promise<() => Promise<void>> {
  const server = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/plain' });
    response.end('ok\n');
  });
  server.maxConnections = 64;
  await bindSocket(
    listen,
    (path) =>
      new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(path, resolve);
      }),
  );
  return async () => {
    await removeSocket(listen);
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  };
}
