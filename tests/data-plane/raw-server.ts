/** A TCP server that speaks first, then echoes: what no HTTP proxy can look into. */
import { type AddressInfo, createServer, type Socket } from 'node:net';

export type RawServer = Readonly<{ port: number; connections(): number; close(): Promise<void> }>;

export async function startRawServer(): Promise<RawServer> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    connections += 1;
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => sockets.delete(socket));
    socket.write('220 ready\r\n');
    socket.on('data', (chunk: Buffer) => socket.write(`echo ${chunk}`));
    socket.once('end', () => socket.end('bye\r\n'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    connections: () => connections,
    close: async () => {
      const ended = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await ended;
    },
  };
}
