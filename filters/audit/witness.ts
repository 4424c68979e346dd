/**
 * A witness for other logs (C2SP tlog-witness): cosigns a checkpoint only where it is the one that it cosigned
 * last, grown. What it cosigned last is on disk before the cosignature leaves, so that no restart can be made
 * to cosign a fork. One request is answered from its reading to its end without a break: two of one log cannot
 * overtake each other.
 */
import { createHash } from 'node:crypto';
import { SallyportError, toSallyportError } from '../../config/errors.ts';
import { emptyRoot, isConsistent } from './merkle.ts';
import { type Checkpoint, type NoteKey, parseCheckpoint, parseNote, verifyNote } from './note.ts';
import { type NoteSigner, signNote } from './signers.ts';
import { type AddCheckpoint, decodeAddCheckpoint, sizeContentType } from './witness-wire.ts';

export type WitnessAnswer = Readonly<{ status: number; type: string; body: string }>;

/** Newest cosigned checkpoint of each log, with its signatures. */
export interface WitnessStore {
  /** Undefined where this log was never cosigned. Throws where it cannot be known. */
  read(originHash: string): string | undefined;
  /** On disk when it returns. */
  write(originHash: string, note: string): void;
}

export type Witness = Readonly<{
  addCheckpoint(body: Uint8Array): WitnessAnswer;
  /** `GET <prefix>/<origin hash>/checkpoint` (tlog-witness, "Monitor Retrieval Mechanism"). */
  checkpoint(originHash: string): WitnessAnswer;
}>;

export type WitnessDeps = Readonly<{
  /** The keys of each log that is witnessed, by origin. */
  logs: ReadonlyMap<string, readonly NoteKey[]>;
  signers(): readonly NoteSigner[];
  /** Every key that this witness ever cosigned with. */
  ownKeys(): readonly NoteKey[];
  store: WitnessStore;
  wallMs(): number;
}>;

type Last = Checkpoint & Readonly<{ by: ReadonlySet<string> }>;

export const originHash = (origin: string): string => createHash('sha256').update(origin).digest('hex');

const plain = 'text/plain; charset=utf-8';
const refuse = (status: number, why: string): WitnessAnswer => ({ status, type: plain, body: `${why}\n` });

export function createWitness({ logs, signers, ownKeys, store, wallMs }: WitnessDeps): Witness {
  const served = new Map([...logs.keys()].map((origin) => [originHash(origin), origin]));

  /**
   * What was cosigned last, and by which keys of ours. A file that this witness did not sign is damage: cosigning
   * on would be a guess.
   */
  const lastOf = (origin: string): Last | undefined => {
    const kept = store.read(originHash(origin));
    if (kept === undefined) return undefined;
    const note = parseNote(kept);
    const checkpoint = parseCheckpoint(note.body);
    const own = verifyNote(note, ownKeys()) ?? [];
    if (checkpoint.origin !== origin || own.length === 0)
      throw new SallyportError(
        'StateUnavailable',
        `the checkpoint kept of ${origin} is not one that this witness cosigned`,
      );
    return { ...checkpoint, by: new Set(own.map(({ key }) => key.id)) };
  };

  const judge = ({ oldSize, proof, note, checkpoint }: AddCheckpoint): WitnessAnswer => {
    const { origin, size, root } = checkpoint;
    const keys = logs.get(origin);
    if (keys === undefined) return refuse(404, 'this log is not witnessed here');
    const verified = verifyNote(note, keys);
    if (verified === undefined) return refuse(403, 'a signature of a trusted key does not verify');
    if (verified.length === 0) return refuse(403, 'no signature is of a key that is trusted for this log');
    if (oldSize > size) return refuse(400, `the old size ${oldSize} is greater than the size ${size}`);
    const kept = lastOf(origin);
    const last = kept ?? { origin, size: 0, root: emptyRoot() };
    if (oldSize !== last.size) return { status: 409, type: sizeContentType, body: `${last.size}\n` };
    if (size === 0 && !root.equals(emptyRoot()))
      return refuse(422, 'the root hash of an empty log is that of nothing');
    if (!isConsistent(last, { size, root }, proof))
      return refuse(
        422,
        oldSize === size
          ? `another root hash of size ${size} was cosigned`
          : `the proof does not lead from size ${oldSize} to this checkpoint`,
      );
    const timestampS = Math.floor(wallMs() / 1_000);
    const now = signers();
    const lines = now.map((signer) => signNote(signer, note.body, timestampS)).join('');
    // A checkpoint is public: who shows it again makes no work for the disk.
    const isKept = kept?.size === size && now.every(({ key }) => kept.by.has(key.id));
    if (!isKept) {
      const logLines = verified.map(({ signature }) => signature.line).join('');
      const text = `${note.body}\n${logLines}${lines}`;
      // What cannot be read again would end this witness: it is found out before it is written.
      parseNote(text);
      store.write(originHash(origin), text);
    }
    return { status: 200, type: plain, body: lines };
  };

  return {
    addCheckpoint: (body) => {
      let request: AddCheckpoint;
      try {
        request = decodeAddCheckpoint(body);
      } catch (thrown) {
        return refuse(400, toSallyportError(thrown).message);
      }
      return judge(request);
    },
    checkpoint: (hash) => {
      const kept = served.has(hash) ? store.read(hash) : undefined;
      return kept === undefined
        ? refuse(404, 'no checkpoint of this log was cosigned here')
        : { status: 200, type: plain, body: kept };
    },
  };
}
