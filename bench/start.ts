/**
 * `start`: a cold process to its first proxied answer, and what the sidecar weighs, idle and after 10,000 decisions.
 * The embedded plane is measured, because its process is the sidecar and nothing else.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Bench, median } from './report.ts';

const root = dirname(import.meta.dirname);
const rounds = Number(process.env['ROUNDS'] ?? 3);
const decisions = 10_000;

const rssMiB = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? Number.NaN) / 1_024;

const policy = (port: number): string => `version: 1
agents:
  bench: { identity: spiffe://sallyport.test/agent/bench }
rules:
  - { name: one, to: { hosts: [bench.sallyport.test], ports: [${port}], methods: [GET], internal: true }, allow: {} }
`;

/** One GET through the proxy; resolves to the status, or 0 where nobody answers yet. */
const get = (proxyPort: number, upstreamPort: number): Promise<number> =>
  new Promise((resolve) => {
    const call = request(
      {
        host: '127.0.0.1',
        port: proxyPort,
        path: `http://bench.sallyport.test:${upstreamPort}/`,
        agent: false,
      },
      (response) => {
        response.resume().on('end', () => resolve(response.statusCode ?? 0));
      },
    );
    call.on('error', () => resolve(0)).end();
  });

async function round(say: (line: string) => void): Promise<{ first: number; idle: number; loaded: number }> {
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
    {
      stdio: 'ignore',
    },
  );
  const ended = new Promise<void>((resolve) => void child.on('exit', () => resolve()));
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
    say(
      `first answer ${first.toFixed(0)} ms, ${idle.toFixed(0)} MiB idle, ${loaded.toFixed(0)} MiB after ${decisions} decisions`,
    );
    return { first, idle, loaded };
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
    const results = [];
    for (let index = 0; index < rounds; index += 1) results.push(await round(say));
    return {
      first_answer_ms: median(results.map((result) => result.first)),
      rss_idle_mib: median(results.map((result) => result.idle)),
      rss_loaded_mib: median(results.map((result) => result.loaded)),
    };
  },
};
