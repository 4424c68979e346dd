/**
 * Receipts (C2SP tlog-proof v1): that a record is in the log, for whoever has the log's verifier keys and
 * nothing else.
 *
 *   c2sp.org/tlog-proof@v1
 *   extra base64({"leaf":"…","line":"…"})      the leaf; with its content where that was asked for
 *   index 73894
 *   base64(hash) …                             the way to the root
 *
 *   the checkpoint, with its signatures and cosignatures
 */
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { decodeLine } from '../common/journal-record.ts';
import { contentDigest, decodeLeaf, type Leaf } from './leaf.ts';
import { hashBytes, inclusionPath, leafHash, rootOfInclusion } from './merkle.ts';
import { type Checkpoint, fromBase64, type NoteKey, parseCheckpoint, parseNote, verifyNote } from './note.ts';
import type { TileReader } from './tile-reader.ts';

export type Receipt = Readonly<{
  index: number;
  path: readonly Buffer[];
  /** The leaf as it was hashed. */
  leaf: string;
  /** The journal's line that the leaf commits to, where the receipt carries it. */
  line: string | undefined;
  note: string;
}>;

const header = 'c2sp.org/tlog-proof@v1';

/** Of 2^53 leaves at most. */
const pathLengthMax = 53;

export function makeReceipt(
  reader: TileReader,
  checkpoint: Checkpoint & Readonly<{ note: string }>,
  index: number,
  line: string | undefined,
): Receipt {
  if (index >= checkpoint.size)
    throw new SallyportError(
      'NotFound',
      `leaf ${index} is not under the checkpoint yet, which has ${checkpoint.size}`,
    );
  return {
    index,
    path: inclusionPath(index, checkpoint.size, reader.subtree),
    leaf: reader.entry(index).toString('utf8'),
    line,
    note: checkpoint.note,
  };
}

export function encodeReceipt({ index, path, leaf, line, note }: Receipt): string {
  const extra = Buffer.from(JSON.stringify(line === undefined ? { leaf } : { leaf, line }), 'utf8');
  const hashes = path.map((hash) => `${hash.toString('base64')}\n`).join('');
  return `${header}\nextra ${extra.toString('base64')}\nindex ${index}\n${hashes}\n${note}`;
}

const malformed = (what: string): SallyportError =>
  new SallyportError('RequestMalformed', `this is no receipt: ${what}`);

function decodeExtra(text: string): Readonly<{ leaf: string; line: string | undefined }> {
  const bytes = fromBase64(text);
  if (bytes === undefined) throw malformed('its second line is not `extra` and base64');
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw malformed('its `extra` is not JSON');
  }
  if (typeof value !== 'object' || value === null) throw malformed('its `extra` is no object');
  const { leaf, line } = { leaf: undefined, line: undefined, ...value };
  if (typeof leaf !== 'string' || (line !== undefined && typeof line !== 'string'))
    throw malformed('its `extra` has no leaf');
  return { leaf, line };
}

export function parseReceipt(text: string): Receipt {
  if (Buffer.byteLength(text) > limits.auditReceiptBytesMax)
    throw malformed(`it has more than ${limits.auditReceiptBytesMax} bytes`);
  const cut = text.indexOf('\n\n');
  if (cut < 0) throw malformed('it has no empty line before its checkpoint');
  const [first, extra = '', place = '', ...hashes] = text.slice(0, cut).split('\n');
  if (first !== header) throw malformed(`it does not begin with ${header}`);
  if (!extra.startsWith('extra ')) throw malformed('its second line is not `extra` and base64');
  const index = /^index (0|[1-9]\d{0,15})$/.exec(place)?.[1];
  if (index === undefined || !Number.isSafeInteger(Number(index)))
    throw malformed('its third line is not `index` and a number');
  const path = hashes.map((hash) => fromBase64(hash));
  if (path.length > pathLengthMax || path.some((hash) => hash?.length !== hashBytes))
    throw malformed(`its path is not 0 to ${pathLengthMax} hashes, a line each`);
  return {
    ...decodeExtra(extra.slice('extra '.length)),
    index: Number(index),
    path: path.filter((hash) => hash !== undefined),
    note: text.slice(cut + 2),
  };
}

export type ReceiptVerdict = Readonly<{
  checkpoint: Checkpoint;
  leaf: Leaf;
  /** Keys whose signatures verify: the log's and those of witnesses that were given. */
  signers: readonly NoteKey[];
  /** Whether the line that came along is the one that the leaf commits to; undefined without one. */
  content: boolean | undefined;
}>;

/** Throws RequestMalformed with what does not hold. */
export function verifyReceipt(receipt: Receipt, trusted: readonly NoteKey[]): ReceiptVerdict {
  const note = parseNote(receipt.note);
  const checkpoint = parseCheckpoint(note.body);
  const verified = verifyNote(note, trusted);
  if (verified === undefined) throw malformed('a signature of a known key does not verify');
  const signers = verified.map(({ key }) => key);
  if (!signers.some(({ name }) => name === checkpoint.origin))
    throw malformed(`no known key of ${checkpoint.origin} signed its checkpoint`);
  const hash = leafHash(Buffer.from(receipt.leaf, 'utf8'));
  if (rootOfInclusion(receipt.index, checkpoint.size, hash, receipt.path)?.equals(checkpoint.root) !== true)
    throw malformed(`leaf ${receipt.index} does not lead to the root of its checkpoint`);
  const leaf = decodeLeaf(receipt.leaf);
  if (leaf === undefined) throw malformed('its leaf is no record of a sidecar');
  return { checkpoint, leaf, signers, content: contentOf(receipt.line, leaf) };
}

function contentOf(line: string | undefined, leaf: Leaf): boolean | undefined {
  if (line === undefined) return undefined;
  const bytes = Buffer.from(line, 'utf8');
  const read = decodeLine(bytes);
  return (
    read?.kind === 'record' &&
    read.sequenced !== undefined &&
    contentDigest(read.sequenced.salt, bytes) === leaf.digest
  );
}
