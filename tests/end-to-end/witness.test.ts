/** Two sidecars as their users start them: one witnesses the other's log. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseCheckpoint, parseNote, parseVkey, verifyNote } from '../../filters/audit/note.ts';
import { until } from '../support/cli.ts';
import { type Bench, curl, makeBench, startRunning } from '../support/sidecar.ts';

let log: Bench;
let neighbour: Bench;
beforeAll(async () => {
  log = await makeBench();
  neighbour = await makeBench();
});
afterAll(async () => {
  await log.close();
  await neighbour.close();
});

type Shown = { keys: { name: string; public: string }[] };
const vkeysOf = async (bench: Bench, name: string): Promise<string[]> => {
  const { keys } = JSON.parse((await bench.cli(['keys', 'list', '--json'])).out) as Shown;
  return keys.filter((key) => key.name === name).map((key) => key.public);
};

test('a neighbour’s cosignature is on the published checkpoint, and health tells of it', async () => {
  const first = await startRunning(log);
  const vkeys = await vkeysOf(log, 'log');
  const origin = vkeys[0]?.split('+')[0] ?? '';
  await log.cli(['stop']);
  await first.ended;

  const witness = await startRunning(neighbour, [], {
    SALLYPORT_WITNESS_LISTEN: '127.0.0.1:0',
    SALLYPORT_WITNESS_LOGS: JSON.stringify([{ origin, vkeys }]),
  });
  const url = await until(
    'the witness to listen',
    () => /cosigned at (http:\/\/[\d.:]+)/.exec(witness.log())?.[1],
  );
  const cosigners = await vkeysOf(neighbour, 'witness');
  expect(cosigners).toHaveLength(2);

  const running = await startRunning(log, [], {
    SALLYPORT_AUDIT_WITNESSES: JSON.stringify([{ url, vkeys: cosigners }]),
    SALLYPORT_AUDIT_WITNESS_QUORUM: '1',
    SALLYPORT_AUDIT_WITNESS_EVERY_MS: '100',
  });
  expect((await curl(running.status, [`${log.plain}/hello`])).code).toBe(200);
  const file = join(running.status.state_dir, 'audit', 'checkpoint.witnessed');
  const note = await until('a witnessed checkpoint', () =>
    existsSync(file) ? parseNote(readFileSync(file, 'utf8')) : undefined,
  );
  expect(parseCheckpoint(note.body).origin).toBe(origin);
  expect(verifyNote(note, vkeys.map(parseVkey))).toHaveLength(2);
  expect(verifyNote(note, cosigners.map(parseVkey))).toHaveLength(2);
  const status = JSON.parse((await log.cli(['status', '--json'])).out) as {
    health: { parts: { name: string; status: string; detail: string }[] };
  };
  expect(status.health.parts.find(({ name }) => name === 'witnesses')).toMatchObject({
    status: 'Healthy',
    detail: '1 of 1 cosign, 1 have to',
  });
});
