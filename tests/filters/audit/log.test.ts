import { spawn } from 'node:child_process';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { readIdentity } from '../../../filters/audit/identity.ts';
import { createPseudonyms, decodeLeaf, encodeLeaf, leafOf } from '../../../filters/audit/leaf.ts';
import { readCheckpoint, readVkeys } from '../../../filters/audit/log.ts';
import { consistencyPath, foldHashes, isConsistent, leafHash } from '../../../filters/audit/merkle.ts';
import { parseNote, verifyNote } from '../../../filters/audit/note.ts';
import { createTileReader } from '../../../filters/audit/tile-reader.ts';
import { decodeLine } from '../../../filters/common/journal-record.ts';
import { journalFiles } from '../../../filters/common/journal-segments.ts';
import { type LogWorld, openLogWorld, origin, somePair } from '../../support/log-world.ts';
import { refusalOf } from '../../support/refusal.ts';
import { someDecision, someHoldRecord } from '../../support/some-record.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const append = (world: LogWorld, count: number, from = 0): void => {
  for (let i = 0; i < count; i += 1)
    world.journal.append(
      someDecision({ id: `dec_${from + i}`, agent: `spiffe://example.org/${(from + i) % 3}` }),
    );
};

/** The leaves that the journal's lines stand for, made without the log. */
const leavesOf = (world: LogWorld): string[] => {
  const identity = readIdentity(world.stateDir);
  const pseudonym = createPseudonyms(identity?.agentsKey ?? Buffer.alloc(0));
  return world.lines().map((bytes) => {
    const line = decodeLine(bytes);
    if (line?.kind === 'erased') return line.leaf;
    if (line?.sequenced === undefined) throw new Error('a line without a number');
    return encodeLeaf(leafOf(line.record, line.sequenced, bytes, pseudonym));
  });
};

const rootOf = (leaves: readonly string[]): Buffer =>
  foldHashes(leaves.map((leaf) => leafHash(Buffer.from(leaf))));

/** Everything under the checkpoint is there, and is what the journal says. */
const expectWhole = (world: LogWorld, size: number): void => {
  const checkpoint = readCheckpoint(world.directory);
  expect([checkpoint?.size, checkpoint?.origin]).toEqual([size, origin]);
  const leaves = leavesOf(world).slice(0, size);
  expect(checkpoint?.root).toEqual(rootOf(leaves));
  const reader = createTileReader(world.directory, size);
  expect(leaves.map((_, i) => reader.entry(i).toString())).toEqual(leaves);
  expect(verifyNote(parseNote(checkpoint?.note ?? ''), world.keys())).toHaveLength(2);
};

it('grows a tree whose root, tiles and leaves are those of the journal', async () => {
  const world = openLogWorld(temporaryDirectory());
  for (const [count, size] of [
    [1, 1],
    [4, 5],
    [251, 256],
    [1, 257],
    [600, 857],
  ] as const) {
    append(world, count, size - count);
    await world.log.flush();
    expectWhole(world, size);
    expect(world.log.health()).toMatchObject({ size, behind: 0, failure: undefined });
  }
  expect(readVkeys(world.directory)).toEqual(world.signers.vkeys());
  expect(readdirSync(join(world.directory, 'tile/0')).sort()).toEqual(['000', '001', '002', '003.p']);
  expect(statSync(join(world.directory, 'tile/0/000')).size).toBe(8_192);
  expect(readdirSync(join(world.directory, 'tile/1/000.p')).sort()).toEqual(['1', '3']);
  expect(world.heard).toEqual([]);
  await world.close();
});

