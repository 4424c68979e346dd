import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SallyportError } from '../../../config/errors.ts';
import { noteKeyDrafts } from '../../../filters/audit/keys.ts';
import { consistencyPath, foldHashes, leafHash, rootHash } from '../../../filters/audit/merkle.ts';
import { checkpointBody, parseNote, verifyNote } from '../../../filters/audit/note.ts';
import { noteKeyOf, noteSigners, signNote } from '../../../filters/audit/signers.ts';
import { createWitness, type WitnessAnswer } from '../../../filters/audit/witness.ts';
import { type AskedWitness, createWitnessClient } from '../../../filters/audit/witness-client.ts';
import { openWitnessStore } from '../../../filters/audit/witness-store.ts';
import { ringIn } from '../../support/keys.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const origin = 'log.test/a';
const leaves = (count: number, from = 0): Buffer[] =>
  Array.from({ length: count }, (_, i) => leafHash(Buffer.from(`leaf ${i + from}`)));

/** A log and its real witnesses, without a network between: `change` is what happens on the way. */
async function worldOf(count: number, quorum: number) {
  const home = temporaryDirectory();
  const clock = movingClock();
  const ring = await ringIn(join(home, 'log'), clock.wallMs);
  await ring.ensure('log', () => noteKeyDrafts(origin));
  const keys = noteSigners(ring, 'log').map(({ key }) => key);
  let hashes: readonly Buffer[] = [];
  let current: string | undefined;
  const subtree = (level: number, index: number): Buffer =>
    foldHashes(hashes.slice(index * 2 ** level, (index + 1) * 2 ** level));
  const grow = (next: readonly Buffer[]): void => {
    hashes = next;
    const body = checkpointBody({ origin, size: hashes.length, root: rootHash(hashes.length, subtree) });
    current = `${body}\n${noteSigners(ring, 'log')
      .map((signer) => signNote(signer, body, 1))
      .join('')}`;
  };
  let asked = 0;
  let change = (_name: string, answer: WitnessAnswer): WitnessAnswer => answer;
  const witnesses: AskedWitness[] = [];
  for (let i = 0; i < count; i += 1) {
    const own = await ringIn(join(home, `w${i}`), clock.wallMs);
    await own.ensure('witness', () => noteKeyDrafts(`witness.test/${i}`));
    const witness = createWitness({
      logs: new Map([[origin, keys]]),
      signers: () => noteSigners(own, 'witness'),
      ownKeys: () => own.list().map(noteKeyOf),
      store: openWitnessStore(join(home, `w${i}`, 'witness')),
      wallMs: clock.wallMs,
    });
    const name = `w${i}`;
    witnesses.push({
      name,
      keys: own.list().map(noteKeyOf),
      post: async (body: string) => {
        asked += 1;
        return change(name, witness.addCheckpoint(Buffer.from(body)));
      },
    });
  }
  const kept: string[] = [];
  const said: string[] = [];
  const make = () =>
    createWitnessClient({
      ...{ witnesses, quorum, monotonicMs: clock.monotonicMs },
      log: { newest: () => current, proof: (old, size) => consistencyPath(old, size, subtree) },
      keep: (note) => kept.push(note),
      onError: (thrown) => {
        throw thrown;
      },
      onResult: (name, { result }) => said.push(`${name} ${result}`),
    });
  let client = make();
  return {
    ...{ clock, grow, kept, said, keys, witnesses, ring },
    asked: () => asked,
    round: () => client.round(),
    states: () => client.states(),
    lateMs: () => client.lateMs(),
    restart: () => {
      client = make();
    },
    onTheWay: (next: typeof change) => {
      change = next;
    },
  };
}
const away = (): WitnessAnswer => {
  throw new SallyportError('ServiceUnavailable', 'it did not answer');
};
const sizeOf = (note: string | undefined): string => (note ?? '').split('\n')[1] ?? '';

test('a checkpoint gets the cosignatures of every witness, beside the log’s own', async () => {
  const world = await worldOf(2, 2);
  await world.round();
  expect(world.asked()).toBe(0);
  world.grow(leaves(7));
  await world.round();
  const note = parseNote(world.kept[0] ?? '');
  expect(verifyNote(note, world.keys)).toHaveLength(2);
  for (const { keys } of world.witnesses) expect(verifyNote(note, keys)).toHaveLength(2);
  expect(world.lateMs()).toBe(0);
});

test('what all have cosigned is not asked again, and a greater one is proven from the size they know', async () => {
  const world = await worldOf(2, 2);
  for (const size of [7, 8, 100, 257]) {
    world.grow(leaves(size));
    await world.round();
    await world.round();
  }
  expect(world.asked()).toBe(8);
  expect(world.kept.map(sizeOf)).toEqual(['7', '8', '100', '257']);
});

test('after a restart a witness tells the size that it knows, and the round goes on from there', async () => {
  const world = await worldOf(1, 1);
  world.grow(leaves(7));
  await world.round();
  world.restart();
  world.grow(leaves(12));
  await world.round();
  expect(world.asked()).toBe(3);
  expect(sizeOf(world.kept.at(-1))).toBe('12');
});

