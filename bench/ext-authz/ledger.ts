/** A leased figure counts only once the ledger has settled every request behind it. */
import { get } from './processes.ts';
import type { Target } from './world.ts';

const settleMs = 30_000;
/** More than the access log's flush and the ledger's next look. */
const quietMs = 700;

export type Settled = Readonly<{ sent: number; open: number }>;

/** What the sidecar's ledger says so far. */
async function settled({ adminSocket }: Target): Promise<Settled> {
  if (adminSocket === undefined) throw new Error('bare Envoy has no ledger');
  const { body } = await get({ socketPath: adminSocket }, '/metrics', { host: 'a' });
  const value = (name: string): number => Number(new RegExp(`^${name} (\\d+)`, 'm').exec(body)?.[1] ?? 0);
  return {
    sent: value('sallyport_settled_calls_total\\{kind="Sent"\\}'),
    open: value('sallyport_ledger_open_decisions'),
  };
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Once nothing is open and nothing more is settled: all that came before is counted. */
export async function idle(target: Target): Promise<Settled> {
  let last = await settled(target);
  for (const until = performance.now() + settleMs; performance.now() < until; ) {
    await pause(quietMs);
    const now = await settled(target);
    if (now.open === 0 && now.sent === last.sent) return now;
    last = now;
  }
  throw new Error(
    `the ledger of ${target.kind} has ${last.open} open decisions after ${settleMs} ms without load`,
  );
}

/**
 * Waits until the ledger has settled exactly as many calls as the upstream has received.
 * @param received how many so far; those that were under way when the load ended still come.
 * @returns how long that took, in milliseconds.
 */
export async function settles(
  target: Target,
  before: Settled,
  received: () => Promise<number>,
): Promise<number> {
  const started = performance.now();
  for (;;) {
    const [now, calls] = [await settled(target), await received()];
    const sent = now.sent - before.sent;
    const tookMs = performance.now() - started;
    if (sent === calls && now.open === 0) return tookMs;
    if (tookMs > settleMs)
      throw new Error(
        `the upstream received ${calls} requests of ${target.kind}; the ledger settled ${sent}, and ${now.open} decisions are open`,
      );
    await pause(100);
  }
}
