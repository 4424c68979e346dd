/**
 * The conversation marked as of litewitness is its own test data (FiloSottile/torchwood, cmd/litewitness/testdata,
 * ISC licence): checkpoints and proofs that another implementation signed and made. Where its answers are of an
 * older version of the protocol, those of C2SP tlog-witness are expected.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { noteKeyDrafts } from '../../../filters/audit/keys.ts';
import { consistencyPath, emptyRoot, foldHashes, leafHash, rootHash } from '../../../filters/audit/merkle.ts';
import {
  checkpointBody,
  keyIdOf,
  type NoteKey,
  parseNote,
  parseVkey,
  timestampOf,
  verifyNote,
} from '../../../filters/audit/note.ts';
import { type NoteSigner, noteKeyOf, noteSigners, signNote } from '../../../filters/audit/signers.ts';
import { createWitness, originHash } from '../../../filters/audit/witness.ts';
import { openWitnessStore } from '../../../filters/audit/witness-store.ts';
import { decodeAddCheckpoint, encodeAddCheckpoint } from '../../../filters/audit/witness-wire.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { ringIn } from '../../support/keys.ts';
import { movingClock } from '../../support/moving-clock.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

async function witnessOf(logs: ReadonlyMap<string, readonly NoteKey[]>) {
  const home = temporaryDirectory();
  const clock = movingClock();
  const ring = await ringIn(join(home, 'state'), clock.wallMs);
  await ring.ensure('witness', () => noteKeyDrafts('witness.test/w'));
  const directory = join(home, 'witness');
  const open = () =>
    createWitness({
      logs,
      signers: () => noteSigners(ring, 'witness'),
      ownKeys: () => ring.list().map(noteKeyOf),
      store: openWitnessStore(directory),
      wallMs: clock.wallMs,
    });
  let witness = open();
  return {
    clock,
    ring,
    directory,
    own: () => ring.list().map(noteKeyOf),
    restart: () => {
      witness = open();
    },
    ask: (body: string) => witness.addCheckpoint(Buffer.from(body)),
    read: (hash: string) => witness.checkpoint(hash),
  };
}
type World = Awaited<ReturnType<typeof witnessOf>>;

describe('with a log of litewitness', () => {
  const origin = 'sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562';
  const raw = Buffer.from('ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f', 'hex');
  const vkey = `${origin}+${keyIdOf(origin, 1, raw)}+${Buffer.concat([Buffer.of(1), raw]).toString('base64')}`;
  const logs = new Map([[origin, [parseVkey(vkey)]]]);
  const leaf = (n: number): string => Buffer.from([0x2a, n, ...Array<number>(30).fill(0)]).toString('base64');
  const node01 = 'wgiIFdZfYNv6WU1OllBKsWnLYIS/DBMqt8Uh/S4OukE=';
  const node23 = '+fUDV+k970B4I3uKrqJM4aP1lloPZP8mvr2Z4wRw2LI=';
  const signed = (size: number, root: string, signature: string, name = origin): string =>
    `${name}\n${size}\n${root}\n\n— ${name} ${signature}\n`;
  const one = signed(
    1,
    leaf(0),
    'UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=',
  );
  const rootOf3 = 'RcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=';
  const signature3 =
    'UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go=';
  const three = signed(3, rootOf3, signature3);
  const five = signed(
    5,
    'QrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=',
    'UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww=',
  );
  const add = (old: number, proof: readonly string[], note: string): string =>
    `old ${old}\n${proof.map((hash) => `${hash}\n`).join('')}\n${note}`;

  test('answers as the protocol says, step by step', async () => {
    const world = await witnessOf(logs);
    const status = (body: string): number => world.ask(body).status;
    const wrong = Buffer.from(signature3, 'base64');
    wrong.writeUInt8(wrong.readUInt8(67) ^ 1, 67);
    const badLeaf = Buffer.from(leaf(2), 'base64');
    badLeaf.writeUInt8(0x10, 31);

    expect(status(add(0, [], one))).toBe(200);
    expect(status(add(1, [leaf(1), leaf(2)], signed(3, rootOf3, wrong.toString('base64'))))).toBe(403);
    expect(status(add(1, [leaf(1), leaf(2)], three.replaceAll('e562', 'e563')))).toBe(404);
    expect(status(add(1, [], three))).toBe(422);
    expect(status(add(1, [leaf(1), badLeaf.toString('base64')], three))).toBe(422);
    expect(status(add(1, [leaf(1), leaf(2)], three))).toBe(200);
    expect(world.ask(add(1, [leaf(1), node23, leaf(4)], five))).toEqual({
      status: 409,
      type: 'text/x.tlog.size',
      body: '3\n',
    });
    expect(status(add(3, [leaf(2), leaf(3), node01, leaf(4)], five))).toBe(200);
    expect(world.ask(add(0, [], five)).body).toBe('5\n');
  });
});

const leaves = (count: number, from = 0): Buffer[] =>
  Array.from({ length: count }, (_, i) => leafHash(Buffer.from(`leaf ${i + from}`)));
const subtreeOf = (hashes: readonly Buffer[]) => (level: number, index: number) =>
  foldHashes(hashes.slice(index * 2 ** level, (index + 1) * 2 ** level));

/** A log of ours with both kinds of keys. */
async function logOf(origin = 'log.test/a') {
  const ring = await ringIn(join(temporaryDirectory(), 'state'));
  await ring.ensure('log', () => noteKeyDrafts(origin));
  const signers = (): readonly NoteSigner[] => noteSigners(ring, 'log');
  const note = (hashes: readonly Buffer[], size = hashes.length, by = signers()): string => {
    const root = rootHash(size, subtreeOf(hashes));
    const body = checkpointBody({ origin, size, root });
    return `${body}\n${by.map((signer) => signNote(signer, body, 1_800_000_000)).join('')}`;
  };
  return {
    origin,
    ring,
    keys: signers().map(({ key }) => key),
    signers,
    note,
    add: (old: number, hashes: readonly Buffer[], size = hashes.length): string =>
      encodeAddCheckpoint(old, consistencyPath(old, size, subtreeOf(hashes)), note(hashes, size)),
  };
}
const worldOf = async () => {
  const log = await logOf();
  return { log, world: await witnessOf(new Map([[log.origin, log.keys]])) };
};
const grown = (
  world: World,
  log: Awaited<ReturnType<typeof logOf>>,
  hashes: readonly Buffer[],
  old: number,
) => world.ask(log.add(old, hashes)).status;

