/**
 * `POST <prefix>/add-checkpoint` as bytes (C2SP tlog-witness):
 *
 *   old N\n  base64(hash)\n …  \n  checkpoint
 */
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { hashBytes } from './merkle.ts';
import { type Checkpoint, fromBase64, type Note, parseCheckpoint, parseNote } from './note.ts';

export type AddCheckpoint = Readonly<{
  oldSize: number;
  proof: readonly Buffer[];
  note: Note;
  checkpoint: Checkpoint;
}>;

/** Content type of the answer that tells a size (tlog-witness, 409). */
export const sizeContentType = 'text/x.tlog.size';

const malformed = (what: string): SallyportError => new SallyportError('RequestMalformed', what);

/** Decimal without leading zeros; undefined where it is not, or no safe integer. */
export function parseSize(text: string): number | undefined {
  const size = Number(text);
  return /^(0|[1-9]\d{0,15})$/.test(text) && Number.isSafeInteger(size) ? size : undefined;
}

function textOf(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new SallyportError('RequestMalformed', 'the request is not UTF-8', { cause });
  }
}

export function decodeAddCheckpoint(bytes: Uint8Array): AddCheckpoint {
  const text = textOf(bytes);
  const cut = text.indexOf('\n\n');
  const [first = '', ...lines] = text.slice(0, Math.max(0, cut)).split('\n');
  const oldSize = first.startsWith('old ') ? parseSize(first.slice(4)) : undefined;
  if (oldSize === undefined)
    throw malformed('the first line is `old`, a space and a size in decimal; an empty line ends the proof');
  if (lines.length > limits.witnessProofHashesMax)
    throw malformed(`a proof has at most ${limits.witnessProofHashesMax} hashes, not ${lines.length}`);
  const proof = lines.map((line) => {
    const hash = fromBase64(line);
    if (hash?.length !== hashBytes) throw malformed(`each line of the proof is ${hashBytes} bytes in base64`);
    return hash;
  });
  const note = parseNote(text.slice(cut + 2));
  return { oldSize, proof, note, checkpoint: parseCheckpoint(note.body) };
}

export const encodeAddCheckpoint = (oldSize: number, proof: readonly Buffer[], note: string): string =>
  `old ${oldSize}\n${proof.map((hash) => `${hash.toString('base64')}\n`).join('')}\n${note}`;
