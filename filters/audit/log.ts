/**
 * The audit log: follows the journal and grows a Merkle tree out of it, in `audit/` of the state directory.
 *
 *   log.json      origin of the log, key of its pseudonyms
 *   vkeys         every key that ever signed, a line each
 *   checkpoint    size and root, signed: what the log says of itself
 *   tile/         the tree (C2SP tlog-tiles)
 *   state.json    place in the journal and edges of the tree at a full tile
 *
 *   journal ──synced──▶ leaves ──▶ tiles ──synced──▶ checkpoint ──▶ state
 *
 * Each arrow waits for what is before it, and leaves follow from the lines alone. So after a crash anywhere the
 * lines behind `state.json` are taken in again and must lead to the root of the checkpoint; where they do not,
 * one of the two was changed, and the sidecar does not start.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { JournalFile, JournalFollower } from '../common/journal-file.ts';
import type { Clock } from '../common/time.ts';
import { readBounded, replaceFile } from './files.ts';
import { auditDirectory, type LogIdentity } from './identity.ts';
import { createIntake, isBefore, syncFile } from './intake.ts';
import { createPseudonyms } from './leaf.ts';
import { type Checkpoint, checkpointBody, parseCheckpoint, parseNote } from './note.ts';
import type { LogSigners } from './signers.ts';
import { type FirstLeaf, readState, writeState } from './state.ts';
import { createTree } from './tree.ts';

export type LogHealth = Readonly<{
  /** Leaves under the newest checkpoint. */
  size: number;
  /** Records written and not yet under it. */
  behind: number;
  /** Wall time of the newest checkpoint since the start. */
  publishedMs: number | undefined;
  /** Why the log cannot grow now. */
  failure: string | undefined;
}>;

/** A checkpoint as it was published, signatures included. */
export type Published = Checkpoint & Readonly<{ note: string }>;

export type AuditLog = JournalFollower &
  Readonly<{
    newest(): Published | undefined;
    /** Told of each new checkpoint. Must not throw. */
    onPublished(listener: (published: Published) => void): void;
    /** Resolves once everything that was written before is under a checkpoint; rejects where that fails. */
    flush(): Promise<void>;
    /** Of every journal file that is wholly in the log and not needed to go on after a crash. */
    settledFiles(): readonly FirstLeaf[];
    /** Files of the journal that are gone, and the index below which leaves may be; kept with the next checkpoint. */
    pruned(gone: ReadonlySet<string>, minimumIndex: number): void;
    minimumIndex(): number;
    health(): LogHealth;
    /** Takes in what is left, after the journal was closed. */
    close(): Promise<void>;
  }>;

export type LogOptions = Readonly<{
  journal: Pick<JournalFile, 'place'>;
  identity: LogIdentity;
  signers: LogSigners;
  clock: Clock;
  onError: (error: SallyportError) => void;
}>;

export const checkpointFile = 'checkpoint';
export const vkeysFile = 'vkeys';

export function readCheckpoint(directory: string, file = checkpointFile): Published | undefined {
  const path = join(directory, file);
  const bytes = readBounded(path, limits.noteBytesMax);
  if (bytes === undefined) return undefined;
  const note = bytes.toString('utf8');
  try {
    return { ...parseCheckpoint(parseNote(note).body), note };
  } catch (cause) {
    throw new SallyportError('StateUnavailable', `${path} is damaged`, { cause });
  }
}

export const readVkeys = (directory: string): readonly string[] =>
  (readBounded(join(directory, vkeysFile), limits.auditStateBytesMax)?.toString('utf8') ?? '')
    .split('\n')
    .filter((line) => line !== '');

