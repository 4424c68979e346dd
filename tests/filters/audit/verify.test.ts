import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { checkpointBody, noteTypes } from '../../../filters/audit/note.ts';
import { signNote } from '../../../filters/audit/signers.ts';
import { verifyLog } from '../../../filters/audit/verify.ts';
import { journalFiles } from '../../../filters/common/journal-segments.ts';
import { type LogWorld, openLogWorld, origin, somePair } from '../../support/log-world.ts';
import { someDecision } from '../../support/some-record.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const pair = somePair();
const some = async (count: number, agents = 3): Promise<LogWorld> => {
  const world = openLogWorld(temporaryDirectory(), pair, { fileBytesMax: 100_000 });
  for (let i = 0; i < count; i += 1)
    world.journal.append(someDecision({ id: `dec_${i}`, agent: `spiffe://example.org/${i % agents}` }));
  await world.log.flush();
  await world.close();
  return world;
};
const problemsOf = async (world: LogWorld, old?: Parameters<typeof verifyLog>[2]) =>
  (await verifyLog(world.stateDir, world.keys(), old)).problems;

it('finds nothing wrong with a log that is whole', async () => {
  const world = await some(700);
  expect(await verifyLog(world.stateDir, world.keys())).toMatchObject({
    ...{ origin, size: 700, leaves: 700, agents: 3, minimumIndex: 0, problems: [] },
    content: { whole: 700, erased: 0, pruned: 0, waiting: 0 },
  });
});

it('says that there is no log', async () => {
  const stateDir = temporaryDirectory();
  await expect(verifyLog(stateDir, [])).rejects.toMatchObject({ code: 'NotFound' });
});

const flip = (file: string, at: number): void => {
  const bytes = readFileSync(file);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(file, bytes);
};

const tampered = (what: string, change: (world: LogWorld) => void, says: RegExp): void =>
  it(`finds ${what}`, async () => {
    const world = await some(700);
    change(world);
    expect((await problemsOf(world)).join('\n')).toMatch(says);
  });

const inLog = (world: LogWorld, path: string): string => join(world.directory, path);
tampered(
  'an edited leaf',
  (world) => flip(inLog(world, 'tile/entries/001'), 500),
  /leaf 2\d\d is not what its tile/,
);
tampered(
  'an edited tile',
  (world) => flip(inLog(world, 'tile/0/001'), 40),
  /tile 1 of level 0 is not|is not what its tile/,
);
tampered(
  'an edited tile above',
  (world) => flip(inLog(world, 'tile/1/000.p/2'), 3),
  /do not lead to the root/,
);
tampered('a tile that is gone', (world) => rmSync(inLog(world, 'tile/0/001')), /has no tile\/0\/001/);
tampered(
  'leaves that are gone',
  (world) => rmSync(inLog(world, 'tile/entries/000')),
  /has no tile\/entries\/000/,
);
tampered(
  'a bundle that was cut',
  (world) => {
    const file = inLog(world, 'tile/entries/000');
    writeFileSync(file, readFileSync(file).subarray(0, -9));
  },
  /ends within its leaf 255/,
);
tampered(
  'a changed size',
  (world) => {
    const file = inLog(world, 'checkpoint');
    writeFileSync(file, readFileSync(file, 'utf8').replace('\n700\n', '\n699\n'));
  },
  /signature of a known key .* does not verify/,
);
tampered(
  'an edited line of the journal',
  (world) => {
    const [first = ''] = journalFiles(join(world.stateDir, 'journal'));
    const file = join(world.stateDir, 'journal', first);
    writeFileSync(file, readFileSync(file, 'utf8').replace('"dec_7"', '"dec_8"'));
  },
  /line of leaf 7 .* is not what the leaf commits to/,
);
tampered(
  'a line of the journal that is gone',
  (world) => {
    const [first = ''] = journalFiles(join(world.stateDir, 'journal'));
    const file = join(world.stateDir, 'journal', first);
    writeFileSync(file, readFileSync(file, 'utf8').split('\n').toSpliced(7, 1).join('\n'));
  },
  /line of leaf 7 /,
);

