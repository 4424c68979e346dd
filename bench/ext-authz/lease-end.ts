/** How long a lease outlives the policy that granted it: a forbid is written, and the last leased call that still passes counts. */
import { renameSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { policyText, type Target } from './world.ts';

const callers = 8;
const warmMs = 1_000;
/** So long after the last call that passed it is believed that none will. */
const quietMs = 1_500;
const limitMs = 15_000;

type Answered = Readonly<{ status: number; decision: string }>;

function caller(target: Target, agent: Agent): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: '127.0.0.1', port: target.port, path: target.url, headers: { host: target.authority }, agent },
      (response) => {
        response.resume();
        response.on('error', reject);
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            decision: String(response.headers['x-sallyport-decision'] ?? ''),
          }),
        );
      },
    );
    sent.on('error', reject);
    sent.end();
  });
}

/** Renamed into place, as an editor or a deployment does. */
function write(file: string, text: string): void {
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}

/** Milliseconds from the rename to the answer of the last leased call that passed. */
export async function leaseEndMs(target: Target): Promise<number> {
  const { policyFile, authority } = target;
  if (policyFile === undefined) throw new Error('bare Envoy has no policy');
  const port = Number(authority.split(':').at(-1));
  const agent = new Agent({ keepAlive: true, maxSockets: callers });
  let changedMs = Number.POSITIVE_INFINITY;
  let lastLeasedMs = 0;
  let lastPassedMs = performance.now();
  let leasedBefore = 0;
  let isOver = false;
  const run = async (): Promise<void> => {
    while (!isOver) {
      const { status, decision } = await caller(target, agent);
      if (status !== 200) continue;
      const nowMs = performance.now();
      lastPassedMs = nowMs;
      if (!decision.includes('#')) continue;
      if (nowMs < changedMs) leasedBefore += 1;
      else lastLeasedMs = nowMs - changedMs;
    }
  };
  const running = Array.from({ length: callers }, run);
  const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
  try {
    await pause(warmMs);
    write(policyFile, policyText(port, true));
    changedMs = performance.now();
    while (performance.now() - lastPassedMs < quietMs) {
      if (performance.now() - changedMs > limitMs)
        throw new Error(`calls still pass ${limitMs} ms after they were forbidden`);
      await pause(20);
    }
  } finally {
    isOver = true;
    write(policyFile, policyText(port));
    await Promise.all(running);
    while ((await caller(target, agent)).status !== 200) await pause(50);
    agent.destroy();
  }
  if (leasedBefore === 0) throw new Error('no call was leased before the policy changed');
  return lastLeasedMs;
}