it('puts nothing of a record into its leaf, and nothing that could be guessed back', async () => {
  const world = openLogWorld(temporaryDirectory());
  const same = someDecision({ resource: 'https://hospital.example/patients/7', why: 'secret reason' });
  world.journal.append(same);
  world.journal.append(same);
  await world.log.flush();
  const bundle = readFileSync(join(world.directory, 'tile/entries/000.p/2'), 'latin1');
  for (const part of [same.resource, same.why, same.agent, same.id, 'hospital'])
    expect(bundle).not.toContain(part);
  const [one, two] = leavesOf(world).map(decodeLeaf);
  expect(Object.keys(one ?? {})).toEqual(['agent', 'agent_seq', 'at', 'digest', 'type', 'v']);
  // The same record twice: only number and digest differ, for each line has a salt of its own.
  expect([one?.agent, one?.at, one?.agent_seq, two?.agent_seq]).toEqual([two?.agent, two?.at, 1, 2]);
  expect(one?.digest).not.toBe(two?.digest);
  await world.close();
});

it('takes a batch in by itself, by count and by time', async () => {
  const world = openLogWorld(temporaryDirectory());
  const sizes: number[] = [];
  world.log.onPublished(({ size }) => sizes.push(size));
  append(world, limits.auditBatchRecords);
  for (let i = 0; i < 1_000 && sizes.length === 0; i += 1) await sleep(10);
  expect(sizes).toEqual([limits.auditBatchRecords]);
  append(world, 1);
  for (let i = 0; i < 1_000 && sizes.length === 1; i += 1) await sleep(10);
  expect(sizes).toEqual([limits.auditBatchRecords, limits.auditBatchRecords + 1]);
  await world.close();
});

it('goes on exactly where it was after restarts, each checkpoint consistent with the one before', async () => {
  const stateDir = temporaryDirectory();
  const pair = somePair();
  const seen: { size: number; root: Buffer }[] = [];
  let size = 0;
  for (const count of [3, 250, 10, 0, 300, 1, 700, 0]) {
    const world = openLogWorld(stateDir, pair, { fileBytesMax: 20_000 });
    append(world, count, size);
    size += count;
    // Half of the time what is left is taken in by the close.
    if (count % 2 === 0) await world.log.flush();
    await world.close();
    expectWhole(world, size);
    expect(world.heard).toEqual([]);
    const { root = Buffer.alloc(0) } = readCheckpoint(world.directory) ?? {};
    const reader = createTileReader(world.directory, size);
    for (const old of seen)
      expect(isConsistent(old, { size, root }, consistencyPath(old.size, size, reader.subtree))).toBe(true);
    seen.push({ size, root });
  }
});

it('keeps every checkpoint that it published through kills', async () => {
  const stateDir = temporaryDirectory();
  const pair = somePair();
  const keys = join(temporaryDirectory(), 'keys');
  writeFileSync(
    keys,
    pair
      .map(({ privateKey }) => privateKey.export({ type: 'pkcs8', format: 'pem' }).toString().trim())
      .join('\n\n'),
  );
  const worker = fileURLToPath(new URL('log-worker.ts', import.meta.url));
  const seen: { size: number; root: Buffer }[] = [];
  for (let round = 0; round < 4; round += 1) {
    const child = spawn(process.execPath, [worker, stateDir, keys], { stdio: ['ignore', 'pipe', 'inherit'] });
    const wanted = seen.length + 3;
    let text = '';
    for await (const chunk of child.stdout) {
      text += String(chunk);
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const [size = '', root = ''] = text.slice(0, end).split(' ');
        seen.push({ size: Number(size), root: Buffer.from(root, 'base64') });
        text = text.slice(end + 1);
      }
      if (seen.length >= wanted) child.kill('SIGKILL');
    }
  }
  const world = openLogWorld(stateDir, pair, { fileBytesMax: 200_000 });
  const lines = world.lines().length;
  append(world, 1);
  await world.log.flush();
  expectWhole(world, lines + 1);
  const reader = createTileReader(world.directory, lines + 1);
  const { root = Buffer.alloc(0) } = world.log.newest() ?? {};
  expect(seen.length).toBeGreaterThanOrEqual(12);
  for (const old of seen)
    expect(
      isConsistent(old, { size: lines + 1, root }, consistencyPath(old.size, lines + 1, reader.subtree)),
    ).toBe(true);
  // No agent's numbers have a gap or a repetition, whatever the kills interrupted.
  const last = new Map<string, number>();
  for (let i = 0; i <= lines; i += 1) {
    const leaf = decodeLeaf(reader.entry(i).toString());
    expect(leaf?.agent_seq).toBe((last.get(leaf?.agent ?? '') ?? 0) + 1);
    last.set(leaf?.agent ?? '', leaf?.agent_seq ?? 0);
  }
  await world.close();
});

