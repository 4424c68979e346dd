/** What is kept beside the log to go on with it: how far the journal was taken in, and the edges of the tree there. */
import { join } from 'node:path';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { JournalPlace } from '../common/journal-lines.ts';
import { jsonObject } from '../common/json-object.ts';
import { readBounded, replaceFile } from './files.ts';
import { hashBytes } from './merkle.ts';
import { fromBase64 } from './note.ts';
import type { AlignedTree } from './tree.ts';

/** A journal file and the index of its first leaf. */
export type FirstLeaf = Readonly<{ file: string; index: number }>;

export type LogState = Readonly<{
  tree: AlignedTree;
  /** Where the journal goes on after the tree's last leaf. */
  place: JournalPlace;
  /** Of every journal file that is still there, oldest first. */
  files: readonly FirstLeaf[];
  /** Leaves below it may be gone (tlog-tiles, "Pruning"); what they commit to stays in the root. */
  minimumIndex: number;
}>;

export const stateFile = 'state.json';

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
const isFile = (value: unknown): value is string =>
  typeof value === 'string' && /^decisions-\d{10}\.jsonl$/.test(value);

/** Undefined for text that is no state. */
export function decodeState(text: string): LogState | undefined {
  const fields = jsonObject(text);
  if (fields === undefined) return undefined;
  const { v, size, edges, file, offset, files, minimum_index } = fields;
  if (v !== 1 || !isCount(size) || !Array.isArray(edges) || !Array.isArray(files)) return undefined;
  if (!isFile(file) || !isCount(offset) || !isCount(minimum_index)) return undefined;
  const rows = edges.map((edge: unknown) =>
    Array.isArray(edge)
      ? edge.map((hash: unknown) => fromBase64(typeof hash === 'string' ? hash : ''))
      : [undefined],
  );
  const hashes = rows.map((row) => row.filter((hash) => hash?.length === hashBytes));
  // As many hashes as a tree of this size has at its edges (tlog-tiles, "Partial Tiles").
  const fits = hashes.every(
    (row, i) => row.length === rows[i]?.length && row.length === Math.floor(size / 256 ** (i + 1)) % 256,
  );
  if (size % 256 !== 0 || !fits || size >= 256 ** (hashes.length + 1)) return undefined;
  const firsts = files.map((entry: unknown): FirstLeaf | undefined => {
    const [name, index] = Array.isArray(entry) ? entry : [];
    return isFile(name) && isCount(index) ? { file: name, index } : undefined;
  });
  const known = firsts.filter((first) => first !== undefined);
  if (known.length !== firsts.length) return undefined;
  const tree = { size, edges: hashes.map((row) => row.filter((hash) => hash !== undefined)) };
  return { tree, place: { file, offset }, files: known, minimumIndex: minimum_index };
}

export const encodeState = ({ tree, place, files, minimumIndex }: LogState): string =>
  JSON.stringify({
    v: 1,
    size: tree.size,
    edges: tree.edges.map((edge) => edge.map((hash) => hash.toString('base64'))),
    file: place.file,
    offset: place.offset,
    files: files.map(({ file, index }) => [file, index]),
    minimum_index: minimumIndex,
  });

export function readState(directory: string): LogState | undefined {
  const path = join(directory, stateFile);
  const bytes = readBounded(path, limits.auditStateBytesMax);
  if (bytes === undefined) return undefined;
  const state = decodeState(bytes.toString('utf8'));
  if (state === undefined) throw new SallyportError('StateUnavailable', `${path} is damaged`);
  return state;
}

export const writeState = (directory: string, state: LogState): Promise<void> =>
  replaceFile(join(directory, stateFile), encodeState(state));
