/**
 * `audit`: a log of a million leaves, with three restarts and a rotation of its keys, grown by the production code
 * from a real journal; then the separate verifier over it, and over every tampered log of the tests' set.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readCheckpoint } from '../filters/audit/log.ts';
import { encodeReceipt, makeReceipt } from '../filters/audit/receipt.ts';
import { createTileReader } from '../filters/audit/tile-reader.ts';
import { openLogWorld } from '../tests/support/log-world.ts';
import { someDecision } from '../tests/support/some-record.ts';
import { type BuiltLog, buildLog, runVerifier, tampered } from '../tests/support/tampered-logs.ts';
import { type Bench, type Figures, median } from './report.ts';

const leaves = Number(process.env['LEAVES'] ?? 1_000_000);
const receipts = 200;
const checkpoints = 50;

/** A receipt of any leaf, from files on. */
function receiptMs({ directory }: BuiltLog): number {
  const published = readCheckpoint(directory);
  if (published === undefined) throw new Error('the log has no checkpoint');
  const took = Array.from({ length: receipts }, (_, i) => {
    const began = performance.now();
    const index = Math.floor((i * published.size) / receipts);
    encodeReceipt(makeReceipt(createTileReader(directory, published.size), published, index, undefined));
    return performance.now() - began;
  });
  return median(took);
}

/** From a record to the signed checkpoint over it, synced, where nothing else waits. */
async function checkpointMs({ stateDir, pair }: BuiltLog): Promise<number> {
  const world = openLogWorld(stateDir, pair);
  const took: number[] = [];
  for (let i = 0; i < checkpoints; i += 1) {
    const began = performance.now();
    world.journal.append(someDecision());
    await world.log.flush();
    took.push(performance.now() - began);
  }
  await world.close();
  return median(took);
}

export const bench: Bench = {
  about: `a log of ${leaves} leaves, its verifier, and ${tampered.length} tampered logs`,
  bars: [
    { figure: 'append_us', at: 'most', value: 5 },
    { figure: 'build_s', at: 'most', value: 60 },
    { figure: 'accepted', at: 'least', value: 1 },
    { figure: 'tampered_accepted', at: 'most', value: 0 },
  ],
  run: async (say): Promise<Figures> => {
    const work = mkdtempSync(join(tmpdir(), 'sallyport-audit-'));
    try {
      const log = await buildLog(join(work, 'state'), leaves);
      say(`built in ${Math.round((log.appendMs + log.growMs) / 1_000)} s`);
      const began = performance.now();
      const all = ['--keys', log.keys, '--old', log.old, '--size', String(leaves), '--journal', log.journal];
      const { accepted, said } = await runVerifier(log.directory, all);
      const verifierS = (performance.now() - began) / 1_000;
      say(said);
      let wronglyAccepted = 0;
      for (const { name, make, args } of tampered) {
        const directory = await make(log, join(work, 'tampered'));
        const verdict = await runVerifier(directory, ['--keys', log.keys, ...(args?.(log) ?? [])]);
        if (verdict.accepted) wronglyAccepted += 1;
        say(`${name}: ${verdict.accepted ? 'ACCEPTED' : 'rejected'}: ${verdict.said}`);
      }
      return {
        leaves,
        build_s: (log.appendMs + log.growMs) / 1_000,
        append_us: (log.appendMs * 1_000) / leaves,
        leaves_per_s: (leaves * 1_000) / log.growMs,
        checkpoint_ms: await checkpointMs(log),
        receipt_ms: receiptMs(log),
        verifier_s: verifierS,
        accepted: accepted ? 1 : 0,
        tampered_logs: tampered.length,
        tampered_accepted: wronglyAccepted,
      };
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  },
};
