/** The separate verifier, run as its user runs it: it shares no code with what it verifies. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createRecorder } from '../../filters/audit/audit-record.ts';
import { eraseContent } from '../../filters/audit/erase.ts';
import { noteKey, noteTypes, vkeyOf } from '../../filters/audit/note.ts';
import { prune } from '../../filters/audit/retention.ts';
import { signNote } from '../../filters/audit/signers.ts';
import { createIds } from '../../filters/common/ids.ts';
import { journalFiles } from '../../filters/common/journal-segments.ts';
import { fuzzRuns } from '../support/fuzz.ts';
import { openLogWorld, somePair } from '../support/log-world.ts';
import { movingClock } from '../support/moving-clock.ts';
import { someDecision } from '../support/some-record.ts';
import { type BuiltLog, buildLog, runVerifier, tampered } from '../support/tampered-logs.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const work = mkdtempSync(join(tmpdir(), 'sallyport-verifier-'));
let log: BuiltLog;
beforeAll(async () => {
  log = await buildLog(join(work, 'state'), 3_000);
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

it('is one file of under 200 lines that imports nothing but Node', () => {
  const text = readFileSync(join(import.meta.dirname, '../../examples/verifier/verify.mjs'), 'utf8');
  expect(text.trimEnd().split('\n').length).toBeLessThan(200);
  const imports = [...text.matchAll(/from '([^']+)'/g)].map((match) => match[1]);
  expect(imports.every((name) => name?.startsWith('node:'))).toBe(true);
  expect(imports.length).toBeGreaterThan(1);
});

it('accepts a log with restarts and a rotation of its keys, its content and its past', async () => {
  // `npm run bench -- audit` does all of this with a million. More than 65,536: then there are three levels.
  const { directory, keys, journal, old, size } = await buildLog(join(work, 'large'), 66_000);
  const args = ['--keys', keys, '--journal', journal, '--old', old, '--size', String(size)];
  const verdict = await runVerifier(directory, args);
  expect(verdict).toEqual({
    accepted: true,
    code: 0,
    said: `example.org/log: ${size} leaves, 50 agents, 0 witnesses of ${size}, content: ${size} lines whole, 0 erased: all is well`,
  });
});

for (const { name, make, args, says } of tampered)
  it(`rejects ${name}`, async () => {
    const directory = await make(log, join(work, 'tampered'));
    const verdict = await runVerifier(directory, ['--keys', log.keys, ...(args?.(log) ?? [])]);
    expect(verdict).toMatchObject({ accepted: false, said: expect.stringMatching(says) });
  });

it('rejects a journal that was edited', async () => {
  const journal = join(work, 'journal');
  cpSync(log.journal, journal, { recursive: true });
  const file = join(journal, journalFiles(journal)[0] ?? '');
  writeFileSync(file, readFileSync(file, 'utf8').replace('"dec_7"', '"dec_8"'));
  const verdict = await runVerifier(log.directory, ['--keys', log.keys, '--journal', journal]);
  expect(verdict).toMatchObject({ accepted: false, said: expect.stringContaining('no leaf commits to') });
});

it('says that nothing was checked, and nothing of the log, where it cannot be read or asked', async () => {
  for (const [directory, args, says] of [
    [
      join(work, 'nowhere'),
      ['--keys', log.keys],
      /^not checked: .*nowhere\/checkpoint cannot be read \(ENOENT\)$/,
    ],
    [log.directory, ['--keys', join(work, 'no-keys')], /^not checked: .*no-keys cannot be read \(ENOENT\)$/],
    [
      log.directory,
      ['--keys', log.keys, '--nothing'],
      /^not checked: Unknown option '--nothing'.*\nusage: /s,
    ],
    [log.directory, ['--keys', log.keys, '--pruned', '-x'], /^not checked: .*\nusage: /s],
    [log.directory, ['--keys', log.keys, '--size', 'many'], /^not checked: --size many is no whole number$/],
    [log.directory, [], /^not checked: LOG and --keys are needed\nusage: /],
  ] as const)
    expect(await runVerifier(directory, args)).toMatchObject({ code: 2, said: expect.stringMatching(says) });
  const edited = await tampered[0]?.make(log, join(work, 'tampered'));
  expect(await runVerifier(edited ?? '', ['--keys', log.keys])).toMatchObject({ code: 1 });
  const help = await runVerifier(log.directory, ['--help']);
  expect(help).toMatchObject({
    code: 0,
    said: expect.stringMatching(/^usage: .*exit status: 0 all is well/s),
  });
});

const small = async () => {
  const pair = somePair();
  const world = openLogWorld(temporaryDirectory(), pair, { fileBytesMax: 40_000 });
  for (let i = 0; i < 1_000; i += 1)
    world.journal.append(someDecision({ id: `dec_${i}x`, agent: `spiffe://example.org/${i % 3}` }));
  await world.log.flush();
  const clock = movingClock(Date.now());
  const record = createRecorder({
    ...{ clock, ids: createIds(clock), policyVersion: () => '0123456789ab' },
    append: (one) => world.journal.append(one),
  });
  const journal = join(world.stateDir, 'journal');
  return { ...world, pair, clock, record, files: journal, keysFile: join(world.directory, 'vkeys') };
};

it('accepts a log whose content was erased and pruned, and one whose tiles were pruned too', async () => {
  const world = await small();
  const { stateDir, log: own, record, clock } = world;
  await eraseContent({ stateDir, journal: world.journal, log: own, record }, 'dec_998x', 'dana', 'asked for');
  await prune(
    { stateDir, log: own, record, clock },
    { contentMs: 0, contentMsMin: 0, contentBytesMax: 0, tilesMs: undefined },
  );
  const args = ['--keys', world.keysFile, '--journal', world.files];
  expect(await runVerifier(world.directory, args)).toMatchObject({
    accepted: true,
    said: expect.stringMatching(/1002 leaves, 4 agents, .* \d+ lines whole, 1 erased/),
  });
  await prune(
    { stateDir, log: own, record, clock },
    { contentMs: 0, contentMsMin: 0, contentBytesMax: 0, tilesMs: -1 },
  );
  expect(await runVerifier(world.directory, args)).toMatchObject({
    accepted: false,
    said: expect.stringContaining('is missing'),
  });
  expect(await runVerifier(world.directory, [...args, '--pruned', '512'])).toMatchObject({ accepted: true });
  await world.close();
});

it('counts the witnesses that cosigned, of both kinds, and each once', async () => {
  const world = await small();
  await world.close();
  const file = join(world.directory, 'checkpoint');
  const note = readFileSync(file, 'utf8');
  const body = note.slice(0, note.lastIndexOf('\n\n') + 1);
  const [ed25519, mlDsa] = somePair('witness.example/one');
  if (ed25519 === undefined || mlDsa === undefined) throw new Error('no pair');
  const cosigner = {
    key: noteKey('witness.example/one', noteTypes.cosignatureEd25519, ed25519.key.publicKey),
    privateKey: ed25519.privateKey,
  };
  const other = somePair('witness.example/two').slice(1);
  const all = [cosigner, mlDsa, ...other];
  const cosigned = note + all.map((signer) => signNote(signer, body, 1_800_000_000)).join('');
  writeFileSync(file, cosigned);
  const witnesses = join(world.stateDir, 'witnesses');
  writeFileSync(witnesses, all.map(({ key }) => `${vkeyOf(key)}\n`).join(''));
  const args = ['--keys', world.keysFile, '--witnesses', witnesses];
  expect((await runVerifier(world.directory, [...args, '--quorum', '2'])).said).toContain('2 witnesses');
  expect(await runVerifier(world.directory, [...args, '--quorum', '3'])).toMatchObject({ accepted: false });
  expect(await runVerifier(world.directory, ['--keys', witnesses])).toMatchObject({ accepted: false });

  // As a sidecar keeps it: beside the newest checkpoint.
  const witnessed = join(world.directory, 'checkpoint.witnessed');
  writeFileSync(file, note);
  expect(await runVerifier(world.directory, [...args, '--quorum', '1'])).toMatchObject({ accepted: false });
  writeFileSync(witnessed, cosigned);
  expect((await runVerifier(world.directory, [...args, '--quorum', '2'])).said).toContain('2 witnesses');
  writeFileSync(witnessed, cosigned.replace(/\n\d+\n/, '\n1\n'));
  expect(await runVerifier(world.directory, args)).toMatchObject({ accepted: false });
});

it('refuses options that it cannot read rather than checking less', async () => {
  const { directory, keys } = log;
  for (const args of [
    [],
    ['--keys', keys, '--olds', log.old],
    ['--keys', keys, '--pruned', 'all'],
    ['--keys', keys, '--size', 'x'],
    ['--keys', join(work, 'nothing')],
    ['--keys', keys, '--old', keys],
  ])
    expect((await runVerifier(directory, args)).accepted).toBe(false);
});

it('rejects every log of which one byte was changed', async () => {
  const world = await small();
  await world.close();
  const files = ['checkpoint', 'tile/0/000', 'tile/0/003.p/232', 'tile/1/000.p/3', 'tile/entries/001'];
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...files),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      async (path, at, by) => {
        const file = join(world.directory, path);
        const bytes = readFileSync(file);
        const changed = Buffer.from(bytes);
        changed[at % bytes.length] = (bytes[at % bytes.length] ?? 0) ^ by;
        writeFileSync(file, changed);
        const { accepted } = await runVerifier(world.directory, ['--keys', world.keysFile]);
        writeFileSync(file, bytes);
        expect(accepted).toBe(false);
      },
    ),
    { ...fuzzRuns, numRuns: 25 },
  );
});
