/** A whole sidecar with Envoy in this process, an upstream that counts, and clients that hold their connections. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import {
  Agent,
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type ServerResponse,
} from 'node:http';
import { createSecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import type { AddressInfo, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { type Settings, settingsSchema } from '../../config/settings.ts';
import { createExampleAuthority, type ExampleAuthority } from '../../examples/upstream/certificates.ts';
import { startSidecar } from '../../sidecar/main.ts';
import type { Sidecar } from '../../sidecar/sidecar.ts';
import { envoyBinary } from '../support/envoy.ts';

export const host = 'api.test';

export type Answer = Readonly<{
  status: number;
  decision: string;
  headers: IncomingHttpHeaders;
  body: string;
}>;

export type Seen = Readonly<{ method: string; url: string; headers: IncomingHttpHeaders; version: string }>;

export type LeasedWorld = Readonly<{
  sidecar: Sidecar;
  port: number;
  upstreamPort: number;
  /** The same upstream over TLS, HTTP/1.1 and HTTP/2; 0 without. */
  securePort: number;
  /** What agents trust. */
  caPem: string;
  /** The proxy over mutual TLS, and the authority of its clients; 0 without. */
  tlsPort: number;
  authority: ExampleAuthority;
  stateDir: string;
  /** What reached the upstream. */
  seen: readonly Seen[];
  /** The policy file from now on; the sidecar finds it by itself. */
  write(policy: string): void;
  ask(path: string, asked?: Asked): Promise<Answer>;
  /** Answers what the upstream holds back. */
  release(): void;
  close(): Promise<void>;
}>;

export type Asked = Readonly<{
  method?: string;
  headers?: Readonly<Record<string, string>>;
  agent?: Agent;
  body?: string;
  /** The whole target where it is not under the upstream's own URL. */
  target?: string;
}>;

export async function startLeased(
  policy: (upstreamPort: number, securePort: number) => string,
  settings: Readonly<Record<string, unknown>> = {},
  options: Readonly<{ hold?: (url: string) => boolean; secure?: boolean; mutual?: boolean }> = {},
): Promise<LeasedWorld> {
  const dir = mkdtempSync(join(tmpdir(), 'spl-'));
  chmodSync(dir, 0o755);
  const seen: Seen[] = [];
  const held: (() => void)[] = [];
  const answer = (
    received: IncomingMessage | Http2ServerRequest,
    response: ServerResponse | Http2ServerResponse,
  ): void => {
    const { method = '', url = '', headers, httpVersion: version } = received;
    received.resume();
    seen.push({ method, url, headers, version });
    const end = (): void => void response.end('ok');
    if (options.hold?.(url) === true) held.push(end);
    else end();
  };
  const portOf = async (server: Server): Promise<number> => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return (server.address() as AddressInfo).port;
  };
  const upstream = createServer(answer);
  const upstreamPort = await portOf(upstream);
  const authority = await createExampleAuthority();
  const { certificatePem: cert, privateKeyPem: key } = await authority.issue([host]);
  const secure = createSecureServer({ cert, key, allowHTTP1: true }, answer);
  const securePort = options.secure === true ? await portOf(secure) : 0;
  const caFile = join(dir, 'upstream-ca.pem');
  writeFileSync(caFile, authority.caPem);
  const policyFile = join(dir, 'policy.yaml');
  const write = (text: string): void => writeFileSync(policyFile, text);
  write(policy(upstreamPort, securePort));
  const stateDir = join(dir, 's');
  const parsed: Settings = settingsSchema.parse({
    policy: policyFile,
    state_dir: stateDir,
    run_dir: join(dir, 'r'),
    data_plane: 'envoy',
    proxy: { port: 0, tls_port: options.mutual === true ? 0 : null },
    identity: { pod_agent: 'robot', trust_bundle_file: options.mutual === true ? caFile : '' },
    resolver: { hosts: { [host]: '127.0.0.1' } },
    upstream: { ca_files: [caFile] },
    ...settings,
    envoy: { binary: await envoyBinary(), ...(settings['envoy'] as object | undefined) },
  });
  const sidecar = await startSidecar({
    settings: parsed,
    log: pino({ level: process.env['TEST_LOG'] ?? 'silent' }),
  });
  const { data_plane: plane, ca } = await sidecar.status();
  const port = Number(new URL(plane.proxy).port);
  const ask = (path: string, asked: Asked = {}): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const sent = request(
        {
          host: '127.0.0.1',
          port,
          method: asked.method ?? 'GET',
          path: asked.target ?? `http://${host}:${upstreamPort}${path}`,
          headers: { host: `${host}:${upstreamPort}`, ...asked.headers },
          agent: asked.agent ?? false,
        },
        (response) => {
          const parts: Buffer[] = [];
          response.on('data', (part: Buffer) => parts.push(part));
          response.on('error', reject);
          response.on('end', () =>
            resolve({
              status: response.statusCode ?? 0,
              decision: String(response.headers['x-sallyport-decision'] ?? ''),
              headers: response.headers,
              body: Buffer.concat(parts).toString('utf8'),
            }),
          );
        },
      );
      sent.on('error', reject);
      sent.end(asked.body);
    });
  return {
    ...{ sidecar, port, upstreamPort, securePort, stateDir, seen, write, ask },
    ...{ caPem: readFileSync(ca.file, 'utf8'), authority },
    tlsPort: Number(new URL(plane.proxy_tls ?? 'https://none:0').port),
    release: () => {
      for (const end of held.splice(0)) end();
    },
    close: async () => {
      await sidecar.stop();
      upstream.closeAllConnections();
      await new Promise((resolve) => upstream.close(resolve));
      secure.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

export const keepAlive = (connections: number): Agent =>
  new Agent({ keepAlive: true, maxSockets: connections });

export const isLeased = ({ decision }: Answer): boolean => /^dec_[0-9A-Z]{26}#[1-9]\d*$/.test(decision);

/** Asks until an answer came by a lease; each must have passed. */
export async function heat(world: LeasedWorld, path: string, asked: Asked): Promise<Answer> {
  for (let asking = 0; asking < 200; asking += 1) {
    const answer = await world.ask(path, asked);
    if (answer.status !== 200) throw new Error(`${path} was answered ${answer.status} ${answer.body}`);
    if (isLeased(answer)) return answer;
  }
  throw new Error(`${path} was never leased`);
}