test('a witness that repeats its cosignatures has each of its keys in the note once', async () => {
  const world = await worldOf(1, 1);
  world.onTheWay((_name, answer) => ({ ...answer, body: answer.body.repeat(10) }));
  world.grow(leaves(7));
  await world.round();
  expect(parseNote(world.kept[0] ?? '').signatures).toHaveLength(4);
});

test('without a quorum nothing is kept, and the time is told; with it again the time is over', async () => {
  const world = await worldOf(3, 2);
  world.onTheWay((name, answer) => (name === 'w0' ? answer : away()));
  world.grow(leaves(7));
  await world.round();
  world.clock.pass(4_000);
  await world.round();
  expect(world.kept).toEqual([]);
  expect(world.lateMs()).toBe(4_000);
  expect(world.states().map(({ result }) => result)).toEqual(['cosigned', 'unreachable', 'unreachable']);
  world.onTheWay((name, answer) => (name === 'w2' ? away() : answer));
  await world.round();
  expect(world.kept.map(sizeOf)).toEqual(['7']);
  expect(world.lateMs()).toBe(0);
});

test('a quorum of none keeps whatever cosignatures there are, and is never late', async () => {
  const world = await worldOf(2, 0);
  world.onTheWay(away);
  world.grow(leaves(7));
  await world.round();
  expect([world.kept.length, world.lateMs()]).toEqual([0, 0]);
  world.onTheWay((name, answer) => (name === 'w1' ? away() : answer));
  await world.round();
  expect(world.kept.map(sizeOf)).toEqual(['7']);
});

test('a log that was set back, or rewritten, is a conflict and not a witness that is away', async () => {
  const world = await worldOf(1, 1);
  world.grow(leaves(9));
  await world.round();
  world.grow(leaves(5));
  await world.round();
  expect(world.states()).toMatchObject([
    { result: 'conflict', detail: expect.stringContaining('it cosigned size 9, and this log has 5') },
  ]);
  world.grow([...leaves(6), ...leaves(6, 700)]);
  await world.round();
  expect(world.states()).toMatchObject([
    { result: 'conflict', detail: expect.stringContaining('another past') },
  ]);
  expect(world.kept.map(sizeOf)).toEqual(['9']);
  expect(world.said).toEqual(['w0 cosigned', 'w0 conflict', 'w0 conflict']);
});

test.each<[string, (answer: WitnessAnswer) => WitnessAnswer]>([
  ['nothing', (answer) => ({ ...answer, body: '' })],
  ['no signature line', (answer) => ({ ...answer, body: 'thanks\n' })],
  ['a changed signature', (answer) => ({ ...answer, body: answer.body.replace(/.{8}\n$/, 'AAAAAAA=\n') })],
  ['a conflict without a size', () => ({ status: 409, type: 'text/plain', body: '7\n' })],
  ['a conflict with no number', () => ({ status: 409, type: 'text/x.tlog.size', body: 'seven\n' })],
  ['the same conflict for ever', () => ({ status: 409, type: 'text/x.tlog.size', body: '3\n' })],
  ['a redirect', () => ({ status: 302, type: '', body: '' })],
  ['an error', () => ({ status: 500, type: '', body: 'x'.repeat(10_000) })],
])('an answer with %s is refused, and asked at most twice', async (_name, change) => {
  const world = await worldOf(1, 1);
  world.onTheWay((_who, answer) => change(answer));
  world.grow(leaves(7));
  await world.round();
  expect(world.kept).toEqual([]);
  expect(world.states()).toMatchObject([{ result: 'refused' }]);
  expect((world.states()[0]?.detail ?? '').length).toBeLessThan(300);
  expect(world.asked()).toBeLessThanOrEqual(2);
});

test('lines of keys that are not the witness’s are left out', async () => {
  const world = await worldOf(2, 2);
  let first = '';
  world.onTheWay((name, answer) => {
    if (name === 'w0') first = answer.body;
    return name === 'w1' ? { ...answer, body: first + answer.body } : answer;
  });
  world.grow(leaves(7));
  await world.round();
  expect((world.kept[0] ?? '').split('\n').filter((line) => line.startsWith('—'))).toHaveLength(6);
});

test('a witness that cosigned another body is not believed', async () => {
  const world = await worldOf(1, 1);
  let old = '';
  world.onTheWay((_name, answer) => {
    if (old === '') old = answer.body;
    return { ...answer, body: old };
  });
  world.grow(leaves(7));
  await world.round();
  world.grow(leaves(8));
  await world.round();
  expect(world.said).toEqual(['w0 cosigned', 'w0 refused']);
  expect(world.kept.map(sizeOf)).toEqual(['7']);
});

test('a round that is asked for while one runs is that one', async () => {
  const world = await worldOf(1, 1);
  world.grow(leaves(7));
  await Promise.all([world.round(), world.round(), world.round()]);
  expect(world.asked()).toBe(1);
});