it('takes only a checkpoint that both keys signed', async () => {
  const world = await some(5);
  const other = somePair().map(({ key }) => key);
  expect((await verifyLog(world.stateDir, other)).problems).toEqual([
    expect.stringContaining('no Ed25519 key'),
    expect.stringContaining('no ML-DSA-44 key'),
  ]);
  const ed25519 = world.keys().filter(({ type }) => type === noteTypes.ed25519);
  expect((await verifyLog(world.stateDir, ed25519)).problems).toEqual([
    expect.stringContaining('no ML-DSA-44 key'),
  ]);
});

it('finds that a log did not grow out of an earlier checkpoint', async () => {
  const world = await some(300);
  const early = { origin, size: 300, root: world.log.newest()?.root ?? Buffer.alloc(0) };
  const again = openLogWorld(world.stateDir, pair, { fileBytesMax: 100_000 });
  again.journal.append(someDecision());
  await again.close();
  expect(await problemsOf(again, early)).toEqual([]);
  const other = await some(300, 4);
  expect(await problemsOf(other, early)).toEqual([expect.stringContaining('did not grow out of')]);
  expect(await problemsOf(other, { ...early, size: 400 })).toEqual([
    expect.stringContaining('has 300 leaves'),
  ]);
  expect(await problemsOf(other, { ...early, origin: 'example.org/other' })).toEqual([
    expect.stringContaining('is of example.org/other'),
  ]);
});

it('finds a gap in the numbers of an agent, also where whoever signs made it', async () => {
  const world = await some(20);
  const { directory, stateDir } = world;
  // A log of the same key in which one record never was: all of it is signed and consistent.
  const bundle = readFileSync(inLog(world, 'tile/entries/000.p/20'));
  const length = 2 + bundle.readUInt16BE(0);
  const rest = bundle.subarray(length);
  const forged = await rebuild(rest);
  rmSync(join(directory, 'tile'), { recursive: true });
  for (const [path, bytes] of forged.files) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), bytes);
  }
  const body = checkpointBody({ origin, size: 19, root: forged.root });
  writeFileSync(
    join(directory, 'checkpoint'),
    `${body}\n${pair.map((signer) => signNote(signer, body, 1)).join('')}`,
  );
  rmSync(join(stateDir, 'journal'), { recursive: true });
  mkdirSync(join(stateDir, 'journal'));
  const problems = await problemsOf(world);
  expect(problems).toEqual([expect.stringMatching(/record 2 of agent .*, after record 0/)]);
});

async function rebuild(entries: Buffer): Promise<{ root: Buffer; files: Map<string, Buffer> }> {
  const { createTree } = await import('../../../filters/audit/tree.ts');
  const { decodeBundle } = await import('../../../filters/audit/tiles.ts');
  const directory = temporaryDirectory();
  const tree = createTree(directory, { size: 0, edges: [] });
  for (const entry of decodeBundle(entries, 19)) tree.append(entry);
  await tree.flush();
  const files = new Map<string, Buffer>();
  for (const path of readdirSync(directory, { recursive: true, withFileTypes: true }))
    if (path.isFile()) {
      const file = join(path.parentPath, path.name);
      files.set(file.slice(directory.length + 1), readFileSync(file));
    }
  return { root: tree.root(), files };
}

it('goes on reading where a file of the log is not what it should be', async () => {
  const world = await some(5);
  copyFileSync(inLog(world, 'vkeys'), inLog(world, 'tile/0/000.p/5'));
  expect((await problemsOf(world)).join('\n')).toMatch(/a tile of 5 hashes has/);
  writeFileSync(inLog(world, 'checkpoint'), 'no note');
  await expect(verifyLog(world.stateDir, world.keys())).rejects.toMatchObject({ code: 'StateUnavailable' });
});

it('does not count a line that was changed as one that is pruned', async () => {
  const world = await some(700);
  const [first = ''] = journalFiles(join(world.stateDir, 'journal'));
  const file = join(world.stateDir, 'journal', first);
  writeFileSync(file, readFileSync(file, 'utf8').replace('"dec_7"', '"dec_8"'));
  const { content, problems } = await verifyLog(world.stateDir, world.keys());
  expect([content, problems.length]).toEqual([{ whole: 699, erased: 0, pruned: 0, waiting: 0 }, 1]);
});