test('the cosignatures, in Ed25519 and ML-DSA-44, are of the checkpoint and state the time', async () => {
  const { log, world } = await worldOf();
  const hashes = leaves(7);
  const answer = world.ask(log.add(0, hashes));
  expect(answer.status).toBe(200);
  const note = parseNote(`${log.note(hashes)}${answer.body}`);
  const verified = verifyNote(note, world.own()) ?? [];
  expect(verified.map(({ key }) => key.type)).toEqual([4, 6]);
  for (const { key, signature } of verified)
    expect(timestampOf(key, signature.signature)).toBe(Math.floor(world.clock.wallMs() / 1_000));
  expect(verifyNote(note, log.keys)).toHaveLength(2);
});

test('a log grows through every size, and nothing else is cosigned on the way', async () => {
  const { log, world } = await worldOf();
  const hashes = leaves(40);
  const fork = [...leaves(20), ...leaves(20, 1_000)];
  let old = 0;
  for (const size of [1, 2, 3, 7, 8, 21, 33, 40]) {
    expect(grown(world, log, hashes.slice(0, size), old)).toBe(200);
    if (size > 20) expect(grown(world, log, fork.slice(0, size + 1), size)).toBe(422);
    old = size;
  }
});

test('a fork is refused: another root of the same size, another past of a greater one', async () => {
  const { log, world } = await worldOf();
  const hashes = leaves(5);
  const other = [...leaves(4), ...leaves(6, 500)];
  expect(grown(world, log, hashes, 0)).toBe(200);
  expect(world.ask(log.add(5, other.slice(0, 5)))).toMatchObject({
    status: 422,
    body: 'another root hash of size 5 was cosigned\n',
  });
  expect(grown(world, log, other, 5)).toBe(422);
  // What is refused changes nothing.
  expect(grown(world, log, leaves(9), 5)).toBe(200);
});

test('the same checkpoint is cosigned again, with its own time', async () => {
  const { log, world } = await worldOf();
  const first = world.ask(log.add(0, leaves(5)));
  world.clock.pass(5_000);
  const second = world.ask(log.add(5, leaves(5)));
  expect([first.status, second.status]).toEqual([200, 200]);
  expect(second.body).not.toBe(first.body);
});

