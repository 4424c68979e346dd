/**
 * What `ext-authz` measures, all of it real and on loopback:
 *
 *   generator ─▶ Envoy, production listener and filters ─▶ a second Envoy that answers at once
 *                  └▶ the sidecar's process: policy, quota, journal, ledger
 *
 * `bare` is the same listener, upstream and access log without check and lease: what checking costs is the
 * difference. `http` is the same chain asking the same sidecar over HTTP instead of gRPC.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { formatIssue } from '../../config/policy/issue.ts';
import { parsePolicy } from '../../config/policy/parse.ts';
import { settingsSchema } from '../../config/settings.ts';
import { installEnvoy } from '../../envoy/binary.ts';
import { envoyConfig } from '../../envoy/config.ts';
import { envoyPaths } from '../../envoy/paths.ts';
import { freePort, ownAuthorities } from '../../envoy/ports.ts';
import { compilePolicy } from '../../filters/policy/compile.ts';
import { statusSchema } from '../../sidecar/status.ts';
import { bareConfig, httpConfig, upstreamConfig } from './envoys.ts';
import { type Ended, get, launch } from './processes.ts';

export const host = 'bench.sallyport.test';
export const answer = 'the answer of the upstream\n';
const root = dirname(dirname(import.meta.dirname));

export type Kind = 'bare' | 'grpc' | 'http' | 'leased' | 'embedded';

export type Target = Readonly<{
  kind: Kind;
  port: number;
  /** Absolute form, as clients send it to a proxy. */
  url: string;
  authority: string;
  /** Whether each answer carries its decision. */
  decided: boolean;
  /** Of the processes between generator and upstream, by name. */
  pids: Readonly<Record<string, number>>;
  /** The sidecar's admin socket; none where no sidecar takes part. */
  adminSocket: string | undefined;
  policyFile: string | undefined;
}>;

export type World = Readonly<{
  targets: ReadonlyMap<Kind, Target>;
  /** Requests that have reached the upstream. */
  received(): Promise<number>;
  close(): Promise<void>;
}>;

/** The example's kind of policy: a handful of rules, one of which lets the calls pass and one quota counts them. */
export const policyText = (port: number, forbidden = false): string => `version: 1
agents:
  bench: { identity: spiffe://sallyport.test/agent/bench, labels: { team: bench } }
rules:
  - { name: read, to: { hosts: [${host}], schemes: [http], ports: [${port}], methods: [GET, HEAD], paths: [/answer, /stream], internal: true }, allow: {} }
  - { name: write, to: { hosts: [${host}], schemes: [http], ports: [${port}], methods: [POST], paths: [/orders], internal: true }, allow: {} }
  - { name: never, to: { hosts: [${host}], paths: [/secret/**${forbidden ? ', /answer' : ''}] }, forbid: { reason: this path is not for agents } }
  - { name: labelled, to: { hosts: [other.sallyport.test] }, when: 'agent.labels.team == "bench" && request.method == "GET"', allow: {} }
quotas:
  - { name: calls, to: { hosts: [${host}] }, limit: 1000000000, window: 1h }
`;

/** Whether this tree has leases at all. */
export const hasLeases = Object.hasOwn(settingsSchema.shape, 'leases');

const toolsDir = (): string =>
  process.getuid?.() === 0 ? '/var/lib/sallyport/tools' : join(homedir(), '.local/state/sallyport/tools');

