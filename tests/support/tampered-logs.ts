/** A log with restarts and a rotation of its keys, and what a verifier must not take for it. */
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readCheckpoint } from '../../filters/audit/log.ts';
import { leafHash } from '../../filters/audit/merkle.ts';
import { checkpointBody, vkeyOf } from '../../filters/audit/note.ts';
import { type NoteSigner, signNote } from '../../filters/audit/signers.ts';
import { createTileReader } from '../../filters/audit/tile-reader.ts';
import { tilePath } from '../../filters/audit/tiles.ts';
import { createTree } from '../../filters/audit/tree.ts';
import { openLogWorld, origin, somePair } from './log-world.ts';
import { someDecision } from './some-record.ts';

export type BuiltLog = Readonly<{
  stateDir: string;
  /** Of the log itself. */
  directory: string;
  journal: string;
  size: number;
  /** Of whom the verifier is told. */
  keys: string;
  /** Who signed at the end. */
  pair: readonly NoteSigner[];
  /** A checkpoint of when the log was half as long. */
  old: string;
  /** What appending took, and what growing the log out of it took, in milliseconds. */
  appendMs: number;
  growMs: number;
}>;

/** Appends at once between two pauses of the log: less than it may be behind. */
const batch = 5_000;

/** Four processes' worth: two under the first keys, one under both, one under the second. */
export async function buildLog(stateDir: string, size: number, agents = 50): Promise<BuiltLog> {
  const [first, second] = [somePair(), somePair()];
  const directory = join(stateDir, 'audit');
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const keys = join(stateDir, 'trusted.vkeys');
  const old = join(stateDir, 'old-checkpoint');
  writeFileSync(keys, [...first, ...second].map(({ key }) => `${vkeyOf(key)}\n`).join(''));
  let written = 0;
  const took = { appendMs: 0, growMs: 0 };
  const timed = (what: keyof typeof took, sinceMs: number): number => {
    const nowMs = performance.now();
    took[what] += nowMs - sinceMs;
    return nowMs;
  };
  for (const [run, pair] of [first, first, [...first, ...second], second].entries()) {
    const world = openLogWorld(stateDir, pair);
    for (const end = Math.ceil((size * (run + 1)) / 4); written < end; ) {
      const began = performance.now();
      for (const stop = Math.min(end, written + batch); written < stop; written += 1)
        world.journal.append(
          someDecision({ id: `dec_${written}`, agent: `spiffe://example.org/${(written * 7) % agents}` }),
        );
      const grows = timed('appendMs', began);
      await world.log.flush();
      timed('growMs', grows);
    }
    await world.close();
    if (run === 1) writeFileSync(old, readFileSync(join(directory, 'checkpoint')));
  }
  return { stateDir, directory, journal: join(stateDir, 'journal'), size, keys, pair: second, old, ...took };
}

const verifier = join(import.meta.dirname, '../../examples/verifier/verify.mjs');

export type Verdict = Readonly<{ accepted: boolean; code: number | null; said: string }>;

/** Runs the separate verifier as its user does. */
export function runVerifier(directory: string, args: readonly string[]): Promise<Verdict> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [verifier, directory, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk) => {
        said += String(chunk);
      });
    child.once('close', (code) => resolve({ accepted: code === 0, code, said: said.trim() }));
  });
}

/** A copy that shares what is not replaced. */
function copy(log: BuiltLog, into: string): string {
  rmSync(into, { recursive: true, force: true });
  execFileSync('cp', ['-al', log.directory, into]);
  return into;
}

function replace(file: string, change: (bytes: Buffer) => Buffer | string): void {
  const bytes = readFileSync(file);
  rmSync(file);
  writeFileSync(file, change(bytes));
}

function sign(directory: string, size: number, root: Buffer, pair: readonly NoteSigner[]): void {
  const body = checkpointBody({ origin, size, root });
  rmSync(join(directory, 'checkpoint'), { force: true });
  writeFileSync(
    join(directory, 'checkpoint'),
    `${body}\n${pair.map((signer) => signNote(signer, body, 1_800_000_000)).join('')}`,
  );
}

/** A whole log of other leaves, tiles and all; signed where a pair is given, else under the old signatures. */
async function rebuild(
  log: BuiltLog,
  into: string,
  entries: Iterable<Buffer>,
  pair: readonly NoteSigner[] | undefined,
): Promise<string> {
  rmSync(into, { recursive: true, force: true });
  mkdirSync(into);
  const tree = createTree(into, { size: 0, edges: [] });
  for (const entry of entries) if (tree.append(entry) && tree.size() % 65_536 === 0) await tree.flush();
  await tree.flush();
  writeFileSync(join(into, 'checkpoint'), readFileSync(join(log.directory, 'checkpoint')));
  if (pair !== undefined) sign(into, tree.size(), tree.root(), pair);
  return into;
}

function* leavesOf(log: BuiltLog, from = 0, to = log.size): Generator<Buffer> {
  const reader = createTileReader(log.directory, log.size);
  for (let i = from; i < to; i += 1) yield reader.entry(i);
}

function* without(log: BuiltLog, index: number): Generator<Buffer> {
  yield* leavesOf(log, 0, index);
  yield* leavesOf(log, index + 1);
}

