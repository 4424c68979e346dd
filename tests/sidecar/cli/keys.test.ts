/** `sallyport keys` as a user runs it, with and without a sidecar. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Bench, curl, makeBench, type Running, startRunning } from '../../support/sidecar.ts';

let bench: Bench;
let running: Running;
beforeAll(async () => {
  bench = await makeBench();
  running = await startRunning(bench);
});
afterAll(async () => bench.close());

type Shown = {
  file: string;
  kek: { where: string; weakness: string };
  keys: { id: string; state: string; sealed_by: string | null; by: string; record: string }[];
};
const keys = async (...args: string[]): Promise<Shown> => {
  const { code, out, err } = await bench.cli(['keys', ...args, '--json']);
  if (code !== 0) throw new Error(`${code}: ${out}${err}`);
  return JSON.parse(out) as Shown;
};
const states = (shown: Shown): string[] => shown.keys.map(({ id, state }) => `${id} ${state}`);
const stateDir = (): string => running.status.state_dir;

describe('beside a running sidecar', () => {
  test('the list names every key, and where the key-encryption key is', async () => {
    const shown = await keys('list');
    expect(states(shown).sort()).toEqual([
      'authority-ecdsa-p256-v1 active',
      'log-ed25519-v1 active',
      'log-ml-dsa-44-v1 active',
    ]);
    expect(shown.kek).toEqual({ where: `file ${stateDir()}.kek`, weakness: '' });
    expect(new Set(shown.keys.map(({ sealed_by }) => sealed_by)).size).toBe(1);
    const { out } = await bench.cli(['keys', 'list']);
    expect(out).toContain('log-ml-dsa-44-v1');
    expect(Math.max(...out.split('\n').map((line) => line.length))).toBeLessThan(300);
  });

  test('a rotation of the authority gives agents both, while the calls of those that know the old one go on', async () => {
    const before = readFileSync(running.status.ca.file, 'utf8');
    const shown = await keys('rotate', 'authority', '--by', 'dana');
    expect(states(shown)).toContain('authority-ecdsa-p256-v2 next');
    const after = readFileSync(running.status.ca.file, 'utf8');
    expect(after.startsWith(before)).toBe(true);
    expect(after.length).toBeGreaterThan(before.length * 1.5);
    expect(readFileSync(running.status.ca.bundle, 'utf8')).toContain(after.slice(before.length).trim());
    const old = join(bench.home.dir, 'old-ca.pem');
    writeFileSync(old, before);
    const answer = await curl({ ...running.status, ca: { ...running.status.ca, file: old } }, [
      `${bench.secure}/hello`,
    ]);
    expect(answer.code).toBe(200);
    const again = await bench.cli(['keys', 'rotate', 'authority']);
    expect([again.code, again.err]).toEqual([1, expect.stringContaining('is under way since')]);
  });

  test('a rotation at once signs by the new one at once, and is on record', async () => {
    const shown = await keys('rotate', 'authority', '--now', '--by', 'dana');
    expect(states(shown)).toContain('authority-ecdsa-p256-v3 active');
    expect(shown.keys.find(({ id }) => id === 'authority-ecdsa-p256-v3')).toMatchObject({
      by: 'dana',
      record: expect.stringMatching(/^aud_/),
    });
    expect((await curl(running.status, [`${bench.secure}/hello`])).code).toBe(200);
  });

  test('what is no key is wrong usage, and what is not there yet is told', async () => {
    expect(await bench.cli(['keys', 'rotate', 'crown'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('authority, log, witness'),
    });
    expect(await bench.cli(['keys', 'rotate', 'witness'])).toMatchObject({
      code: 1,
      err: expect.stringContaining('there is no key witness yet'),
    });
  });

  test('a rewrap gives a new key-encryption key, and the sidecar goes on', async () => {
    const old = readFileSync(`${stateDir()}.kek`, 'utf8');
    const { code, out } = await bench.cli(['keys', 'rewrap']);
    expect([code, out]).toEqual([0, expect.stringContaining('are sealed by')]);
    expect(readFileSync(`${stateDir()}.kek`, 'utf8')).not.toBe(old);
    expect(states(await keys('rotate', 'log'))).toContain('log-ed25519-v2 active');
  });
});

describe('without a sidecar', () => {
  beforeAll(async () => {
    await bench.cli(['stop']);
    await running.ended;
  });

  test('a key is rotated where it lies', async () => {
    const { code, out, err } = await bench.cli(['keys', 'rotate', 'log', '--now', '--by', 'lee', '--json']);
    expect([code, err]).toEqual([
      0,
      expect.stringContaining('the audit record is written at the next start'),
    ]);
    expect(states(JSON.parse(out) as Shown)).toContain('log-ed25519-v3 active');
  });

  test('a missing or wrong key-encryption key ends the start with its reason, and nothing is written over', async () => {
    const kek = `${stateDir()}.kek`;
    const right = readFileSync(kek, 'utf8');
    const file = join(stateDir(), 'keys', 'keys.json');
    const before = readFileSync(file, 'utf8');
    rmSync(kek);
    const missing = await bench.cli(['start']);
    expect([missing.code, missing.err]).toEqual([1, expect.stringContaining(`${kek} is not there`)]);
    writeFileSync(kek, `${Buffer.alloc(32, 1).toString('base64')}\n`, { mode: 0o600 });
    const wrong = await bench.cli(['start']);
    expect([wrong.code, wrong.err]).toEqual([1, expect.stringContaining('Nothing was changed')]);
    expect(readFileSync(file, 'utf8')).toBe(before);
    writeFileSync(kek, right, { mode: 0o600 });
  });

  test('the settings name another place: the keys are moved there, and the start goes by it', async () => {
    const place = join(bench.home.dir, 'elsewhere');
    writeFileSync(place, `${Buffer.alloc(32, 7).toString('base64')}\n`, { mode: 0o600 });
    const env = { SALLYPORT_KEYS_KEK_COMMAND: JSON.stringify(['cat', place]) };
    const early = await bench.cli(['start'], { env });
    expect([early.code, early.err]).toEqual([1, expect.stringContaining('keys rewrap --from-file OLD')]);
    const moved = await bench.cli(['keys', 'rewrap', '--from-file', `${stateDir()}.kek`, '--json'], { env });
    expect(JSON.parse(moved.out)).toMatchObject({ kek: { where: 'command cat' } });
    const again = await startRunning(bench, [], env);
    expect(again.status.health.status).toBe('Healthy');
    const shown = JSON.parse((await bench.cli(['keys', 'list', '--json'], { env })).out) as Shown;
    expect(shown.kek.where).toBe('command cat');
    // What was rotated without a sidecar is on record now.
    expect(shown.keys.find(({ id }) => id === 'log-ed25519-v3')?.record).toMatch(/^aud_/);
    await bench.cli(['stop']);
    await again.ended;
  });

  test.each([
    [['--from-file', 'x', '--from-command', '["y"]'], 'exclude each other'],
    [['--from-command', 'vault read'], 'JSON list'],
    [['--from-command', '[]'], 'JSON list'],
  ])('rewrap %j is wrong usage', async (args, why) => {
    expect(await bench.cli(['keys', 'rewrap', ...args])).toMatchObject({
      code: 2,
      err: expect.stringContaining(why),
    });
  });
});