export async function openWorld(kinds: readonly Kind[], say: (line: string) => void): Promise<World> {
  const dir = mkdtempSync(join(tmpdir(), 'spb-'));
  const ends: Ended[] = [async () => rmSync(dir, { recursive: true, force: true })];
  const close = async (): Promise<void> => {
    for (const end of ends.splice(0).reverse()) await end();
  };
  try {
    // Envoy's user passes through to its own files.
    chmodSync(dir, 0o755);
    const given = process.env['SALLYPORT_ENVOY'];
    const binary = given === undefined || given === '' ? await installEnvoy(toolsDir(), say) : given;
    const upstream = await startUpstream(dir, binary, ends);
    const targets = new Map<Kind, Target>();
    for (const kind of kinds) {
      if (kind === 'leased' && !hasLeases) say('no leases in this tree: their figures are left out');
      else targets.set(kind, await startTarget(kind, { dir, binary, upstreamPort: upstream.port, ends }));
    }
    return { targets, received: upstream.received, close };
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

type Ground = Readonly<{ dir: string; binary: string; upstreamPort: number; ends: Ended[] }>;

const envoyCommand = (binary: string, config: string): string[] => [
  ...[binary, '-c', config, '--concurrency', '1', '--disable-hot-restart', '-l', 'error'],
  ...['--file-flush-interval-msec', '200'],
];

async function startUpstream(dir: string, binary: string, ends: Ended[]) {
  const port = await freePort('127.0.0.1', 0, []);
  const socketPath = join(dir, 'upstream.sock');
  const config = join(dir, 'upstream.json');
  writeFileSync(config, JSON.stringify(upstreamConfig(port, socketPath, answer)));
  const isUp = async (): Promise<boolean> => (await get({ port }, '/answer')).body === answer;
  ends.push((await launch(envoyCommand(binary, config), join(dir, 'upstream.log'), isUp)).end);
  const received = async (): Promise<number> => {
    const { body } = await get({ socketPath }, '/stats?filter=http.upstream.downstream_rq_total', {
      host: 'a',
    });
    return Number(/: (\d+)/.exec(body)?.[1] ?? Number.NaN);
  };
  return { port, received };
}

async function startTarget(kind: Kind, ground: Ground): Promise<Target> {
  const { dir, binary, upstreamPort, ends } = ground;
  const stateDir = join(dir, kind, 's');
  const runDir = join(dir, kind, 'r');
  for (const path of [stateDir, runDir]) mkdirSync(path, { recursive: true, mode: 0o755 });
  const authority = `${host}:${upstreamPort}`;
  const url = `http://${authority}/answer`;
  const port = await freePort('127.0.0.1', 0, []);
  const passes = (at: number, decided: boolean) => async (): Promise<boolean> => {
    const { status, headers, body } = await get({ port: at }, url, { host: authority });
    return status === 200 && body === answer && (!decided || headers['x-sallyport-decision'] !== undefined);
  };
  const policyFile = join(dir, kind, 'policy.yaml');
  writeFileSync(policyFile, policyText(upstreamPort));
  const settings = {
    policy: policyFile,
    state_dir: stateDir,
    run_dir: runDir,
    data_plane: kind === 'embedded' ? 'embedded' : 'envoy',
    identity: { pod_agent: 'bench' },
    proxy: { port },
    resolver: { hosts: { [host]: '127.0.0.1' } },
    envoy: { binary },
    ...(kind === 'http' ? { ext_authz: { http_socket: join(runDir, 'http.sock') } } : {}),
    ...(hasLeases ? { leases: { enabled: kind === 'leased' } } : {}),
  };
  const target = { kind, url, authority, decided: kind !== 'bare' };
  const adminSocket = join(runDir, 'admin.sock');

  let sidecar = 0;
  if (kind !== 'bare') {
    const config = join(dir, kind, 'sallyport.yaml');
    writeFileSync(config, JSON.stringify(settings));
    const command = [process.execPath, join(root, 'sidecar/cli/main.ts'), 'start', '--config', config];
    const isUp = async (): Promise<boolean> =>
      (await passes(port, true)()) &&
      (await get({ socketPath: adminSocket }, '/ready', { host: 'a' })).status === 200;
    const started = await launch(command, join(dir, kind, 'sidecar.log'), isUp);
    ends.push(started.end);
    sidecar = started.pid;
    const { body } = await get({ socketPath: adminSocket }, '/v1/status', { host: 'a' });
    const { processes } = statusSchema.parse(JSON.parse(body));
    const envoy = processes.find(({ name }) => name === 'envoy')?.pid;
    if (kind !== 'http')
      return {
        ...target,
        port,
        adminSocket,
        policyFile,
        pids: { sidecar, ...(envoy === undefined ? {} : { envoy }) },
      };
  }

  const own = await freePort('127.0.0.1', 0, [port]);
  const paths = envoyPaths(
    join(dir, kind, 'own'),
    join(dir, kind, 'own'),
    '/etc/ssl/certs/ca-certificates.crt',
  );
  for (const path of [join(paths.dir, 'a'), paths.logDir]) mkdirSync(path, { recursive: true });
  const input = {
    settings: settingsSchema.parse(settings),
    policy: compiled(policyText(upstreamPort)),
    ...{ paths, port: own, tlsPort: undefined, trustBundlePem: undefined, ownName: '127.0.0.1' },
    ownAuthorities: ownAuthorities('127.0.0.1', [own]),
  };
  const { whole } = envoyConfig(input);
  const file = join(dir, kind, 'own.json');
  writeFileSync(
    file,
    JSON.stringify(
      kind === 'bare' ? bareConfig(whole, upstreamPort) : httpConfig(whole, join(runDir, 'http.sock')),
    ),
  );
  const started = await launch(envoyCommand(binary, file), join(dir, kind, 'own.log'), passes(own, false));
  ends.push(started.end);
  return {
    ...target,
    port: own,
    pids: { envoy: started.pid, ...(sidecar === 0 ? {} : { sidecar }) },
    adminSocket: sidecar === 0 ? undefined : adminSocket,
    policyFile: sidecar === 0 ? undefined : policyFile,
  };
}

function compiled(text: string) {
  const parsed = parsePolicy(text, 'bench.yaml');
  const result = parsed.ok ? compilePolicy(parsed.value, { uidOf: () => undefined }) : parsed;
  if (!result.ok) throw new Error(result.issues.map(formatIssue).join('\n'));
  return result.value;
}