function* swapped(log: BuiltLog, index: number): Generator<Buffer> {
  yield* leavesOf(log, 0, index);
  yield* leavesOf(log, index + 1, index + 2);
  yield* leavesOf(log, index, index + 1);
  yield* leavesOf(log, index + 2);
}

/** The same numbers and agents, another record at one place. */
function* forked(log: BuiltLog, index: number): Generator<Buffer> {
  yield* leavesOf(log, 0, index);
  for (const entry of leavesOf(log, index, index + 1))
    yield Buffer.from(entry.toString('utf8').replace(/"digest":"..../, '"digest":"AAAA'), 'utf8');
  yield* leavesOf(log, index + 1);
}

export type Tampered = Readonly<{
  name: string;
  make(log: BuiltLog, into: string): Promise<string> | string;
  /** Beyond the keys. */
  args?: (log: BuiltLog) => readonly string[];
  says: RegExp;
}>;

const withOld = ({ old }: BuiltLog): readonly string[] => ['--old', old];
const middle = ({ size }: BuiltLog): number => Math.floor(size / 3);
const tileOf = (log: BuiltLog): number => Math.floor(middle(log) / 256);

export const tampered: readonly Tampered[] = [
  {
    name: 'an edited leaf',
    make: (log, into) => {
      const directory = copy(log, into);
      replace(join(directory, tilePath('entries', tileOf(log))), (bytes) => {
        const at = bytes.indexOf('"digest":"') + 12;
        bytes[at] = bytes[at] === 0x41 ? 0x42 : 0x41;
        return bytes;
      });
      return directory;
    },
    says: /leaf \d+ was changed/,
  },
  {
    name: 'an edited leaf and its hash',
    make: (log, into) => {
      const directory = copy(log, into);
      const n = tileOf(log);
      let leaf: Buffer = Buffer.alloc(0);
      replace(join(directory, tilePath('entries', n)), (bytes) => {
        bytes[20] = (bytes[20] ?? 0) ^ 1;
        leaf = bytes.subarray(2, 2 + bytes.readUInt16BE(0));
        return bytes;
      });
      replace(join(directory, tilePath(0, n)), (bytes) =>
        Buffer.concat([leafHash(leaf), bytes.subarray(32)]),
      );
      return directory;
    },
    says: /tile 0\/\d+ was changed/,
  },
  {
    name: 'a dropped leaf',
    make: (log, into) => rebuild(log, into, without(log, middle(log)), undefined),
    says: /do not lead to the root|is missing|has \d+ of \d+/,
  },
  {
    name: 'a dropped leaf, signed by the log',
    make: (log, into) => rebuild(log, into, without(log, middle(log)), log.pair),
    says: /is record \d+ of /,
  },
  {
    name: 'two leaves in another order',
    make: (log, into) => rebuild(log, into, swapped(log, middle(log)), undefined),
    says: /do not lead to the root/,
  },
  {
    name: 'two leaves in another order, signed by the log',
    make: (log, into) => rebuild(log, into, swapped(log, middle(log)), log.pair),
    args: withOld,
    says: /did not grow out of/,
  },
  {
    name: 'a fork, signed by the log',
    make: (log, into) => rebuild(log, into, forked(log, middle(log)), log.pair),
    args: withOld,
    says: /did not grow out of/,
  },
  {
    name: 'a log signed by another key of the same name',
    make: (log, into) => {
      const directory = copy(log, into);
      sign(directory, log.size, readCheckpoint(directory)?.root ?? Buffer.alloc(0), somePair());
      return directory;
    },
    says: /no known ed25519 key/,
  },
  {
    name: 'another root under the signatures of the log',
    make: (log, into) => {
      const directory = copy(log, into);
      replace(join(directory, 'checkpoint'), (bytes) => {
        const lines = bytes.toString('utf8').split('\n');
        return lines.with(2, Buffer.alloc(32).toString('base64')).join('\n');
      });
      return directory;
    },
    says: /signature of .* does not verify/,
  },
  {
    name: 'a log that only one of its two keys signed',
    make: (log, into) => {
      const directory = copy(log, into);
      replace(
        join(directory, 'checkpoint'),
        (bytes) => `${bytes.toString('utf8').split('\n').slice(0, 5).join('\n')}\n`,
      );
      return directory;
    },
    says: /no known ml-dsa-44 key/,
  },
  {
    name: 'a cut log, against the size that it is known to have',
    make: (log, into) => {
      const directory = copy(log, into);
      replace(join(directory, 'checkpoint'), () => readFileSync(log.old));
      return directory;
    },
    args: ({ size }) => ['--size', String(size)],
    says: /the log was cut/,
  },
  {
    name: 'a cut log, signed by the log, against an earlier checkpoint',
    make: (log, into) => rebuild(log, into, leavesOf(log, 0, middle(log)), log.pair),
    args: withOld,
    says: /the log was cut/,
  },
  {
    name: 'a tile that is gone',
    make: (log, into) => {
      const directory = copy(log, into);
      rmSync(join(directory, tilePath(0, tileOf(log))));
      return directory;
    },
    says: /is missing/,
  },
];
