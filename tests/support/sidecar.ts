/** A real sidecar on the embedded plane as a child process, with a real upstream and a policy about it. */
import { type ChildProcess, execFile } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createExampleAuthority } from '../../examples/upstream/certificates.ts';
import { startUpstream, type Upstream } from '../../examples/upstream/server.ts';
import { type Status, statusSchema } from '../../sidecar/status.ts';
import { cli, collect, type Home, makeHome, type Ran, type RunOptions, spawnCli, until } from './cli.ts';

export const testHost = 'demo.sallyport.test';
export const agentUid = 20_201;

export type Bench = Readonly<{
  home: Home;
  upstream: Upstream;
  policyFile: string;
  plain: string;
  secure: string;
  /** The command line with this bench's directories. */
  cli(args: readonly string[], options?: RunOptions): Promise<Ran>;
  close(): Promise<void>;
}>;

export const policyText = (ports: string, extra = ''): string => `version: 1
agents:
  tester:
    identity: spiffe://sallyport.test/agent/tester
    users: [${process.getuid?.() ?? 0}${process.getuid?.() === 0 ? '' : `, ${agentUid}`}]
${process.getuid?.() === 0 ? `  confined:\n    identity: spiffe://sallyport.test/agent/confined\n    users: [${agentUid}]\n` : ''}rules:
  - name: read
    to: { hosts: [${testHost}], ports: ${ports}, methods: [GET], paths: [/hello, /stream], internal: true }
    allow: {}
  - name: limited
    to: { hosts: [${testHost}], ports: ${ports}, methods: [GET], paths: [/limited], internal: true }
    allow: {}
  - name: orders
    to: { hosts: [${testHost}], ports: ${ports}, methods: [POST], paths: [/orders], internal: true }
    hold: { approvers: operators, wait: 20s, timeout: 1h, reason: orders cost money }
quotas:
  - { name: three, rules: [limited], limit: 3, window: 1h }
approvers:
  operators: { members: [dana, lee] }
${extra}`;

export async function makeBench(): Promise<Bench> {
  const home = makeHome();
  const authority = await createExampleAuthority();
  const upstream = await startUpstream({
    httpPort: 0,
    httpsPort: 0,
    host: '127.0.0.1',
    tls: await authority.issue([testHost]),
  });
  const ports = `[${upstream.httpPort}, ${upstream.httpsPort}]`;
  const policyFile = join(home.dir, 'policy.yaml');
  const caFile = join(home.dir, 'upstream-ca.pem');
  const config = join(home.dir, 'sallyport.yaml');
  writeFileSync(policyFile, policyText(ports));
  writeFileSync(caFile, authority.caPem);
  writeFileSync(
    config,
    `policy: ${policyFile}\nresolver: { hosts: { ${testHost}: 127.0.0.1 } }\nupstream: { ca_files: [${caFile}] }\n`,
  );
  for (const dir of ['work']) {
    mkdirSync(join(home.dir, dir));
    chmodSync(join(home.dir, dir), 0o777);
  }
  const env = { ...home.env, SALLYPORT_CONFIG: config };
  return {
    home: { ...home, env },
    upstream,
    policyFile,
    plain: `http://${testHost}:${upstream.httpPort}`,
    secure: `https://${testHost}:${upstream.httpsPort}`,
    cli: (args, options = {}) => cli(args, { ...options, env: { ...env, ...options.env } }),
    close: async () => {
      await cli(['stop'], { env });
      await upstream.close();
      home.remove();
    },
  };
}

export type Running = Readonly<{
  child: ChildProcess;
  status: Status;
  log(): string;
  ended: Promise<Ran>;
}>;

/** `sallyport start --json`: resolves once it said its one value. */
export async function startRunning(
  bench: Bench,
  args: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<Running> {
  const child = spawnCli(['start', '--json', ...args], { env: { ...bench.home.env, ...env } });
  const seen = collect(child);
  let gone = false;
  child.once('exit', () => {
    gone = true;
  });
  const line = await until('the sidecar to be ready', () => {
    if (gone) throw new Error(`the sidecar ended: ${seen.out()}${seen.err()}`);
    return seen.out().includes('\n') ? seen.out() : undefined;
  });
  const said: unknown = JSON.parse(line);
  if (!statusSchema.safeParse(said).success) throw new Error(`the sidecar said ${line.slice(0, 2_000)}`);
  return { child, status: statusSchema.parse(said), log: seen.err, ended: seen.ended };
}

/** curl(1) through the proxy; `HTTP status` and body. Works as a user of the machine would. */
export function curl(
  status: Status,
  args: readonly string[],
  signal?: AbortSignal,
): Promise<{ code: number; body: string }> {
  return new Promise((resolve, reject) => {
    execFile(
      'curl',
      [
        ...['-sS', '-x', status.data_plane.proxy, '--cacert', status.ca.file, '--max-time', '60'],
        ...['-w', '\n%{http_code}', ...args],
      ],
      { env: { PATH: process.env['PATH'] ?? '' }, ...(signal === undefined ? {} : { signal }) },
      (error, out) => {
        const cut = out.lastIndexOf('\n');
        if (cut === -1) reject(error ?? new Error('curl said nothing'));
        else resolve({ code: Number(out.slice(cut + 1)), body: out.slice(0, cut) });
      },
    );
  });
}
