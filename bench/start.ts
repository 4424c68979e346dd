/**
 * `start`: a cold process to its first proxied answer, and what the sidecar weighs: idle, after 10,000 decisions,
 * and once health and metrics were asked for, which loads the admin API. The embedded plane is measured, because
 * its process is the sidecar and nothing else. Bare Node stands beside it, from the same run.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type RequestOptions, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Bench, type Figures, median } from './report.ts';

const root = dirname(import.meta.dirname);
const rounds = 3;
const decisions = 10_000;

const rssMiB = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? Number.NaN) / 1_024;

const policy = (port: number): string => `version: 1
agents:
  bench: { identity: spiffe://sallyport.test/agent/bench }
rules:
  - { name: one, to: { hosts: [bench.sallyport.test], ports: [${port}], methods: [GET], internal: true }, allow: {} }
`;

const statusOf = (options: RequestOptions, decided: boolean): Promise<number> =>
  new Promise((resolve) => {
    const call = request({ ...options, agent: false }, (response) => {
      const answered = !decided || /^dec_/.test(String(response.headers['x-sallyport-decision']));
      response.resume().on('end', () => resolve(answered ? (response.statusCode ?? 0) : 0));
    });
    call.on('error', () => resolve(0)).end();
  });

/** One GET through the proxy, on a connection of its own; resolves to the status, or 0 where no decision was made. */
const get = (proxyPort: number, upstreamPort: number): Promise<number> =>
  statusOf(
    { host: '127.0.0.1', port: proxyPort, path: `http://bench.sallyport.test:${upstreamPort}/` },
    true,
  );

const exited = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => void child.once('exit', () => resolve()));

/** What Node alone takes to say a word, and weighs then. */
async function bareNode(): Promise<Figures> {
  const started = performance.now();
  const child = spawn(process.execPath, ['-e', "console.log('up'); setInterval(() => {}, 1000)"], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ended = exited(child);
  await new Promise((resolve) => child.stdout.once('data', resolve));
  const figures = { bare_node_ms: performance.now() - started, bare_node_rss_mib: rssMiB(child.pid ?? 0) };
  child.kill('SIGTERM');
  await ended;
  return figures;
}

async function round(say: (line: string) => void): Promise<Figures> {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-bench-'));
  const upstream = createServer((_, response) => void response.end('ok'));
  await new Promise<void>((resolve) => void upstream.listen(0, '127.0.0.1', resolve));
  const upstreamPort = (upstream.address() as AddressInfo).port;
  const free = createServer();
  await new Promise<void>((resolve) => void free.listen(0, '127.0.0.1', resolve));
  const proxyPort = (free.address() as AddressInfo).port;
  await new Promise((resolve) => free.close(resolve));
  writeFileSync(join(folder, 'policy.yaml'), policy(upstreamPort));
  const settings = {
    policy: join(folder, 'policy.yaml'),
    state_dir: join(folder, 'state'),
    run_dir: join(folder, 'run'),
    data_plane: 'embedded',
    identity: { pod_agent: 'bench' },
    proxy: { port: proxyPort },
    resolver: { hosts: { 'bench.sallyport.test': '127.0.0.1' } },
  };
  writeFileSync(join(folder, 'sallyport.yaml'), JSON.stringify(settings));
  const started = performance.now();
  const child = spawn(
    process.execPath,
    [join(root, 'sidecar/cli/main.ts'), 'start', '--config', join(folder, 'sallyport.yaml')],
    { stdio: 'ignore' },
  );
  const ended = exited(child);
  try {
    const pid = child.pid ?? 0;
    const until = started + 30_000;
    while ((await get(proxyPort, upstreamPort)) !== 200) {
      if (performance.now() > until || child.exitCode !== null)
        throw new Error('the sidecar gave no first answer within 30 s');
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const first = performance.now() - started;
    const idle = rssMiB(pid);
    for (let done = 0; done < decisions; done += 20) {
      const statuses = await Promise.all(Array.from({ length: 20 }, () => get(proxyPort, upstreamPort)));
      if (statuses.some((status) => status !== 200)) throw new Error(`a call failed: ${statuses.join(' ')}`);
    }
    const loaded = rssMiB(pid);
    const socketPath = join(folder, 'run', 'admin.sock');
    for (const path of ['/health', '/metrics'])
      if ((await statusOf({ socketPath, path }, false)) !== 200)
        throw new Error(`${path} did not answer 200`);
    const probed = rssMiB(pid);
    say(
      `first answer ${first.toFixed(0)} ms, ${idle.toFixed(0)} MiB idle, ${loaded.toFixed(0)} MiB after ${decisions} decisions, ${probed.toFixed(0)} MiB once probed`,
    );
    return { first_answer_ms: first, rss_idle_mib: idle, rss_loaded_mib: loaded, rss_probed_mib: probed };
  } finally {
    child.kill('SIGTERM');
    await ended;
    await new Promise((resolve) => upstream.close(resolve));
    rmSync(folder, { recursive: true, force: true });
  }
}

export const bench: Bench = {
  about: `${rounds} cold starts, each followed by ${decisions} decisions`,
  bars: [
    { figure: 'first_answer_ms', at: 'most', value: 2_000 },
    { figure: 'rss_loaded_mib', at: 'most', value: 110 },
  ],
  run: async (say) => {
    const results: Figures[] = [];
    for (let index = 0; index < rounds; index += 1)
      results.push({ ...(await round(say)), ...(await bareNode()) });
    const names = Object.keys(results[0] ?? {});
    return Object.fromEntries(
      names.map((name) => [name, median(results.map((result) => result[name] ?? Number.NaN))]),
    );
  },
};