test('a stranger who repeats the public signature leaves a checkpoint that the witness can still read', async () => {
  const { log, world } = await worldOf();
  expect(grown(world, log, leaves(5), 0)).toBe(200);
  const hash = originHash(log.origin);
  const before = world.read(hash).body;
  const { body } = parseNote(before);
  const [line = ''] = before.slice(body.length + 1).split('\n');
  const repeated = `${body}\n${`${line}\n`.repeat(limits.noteSignaturesMax)}`;
  expect(world.ask(encodeAddCheckpoint(5, [], repeated)).status).toBe(200);
  world.restart();
  expect(grown(world, log, leaves(9), 5)).toBe(200);
  expect(parseNote(world.read(hash).body).signatures).toHaveLength(4);
});

test('what is written down has each key of the log once, however often it signed', async () => {
  const { log, world } = await worldOf();
  const hashes = leaves(3);
  const signers = log.signers();
  const note = log.note(hashes, 3, [...signers, ...signers, ...signers]);
  expect(world.ask(encodeAddCheckpoint(0, [], note)).status).toBe(200);
  const kept = parseNote(world.read(originHash(log.origin)).body);
  expect(kept.signatures).toHaveLength(4);
});

test('a checkpoint that is cosigned again is not written again, except for a key that has not signed it', async () => {
  const { log, world } = await worldOf();
  const hash = originHash(log.origin);
  world.ask(log.add(0, leaves(5)));
  const first = world.read(hash).body;
  world.clock.pass(5_000);
  expect(world.ask(log.add(5, leaves(5))).status).toBe(200);
  expect(world.read(hash).body).toBe(first);
  await world.ring.rotate('witness', () => noteKeyDrafts('witness.test/w'), { now: true, by: '' });
  expect(world.ask(log.add(5, leaves(5))).status).toBe(200);
  expect(world.read(hash).body).not.toBe(first);
});

test('an old size other than the last cosigned one is told the last, also after a restart', async () => {
  const { log, world } = await worldOf();
  expect(grown(world, log, leaves(5), 0)).toBe(200);
  for (const old of [0, 4])
    expect(world.ask(log.add(old, leaves(9)))).toMatchObject({ status: 409, body: '5\n' });
  world.restart();
  expect(world.ask(log.add(0, leaves(9)))).toMatchObject({ status: 409, body: '5\n' });
  expect(grown(world, log, [...leaves(4), ...leaves(6, 500)], 5)).toBe(422);
  expect(grown(world, log, leaves(9), 5)).toBe(200);
  expect(world.ask(log.add(9, leaves(9))).status).toBe(200);
  expect(world.ask(encodeAddCheckpoint(9, [], log.note(leaves(8))))).toMatchObject({ status: 400 });
});

test('two requests that race for one size end as one cosignature and one conflict', async () => {
  const { log, world } = await worldOf();
  expect(grown(world, log, leaves(5), 0)).toBe(200);
  const answers = [log.add(5, leaves(9)), log.add(5, leaves(7))].map((body) => world.ask(body));
  expect(answers.map(({ status }) => status)).toEqual([200, 409]);
  expect(answers[1]?.body).toBe('9\n');
});

test('an empty log has the hash of nothing as its root, and no other', async () => {
  const { log, world } = await worldOf();
  const [signer] = log.signers();
  if (signer === undefined) throw new Error('no signer');
  const empty = (root: Buffer): string => {
    const body = checkpointBody({ origin: log.origin, size: 0, root });
    return encodeAddCheckpoint(0, [], `${body}\n${signNote(signer, body, 0)}`);
  };
  expect(world.ask(empty(Buffer.alloc(32))).status).toBe(422);
  expect(world.ask(empty(emptyRoot())).status).toBe(200);
  expect(world.ask(encodeAddCheckpoint(0, [Buffer.alloc(32)], log.note(leaves(3)))).status).toBe(422);
  expect(grown(world, log, leaves(3), 0)).toBe(200);
});

test('one trusted signature is enough, none and a wrong one are not', async () => {
  const { log, world } = await worldOf();
  const stranger = await logOf();
  const [ed25519, mlDsa] = log.signers();
  if (ed25519 === undefined || mlDsa === undefined) throw new Error('no signers');
  const ask = (by: readonly NoteSigner[], old = 0) =>
    world.ask(encodeAddCheckpoint(old, [], log.note(leaves(3), 3, by))).status;
  expect(ask(stranger.signers())).toBe(403);
  expect(
    ask([{ key: ed25519.key, privateKey: stranger.signers()[0]?.privateKey ?? ed25519.privateKey }]),
  ).toBe(403);
  expect(ask([mlDsa])).toBe(200);
  expect(ask([ed25519, ...stranger.signers()], 3)).toBe(200);
});