export function openAuditLog(stateDir: string, options: LogOptions): AuditLog {
  const { journal, identity, signers, clock, onError } = options;
  const directory = auditDirectory(stateDir);
  const state = readState(directory);
  let published = readCheckpoint(directory);
  const refuse = (why: string): SallyportError =>
    new SallyportError(
      'StateUnavailable',
      `the audit log in ${directory} and the journal do not agree: ${why}. Put back a backup of both, or move both away to begin another log`,
    );
  if (published !== undefined && published.origin !== identity.origin)
    throw refuse(`the checkpoint is of ${published.origin}, and the log is ${identity.origin}`);
  if (published === undefined && state !== undefined) throw refuse('the checkpoint is gone');

  const tree = createTree(directory, state?.tree ?? { size: 0, edges: [] });
  const intake = createIntake({
    directory: join(stateDir, 'journal'),
    tree,
    pseudonym: createPseudonyms(identity.agentsKey),
    start: state,
    sync: syncFile,
    onError,
  });
  const from = intake.place();
  const isThere = existsSync(join(stateDir, 'journal', from.file));
  if (isBefore(journal.place(), from) || !isThere) throw refuse(`${from.file} has no byte ${from.offset}`);
  if (published !== undefined && tree.size() <= published.size) {
    if (!intake.replay(published.size))
      throw refuse(`the checkpoint covers ${published.size} records, and the journal has ${tree.size()}`);
    if (!tree.root().equals(published.root))
      throw refuse(`the records up to ${published.size} do not give the root of the checkpoint`);
  }

  let vkeys = readVkeys(directory);
  let minimumIndex = state?.minimumIndex ?? 0;
  /** What `state.json` says. */
  let stated = state === undefined ? undefined : { size: state.tree.size, file: state.place.file };
  const listeners: ((published: Published) => void)[] = [];

  // Records that the journal told of, and of these those that are under a checkpoint.
  let told = 0;
  let covered = 0;
  let failure: SallyportError | undefined;
  let publishedMs: number | undefined;
  let publishedAt = Number.NEGATIVE_INFINITY;
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  let isClosed = false;

  const saveState = async (): Promise<void> => {
    const [aligned, place] = [tree.aligned(), intake.alignedPlace()];
    await writeState(directory, { tree: aligned, place, files: intake.files(), minimumIndex });
    stated = { size: aligned.size, file: place.file };
  };

  const publish = async (): Promise<void> => {
    await tree.flush();
    const checkpoint: Checkpoint = { origin: identity.origin, size: tree.size(), root: tree.root() };
    const body = checkpointBody(checkpoint);
    const note = `${body}\n${signers.sign(body)}`;
    const added = signers.vkeys().filter((vkey) => !vkeys.includes(vkey));
    if (added.length > 0) {
      // Before the first note that they sign: whoever reads the log finds every key of it.
      vkeys = [...vkeys, ...added];
      await replaceFile(join(directory, vkeysFile), vkeys.map((vkey) => `${vkey}\n`).join(''));
    }
    await replaceFile(join(directory, checkpointFile), note);
    published = { ...checkpoint, note };
    publishedMs = clock.wallMs();
    publishedAt = clock.monotonicMs();
    for (const listener of listeners) listener(published);
  };

  const round = async (): Promise<void> => {
    // Read together: whatever was told of lies before the end.
    const [upTo, end] = [told, journal.place()];
    await intake.takeTo(end);
    if (tree.size() > (published?.size ?? 0)) await publish();
    if (published !== undefined && stated?.size !== tree.aligned().size) await saveState();
    covered = upTo;
  };

  const run = (): Promise<void> => {
    clearTimeout(timer);
    timer = undefined;
    running ??= round()
      .then(
        () => {
          failure = undefined;
        },
        (thrown: unknown) => {
          const reason = thrown instanceof Error ? thrown.message : String(thrown);
          failure = new SallyportError(
            'StateUnavailable',
            `the audit log in ${directory} cannot grow: ${reason}`,
            { cause: thrown, retryAfterMs: limits.auditRetryMs },
          );
          onError(failure);
        },
      )
      .finally(() => {
        running = undefined;
        arrange();
      });
    return running;
  };

  const arrange = (): void => {
    if (isClosed || (told === covered && failure === undefined)) return;
    const sinceMs = clock.monotonicMs() - publishedAt;
    const waitMs =
      failure !== undefined
        ? limits.auditRetryMs
        : told - covered < limits.auditBatchRecords
          ? limits.auditBatchMs
          : Math.max(0, limits.auditPublishMsMin - sinceMs);
    clearTimeout(timer);
    timer = setTimeout(run, waitMs).unref();
  };

  void run();
  return {
    refusal: () => {
      if (failure !== undefined) return failure;
      if (told - covered < limits.auditBehindRecordsMax) return undefined;
      return new SallyportError(
        'StateUnavailable',
        `the audit log is ${told - covered} records behind the journal, and at most ${limits.auditBehindRecordsMax} may wait`,
        { retryAfterMs: limits.auditPublishMsMin },
      );
    },
    appended: (written) => {
      const waiting = told - covered;
      told += written.length;
      for (const one of written) intake.offer(one);
      if (running !== undefined) return;
      const isFull = (size: number): boolean => size >= limits.auditBatchRecords;
      if (waiting === 0 || (isFull(told - covered) && !isFull(waiting))) arrange();
    },
    newest: () => published,
    onPublished: (listener) => {
      listeners.push(listener);
    },
    flush: async () => {
      const upTo = told;
      do await run();
      while (covered < upTo && failure === undefined);
      if (failure !== undefined) throw failure;
    },
    settledFiles: () => intake.files().filter(({ file }) => stated !== undefined && file < stated.file),
    minimumIndex: () => minimumIndex,
    pruned: (gone, minimum) => {
      intake.forget(gone);
      minimumIndex = Math.max(minimumIndex, minimum);
      stated = undefined;
    },
    health: () => ({
      size: published?.size ?? 0,
      behind: told - covered,
      publishedMs,
      failure: failure?.message,
    }),
    close: async () => {
      isClosed = true;
      await running;
      if (told > covered) await run();
      clearTimeout(timer);
    },
  };
}