it('recovers from a crash at any point', async () => {
  const stateDir = temporaryDirectory();
  const images = temporaryDirectory();
  const pair = somePair();
  const world = openLogWorld(stateDir, pair, { fileBytesMax: 50_000 });
  let appended = 0;
  const taken: string[] = [];
  // Copies of the directory while everything is under way: what a kill leaves behind.
  for (let i = 0; i < 24; i += 1) {
    append(world, 97, appended);
    appended += 97;
    const flushed = world.log.flush();
    for (let turns = i % 8; turns > 0; turns -= 1) await sleep(0);
    const image = join(images, String(i));
    cpSync(stateDir, image, { recursive: true });
    taken.push(image);
    await flushed;
  }
  await world.close();
  for (const image of taken) {
    const before = readCheckpoint(join(image, 'audit'));
    const again = openLogWorld(image, pair, { fileBytesMax: 50_000 });
    const lines = again.lines().length;
    again.journal.append(someHoldRecord());
    await again.log.flush();
    expectWhole(again, lines + 1);
    if (before !== undefined) {
      const reader = createTileReader(again.directory, lines + 1);
      const { root = Buffer.alloc(0) } = again.log.newest() ?? {};
      expect(
        isConsistent(
          before,
          { size: lines + 1, root },
          consistencyPath(before.size, lines + 1, reader.subtree),
        ),
      ).toBe(true);
    }
    expect(again.heard).toEqual([]);
    await again.close();
  }
});

const damaged = (what: string, change: (world: LogWorld) => void, says: RegExp): void =>
  it(`does not start where ${what}`, async () => {
    const stateDir = temporaryDirectory();
    const world = openLogWorld(stateDir);
    append(world, 300);
    await world.log.flush();
    await world.close();
    change(world);
    expect(() => openLogWorld(stateDir)).toThrow(says);
  });

const journalFile = ({ stateDir }: LogWorld): string =>
  join(stateDir, 'journal', journalFiles(join(stateDir, 'journal'))[0] ?? '');
const edit = (file: string, change: (text: string) => string): void =>
  writeFileSync(file, change(readFileSync(file, 'utf8')));

damaged(
  'a line that the checkpoint covers was changed',
  (world) => edit(journalFile(world), (text) => text.replace('"dec_299"', '"dec_29X"')),
  /do not give the root/,
);
damaged(
  'such a line was taken out',
  (world) => edit(journalFile(world), (text) => text.split('\n').toSpliced(290, 1).join('\n')),
  /covers 300 records, and the journal has 299/,
);
damaged(
  'the journal is gone',
  (world) => rmSync(join(world.stateDir, 'journal'), { recursive: true }),
  /has no byte/,
);
damaged(
  'the checkpoint is gone',
  (world) => rmSync(join(world.directory, 'checkpoint')),
  /checkpoint is gone/,
);
damaged(
  'the checkpoint is no note',
  (world) => edit(join(world.directory, 'checkpoint'), (text) => text.slice(9)),
  /damaged|is of/,
);
damaged(
  'the state is gone, and the journal does not go back to its beginning',
  (world) => {
    rmSync(join(world.directory, 'state.json'));
    edit(journalFile(world), (text) => text.slice(text.indexOf('\n') + 1));
  },
  /covers 300 records/,
);
damaged(
  'the state is damaged',
  (world) => edit(join(world.directory, 'state.json'), (text) => text.replace('"size":256', '"size":512')),
  /damaged/,
);
damaged(
  'the log has another name',
  (world) => edit(join(world.directory, 'log.json'), (text) => text.replace('example.org', 'example.com')),
  /a log keeps its name/,
);

