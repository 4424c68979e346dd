/**
 * Everything that a log says of itself, looked at: signatures, tiles, leaves, each agent's numbers, and the
 * journal's lines against the leaves that they became. `examples/verifier/` does the same and shares no code.
 */
import { join } from 'node:path';
import { SallyportError } from '../../config/errors.ts';
import { linesOf } from '../common/journal-lines.ts';
import { decodeLine } from '../common/journal-record.ts';
import { firstLeaves } from './find.ts';
import { auditDirectory, readIdentity } from './identity.ts';
import { createPseudonyms, decodeLeaf, encodeLeaf, leafOf } from './leaf.ts';
import { type Published, readCheckpoint } from './log.ts';
import { consistencyPath, foldHashes, isConsistent, leafHash, rootHash } from './merkle.ts';
import { type NoteKey, noteTypes, parseNote, verifyNote } from './note.ts';
import { readState } from './state.ts';
import { createTileReader, type TileReader } from './tile-reader.ts';
import { tileWidth, widthIn } from './tiles.ts';

export type LogReport = Readonly<{
  origin: string;
  size: number;
  root: string;
  /** Names and ids of the keys whose signatures verify. */
  signers: readonly string[];
  /** Leaves that were looked at, and agents that they are of. */
  leaves: number;
  agents: number;
  content: Readonly<{
    /** Lines that are what their leaves commit to, and lines that were erased. */
    whole: number;
    erased: number;
    /** Leaves whose line is not kept any more. */
    pruned: number;
    /** Lines that are not under the checkpoint yet. */
    waiting: number;
  }>;
  /** Below it leaves are pruned, and only what they hash to is left. */
  minimumIndex: number;
  /** Empty where all is well. */
  problems: readonly string[];
}>;

export const problemsMax = 50;

type Tell = (problem: string) => void;

/** What cannot be read is a problem like every other. */
function trying<T>(tell: Tell, read: () => T): T | undefined {
  try {
    return read();
  } catch (thrown) {
    if (!(thrown instanceof SallyportError)) throw thrown;
    tell(thrown.message);
    return undefined;
  }
}

function checkSignatures(
  note: string,
  origin: string,
  keys: readonly NoteKey[],
  tell: Tell,
): readonly NoteKey[] {
  const verified = verifyNote(parseNote(note), keys);
  if (verified === undefined) tell('a signature of a known key under the checkpoint does not verify');
  const signers = (verified ?? []).map(({ key }) => key);
  for (const [type, algorithm] of [
    [noteTypes.ed25519, 'Ed25519'],
    [noteTypes.cosignatureMlDsa44, 'ML-DSA-44'],
  ] as const)
    if (!signers.some((key) => key.type === type && key.name === origin))
      tell(`no ${algorithm} key of ${origin} signed the checkpoint`);
  return signers;
}

/** Every tile against the level above it, and the top of them against the root. */
function checkTiles(reader: TileReader, { size, root }: Published, minimumIndex: number, tell: Tell): void {
  const top = trying(tell, () => rootHash(size, reader.subtree));
  if (top !== undefined && !top.equals(root)) tell('the tiles do not lead to the root of the checkpoint');
  for (let level = 1; widthIn(size, level, 0) > 0; level += 1) {
    for (let n = 0; widthIn(size, level, n) > 0; n += 1) {
      if ((n + 1) * tileWidth ** (level + 1) <= minimumIndex) continue;
      for (const [i, hash] of (trying(tell, () => reader.tile(level, n)) ?? []).entries()) {
        const child = n * tileWidth + i;
        if ((child + 1) * tileWidth ** level <= minimumIndex) continue;
        const below = trying(tell, () => reader.tile(level - 1, child));
        if (below !== undefined && !foldHashes(below).equals(hash))
          tell(`tile ${child} of level ${level - 1} is not what level ${level} says of it`);
      }
    }
  }
}

