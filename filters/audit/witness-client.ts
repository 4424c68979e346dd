/**
 * The log's side of C2SP tlog-witness: one round asks every witness for a cosignature of the newest checkpoint.
 * No decision waits for it. A witness that has seen more than this log holds, or another past of it, is the
 * thing that witnesses are for, and is told apart from one that is merely away.
 */
import { toSallyportError } from '../../config/errors.ts';
import {
  type Checkpoint,
  type NoteKey,
  type NoteSignature,
  parseCheckpoint,
  parseNote,
  parseSignatureLine,
  verifySignature,
} from './note.ts';
import { encodeAddCheckpoint, parseSize, sizeContentType } from './witness-wire.ts';

export type AskedWitness = Readonly<{
  /** For people: its URL. */
  name: string;
  keys: readonly NoteKey[];
  /** `POST <prefix>/add-checkpoint`. Rejects where no whole answer came in time. */
  post(body: string): Promise<Readonly<{ status: number; type: string; body: string }>>;
}>;

export type WitnessedLog = Readonly<{
  /** The newest checkpoint with the log's own signatures; undefined before the first. */
  newest(): string | undefined;
  /** RFC 6962, section 2.1.2. */
  proof(oldSize: number, size: number): readonly Buffer[];
}>;

export type WitnessResult = 'cosigned' | 'conflict' | 'refused' | 'unreachable';
export type WitnessState = Readonly<{
  name: string;
  /** Greatest size that it cosigned for us since the start. */
  size: number;
  result: WitnessResult | undefined;
  detail: string;
}>;

export type WitnessClient = Readonly<{
  /** One round. Never rejects. Rounds do not overlap: one that is asked for meanwhile is the running one. */
  round(): Promise<void>;
  states(): readonly WitnessState[];
  /** How long a round has been without a quorum for the newest checkpoint; 0 where the last one had it. */
  lateMs(): number;
}>;

type Asked = Readonly<{ result: WitnessResult; detail: string; lines: readonly string[] }>;
type Known = { size: number; asked: Asked | undefined };

const failed = (result: WitnessResult, detail: string): Asked => ({ result, detail, lines: [] });

export function createWitnessClient(
  deps: Readonly<{
    witnesses: readonly AskedWitness[];
    quorum: number;
    log: WitnessedLog;
    monotonicMs(): number;
    /** Takes a checkpoint with the cosignatures of a quorum and more. */
    keep(note: string): void;
    onError(thrown: unknown): void;
    onResult(witness: string, asked: Readonly<{ result: WitnessResult; detail: string }>): void;
  }>,
): WitnessClient {
  const { witnesses, quorum, log } = deps;
  const known = new Map<AskedWitness, Known>(witnesses.map((one) => [one, { size: 0, asked: undefined }]));
  let lateSinceMs: number | undefined;
  /** The checkpoint that every witness cosigned: there is nothing to ask until the log has another. */
  let done = '';
  let running: Promise<void> | undefined;

  /** The lines of the witness's own keys. Lines of others are ignored; one that does not verify voids the answer. */
  const cosignatures = (
    witness: AskedWitness,
    body: string,
    answer: string,
  ): readonly string[] | undefined => {
    // One of each key: a witness must not make our own note longer than may be read again.
    const lines = new Map<NoteKey, string>();
    for (const line of answer.replace(/\n$/, '').split('\n')) {
      let signature: NoteSignature;
      try {
        signature = parseSignatureLine(line);
      } catch {
        return undefined;
      }
      const key = witness.keys.find(({ name, id }) => name === signature.name && id === signature.id);
      if (key === undefined || lines.has(key)) continue;
      if (!verifySignature(key, body, signature)) return undefined;
      lines.set(key, signature.line);
    }
    return lines.size === 0 ? undefined : [...lines.values()];
  };

  const askFrom = async (
    witness: AskedWitness,
    note: string,
    { size }: Checkpoint,
    oldSize: number,
    mayRepeat: boolean,
  ): Promise<Asked> => {
    const answer = await witness.post(encodeAddCheckpoint(oldSize, log.proof(oldSize, size), note));
    const { body } = parseNote(note);
    switch (answer.status) {
      case 200: {
        const lines = cosignatures(witness, body, answer.body);
        if (lines === undefined)
          return failed('refused', 'it answered with no valid cosignature of its keys');
        return { result: 'cosigned', detail: `size ${size}`, lines };
      }
      case 409: {
        const seen = answer.type.startsWith(sizeContentType)
          ? parseSize(answer.body.replace(/\n$/, ''))
          : undefined;
        if (seen === undefined) return failed('refused', 'it answered 409 without a size');
        if (seen > size)
          return failed(
            'conflict',
            `it cosigned size ${seen}, and this log has ${size}: the log was set back, or its keys are used elsewhere`,
          );
        if (!mayRepeat) return failed('refused', `it answered 409 to the size ${oldSize} that it had told`);
        return askFrom(witness, note, parseCheckpoint(body), seen, false);
      }
      case 422:
        return failed(
          'conflict',
          `it cosigned another past of this log: ${answer.body.trim().slice(0, 200)}`,
        );
      default:
        return failed('refused', `status ${answer.status}: ${answer.body.trim().slice(0, 200)}`);
    }
  };

  const ask = async (witness: AskedWitness, note: string, checkpoint: Checkpoint): Promise<Asked> => {
    const about = known.get(witness);
    const from = Math.min(about?.size ?? 0, checkpoint.size);
    let asked: Asked;
    try {
      asked = await askFrom(witness, note, checkpoint, from, true);
    } catch (thrown) {
      asked = failed('unreachable', toSallyportError(thrown, 'ServiceUnavailable').message);
    }
    if (about !== undefined) {
      about.asked = asked;
      if (asked.result === 'cosigned') about.size = checkpoint.size;
    }
    deps.onResult(witness.name, asked);
    return asked;
  };

  const once = async (): Promise<void> => {
    const note = log.newest();
    if (note === undefined || note === done) return;
    const checkpoint = parseCheckpoint(parseNote(note).body);
    const answers = await Promise.all(witnesses.map((witness) => ask(witness, note, checkpoint)));
    const good = answers.filter(({ result }) => result === 'cosigned');
    if (good.length === witnesses.length) done = note;
    if (good.length < quorum) {
      lateSinceMs ??= deps.monotonicMs();
      return;
    }
    lateSinceMs = undefined;
    if (good.length > 0) deps.keep(note + good.flatMap(({ lines }) => lines).join(''));
  };

  return {
    round: () => {
      running ??= once()
        .catch(deps.onError)
        .finally(() => {
          running = undefined;
        });
      return running;
    },
    states: () =>
      witnesses.map((witness) => {
        const about = known.get(witness);
        return {
          name: witness.name,
          size: about?.size ?? 0,
          result: about?.asked?.result,
          detail: about?.asked?.detail ?? 'not asked yet',
        };
      }),
    lateMs: () => (lateSinceMs === undefined ? 0 : deps.monotonicMs() - lateSinceMs),
  };
}