test('during a rotation both keys cosign, and what the old one cosigned stays known', async () => {
  const { log, world } = await worldOf();
  expect(grown(world, log, leaves(3), 0)).toBe(200);
  await world.ring.rotate('witness', () => noteKeyDrafts('witness.test/w'), { now: false, by: '' });
  const both = world.ask(log.add(3, leaves(5)));
  expect(both.body.trim().split('\n')).toHaveLength(4);
  await world.ring.rotate('witness', () => noteKeyDrafts('witness.test/w'), { now: true, by: '' });
  expect(world.ask(log.add(0, leaves(5)))).toMatchObject({ status: 409, body: '5\n' });
  expect(
    world
      .ask(log.add(5, leaves(6)))
      .body.trim()
      .split('\n'),
  ).toHaveLength(2);
});

test('a monitor reads the newest checkpoint with the log’s signature and ours', async () => {
  const { log, world } = await worldOf();
  const hash = originHash(log.origin);
  expect(world.read(hash).status).toBe(404);
  grown(world, log, leaves(3), 0);
  grown(world, log, leaves(5), 3);
  const answer = world.read(hash);
  const note = parseNote(answer.body);
  expect(note.body.split('\n')[1]).toBe('5');
  expect(verifyNote(note, log.keys)).toHaveLength(2);
  expect(verifyNote(note, world.own())).toHaveLength(2);
  expect(world.read('0'.repeat(64)).status).toBe(404);
});

test('a damaged record of the last checkpoint is never taken for a new log', async () => {
  const { log, world } = await worldOf();
  grown(world, log, leaves(5), 0);
  const [name = ''] = readdirSync(world.directory);
  const file = join(world.directory, name);
  const whole = readFileSync(file, 'utf8');
  for (const text of ['', whole.slice(0, 60), whole.replace('\n5\n', '\n4\n'), log.note(leaves(1))]) {
    writeFileSync(file, text);
    expect(() => world.ask(log.add(0, leaves(9)))).toThrow();
    expect(readFileSync(file, 'utf8')).toBe(text);
  }
});

test.each([
  ['nothing', ''],
  ['no old line', '\n'],
  ['a leading zero', 'old 01\n\n'],
  ['a negative size', 'old -1\n\n'],
  ['a size past 2^53', 'old 9007199254740993\n\n'],
  ['a short hash', 'old 1\nAAAA\n\n'],
  ['no empty line', 'old 0\n'],
  ['a carriage return', 'old 0\r\n\r\n'],
])('a request with %s is 400', async (_name, start) => {
  const { log, world } = await worldOf();
  expect(world.ask(`${start}${log.note(leaves(3))}`).status).toBe(400);
});

test('a proof has at most 63 hashes', async () => {
  const { log, world } = await worldOf();
  const hash = `${Buffer.alloc(32).toString('base64')}\n`;
  const with63 = `old 1\n${hash.repeat(limits.witnessProofHashesMax)}\n${log.note(leaves(3))}`;
  expect(world.ask(with63)).toMatchObject({ status: 409 });
  expect(world.ask(with63.replace('\n', `\n${hash}`))).toMatchObject({
    status: 400,
    body: expect.stringContaining(`${limits.witnessProofHashesMax}`),
  });
});

test('whatever is posted gets an answer of the protocol', async () => {
  const { log, world } = await worldOf();
  grown(world, log, leaves(3), 0);
  const whole = Buffer.from(log.add(3, leaves(5)));
  const mutated = fc
    .tuple(fc.nat(whole.length), fc.nat(40), fc.uint8Array({ maxLength: 4 }))
    .map(([at, cut, bytes]) => Buffer.concat([whole.subarray(0, at), bytes, whole.subarray(at + cut)]));
  fc.assert(
    fc.property(fc.oneof(mutated, fc.uint8Array()), (bytes) => {
      expect([200, 400, 403, 404, 409, 422]).toContain(
        world.ask(Buffer.from(bytes).toString('latin1')).status,
      );
      try {
        decodeAddCheckpoint(bytes);
      } catch (thrown) {
        expect(thrown).toMatchObject({ code: 'RequestMalformed' });
      }
    }),
    fuzzRuns,
  );
});