it('begins again from the journal where only the state is gone', async () => {
  const stateDir = temporaryDirectory();
  const pair = somePair();
  const world = openLogWorld(stateDir, pair);
  append(world, 300);
  await world.log.flush();
  await world.close();
  rmSync(join(world.directory, 'state.json'));
  const again = openLogWorld(stateDir, pair);
  append(again, 5, 300);
  await again.log.flush();
  expectWhole(again, 305);
  await again.close();
});

it('refuses records while tiles cannot be written, and takes them in once they can', async () => {
  const world = openLogWorld(temporaryDirectory());
  append(world, 5);
  await world.log.flush();
  rmSync(join(world.directory, 'tile'), { recursive: true });
  // A file where the directory was: nothing can be written below it, not by root either.
  writeFileSync(join(world.directory, 'tile'), '');
  append(world, 5, 5);
  await expect(world.log.flush()).rejects.toMatchObject({ code: 'StateUnavailable' });
  expect(refusalOf(() => append(world, 1))).toBe('StateUnavailable');
  expect(world.log.health()).toMatchObject({
    size: 5,
    behind: 5,
    failure: expect.stringContaining('cannot grow'),
  });
  rmSync(join(world.directory, 'tile'));
  await world.log.flush();
  append(world, 1, 10);
  await world.log.flush();
  expectWhole(world, 11);
  await world.close();
});

it('refuses records that are too many behind, and takes them again once it has caught up', async () => {
  const world = openLogWorld(temporaryDirectory());
  // Nothing else runs between two of these, so the log cannot keep up.
  const many = limits.auditBehindRecordsMax;
  expect(refusalOf(() => append(world, many))).toBe('none');
  expect(refusalOf(() => append(world, 1))).toBe('StateUnavailable');
  expect(world.lines()).toHaveLength(many);
  await world.log.flush();
  append(world, 1, many);
  await world.log.flush();
  expect(world.log.health()).toMatchObject({ size: many + 1, behind: 0 });
  await world.close();
});

it('begins after the files of a release that kept no log', async () => {
  const stateDir = temporaryDirectory();
  const first = openLogWorld(stateDir);
  await first.close();
  rmSync(first.directory, { recursive: true });
  rmSync(join(stateDir, 'journal/sequences.json'));
  writeFileSync(journalFile(first), `${JSON.stringify(someDecision({ id: 'dec_old' }))}\n`);
  const world = openLogWorld(stateDir);
  append(world, 2);
  await world.log.flush();
  expect(world.log.health().size).toBe(2);
  expect(world.heard).toEqual([]);
  await world.close();
});

it('says which line became no leaf', async () => {
  const world = openLogWorld(temporaryDirectory());
  append(world, 1);
  writeFileSync(journalFile(world), 'no record\n', { flag: 'a' });
  await world.close();
  const again = openLogWorld(world.stateDir);
  append(again, 1, 1);
  await again.log.flush();
  expect(again.log.health().size).toBe(2);
  expect(again.heard.map(({ message }) => message)).toEqual([expect.stringContaining('is no record')]);
  await again.close();
});

it('leaves files that nobody else may read', async () => {
  const world = openLogWorld(temporaryDirectory());
  append(world, 1);
  await world.close();
  const modes = ['.', 'checkpoint', 'state.json', 'vkeys', 'log.json', 'tile/0/000.p/1'].map(
    (path) => statSync(join(world.directory, path)).mode & 0o777,
  );
  expect(modes).toEqual([0o700, 0o600, 0o600, 0o600, 0o600, 0o600]);
  expect(existsSync(join(world.directory, 'checkpoint.tmp'))).toBe(false);
});