/** Every leaf against its tile, and each agent's numbers, which have no gap from 1 on. */
function checkLeaves(
  reader: TileReader,
  size: number,
  minimumIndex: number,
  tell: Tell,
): Readonly<{ leaves: number; agents: number }> {
  const numbers = new Map<string, number>();
  let leaves = 0;
  for (let n = Math.floor(minimumIndex / tileWidth); widthIn(size, 'entries', n) > 0; n += 1) {
    const hashes = trying(tell, () => reader.tile(0, n)) ?? [];
    for (const [i, entry] of (trying(tell, () => reader.bundle(n)) ?? []).entries()) {
      const index = n * tileWidth + i;
      leaves += 1;
      if (hashes[i]?.equals(leafHash(entry)) !== true) tell(`leaf ${index} is not what its tile says of it`);
      const leaf = decodeLeaf(entry.toString('utf8'));
      if (leaf === undefined) {
        tell(`leaf ${index} is no record of a sidecar`);
        continue;
      }
      const before = numbers.get(leaf.agent);
      // What an agent's first number is, nobody can know once leaves before it are pruned.
      if (leaf.agent_seq !== (before ?? 0) + 1 && (before !== undefined || minimumIndex === 0))
        tell(`leaf ${index} is record ${leaf.agent_seq} of agent ${leaf.agent}, after record ${before ?? 0}`);
      numbers.set(leaf.agent, leaf.agent_seq);
    }
  }
  return { leaves, agents: numbers.size };
}

async function checkContent(
  stateDir: string,
  reader: TileReader,
  { size }: Published,
  minimumIndex: number,
  tell: Tell,
): Promise<LogReport['content']> {
  const directory = join(stateDir, 'journal');
  const pseudonym = createPseudonyms(readIdentity(stateDir)?.agentsKey ?? Buffer.alloc(0));
  const count = { whole: 0, erased: 0, waiting: 0 };
  let changed = 0;
  for (const { file, index: first } of await firstLeaves(
    directory,
    readState(auditDirectory(stateDir))?.files ?? [],
  )) {
    let index = first;
    for (const { bytes } of linesOf(directory, file)) {
      const line = bytes === undefined ? undefined : decodeLine(bytes);
      if (bytes === undefined || line === undefined)
        tell(`${file} has a line that is no record, before leaf ${index}`);
      else if (line.kind === 'erased' || line.sequenced !== undefined) {
        const leaf =
          line.kind === 'erased'
            ? line.leaf
            : line.sequenced === undefined
              ? ''
              : encodeLeaf(leafOf(line.record, line.sequenced, bytes, pseudonym));
        if (index >= size) count.waiting += 1;
        else if (
          index >= minimumIndex &&
          trying(tell, () => reader.entry(index))?.toString('utf8') !== leaf
        ) {
          changed += 1;
          tell(`the line of leaf ${index} in ${file} is not what the leaf commits to`);
        } else if (line.kind === 'erased') count.erased += 1;
        else count.whole += 1;
        index += 1;
      }
    }
  }
  return { ...count, pruned: Math.max(0, size - count.whole - count.erased - changed) };
}

/** `old` is a checkpoint that was kept elsewhere: the log has to have grown out of it. */
export async function verifyLog(
  stateDir: string,
  keys: readonly NoteKey[],
  old?: Readonly<{ size: number; root: Buffer; origin: string }>,
): Promise<LogReport> {
  const directory = auditDirectory(stateDir);
  const published = readCheckpoint(directory);
  if (published === undefined)
    throw new SallyportError('NotFound', `there is no audit log in ${directory}: it has no checkpoint yet`);
  const problems: string[] = [];
  const tell: Tell = (problem) => {
    if (problems.length < problemsMax && !problems.includes(problem)) problems.push(problem);
  };
  const { origin, size, root } = published;
  const minimumIndex = readState(directory)?.minimumIndex ?? 0;
  const reader = createTileReader(directory, size);
  const signers = trying(tell, () => checkSignatures(published.note, origin, keys, tell)) ?? [];
  checkTiles(reader, published, minimumIndex, tell);
  const counted = checkLeaves(reader, size, minimumIndex, tell);
  const content = await checkContent(stateDir, reader, published, minimumIndex, tell);
  if (old !== undefined) {
    const proof = trying(tell, () =>
      old.size > size ? [] : consistencyPath(old.size, size, reader.subtree),
    );
    if (old.origin !== origin) tell(`the earlier checkpoint is of ${old.origin}, and the log is ${origin}`);
    else if (old.size > size) tell(`the log has ${size} leaves, and the earlier checkpoint had ${old.size}`);
    else if (proof !== undefined && !isConsistent(old, published, proof))
      tell(`the log did not grow out of the earlier checkpoint of size ${old.size}`);
  }
  return {
    ...{ origin, size, root: root.toString('base64') },
    signers: signers.map(({ name, id }) => `${name}+${id}`),
    ...{ ...counted, content, minimumIndex, problems },
  };
}
