/**
 * The journal as files of JSON lines in `journal/` of the state directory:
 *
 *   decisions-0000000007.jsonl   full, synced
 *   decisions-0000000008.jsonl   appended to; at most the last line is cut short by a crash
 *   sequences.json               the number of each agent's newest record, as of a place in the files
 *
 * A record is handed to the kernel before `append` returns, so it survives the process; it is synced to the
 * disk in batches. What cannot be written whole is taken back and refused, and the caller denies.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fdatasync, fdatasyncSync, ftruncateSync, statfsSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { SallyportError, toSallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { Journal } from './journal.ts';
import { isSequenced, type JournalPlace } from './journal-lines.ts';
import { createReader } from './journal-read.ts';
import { encodeRecord } from './journal-record.ts';
import { journalFiles, nextJournalFile, openForAppend } from './journal-segments.ts';
import { openSequences } from './journal-sequences.ts';
import { ensurePrivateDirectory, syncDirectory } from './private-files.ts';
import type { JournalRecord } from './record.ts';
import type { Clock } from './time.ts';

export type JournalOptions = Readonly<{
  clock: Clock;
  /** Told of what is wrong and no caller hears: a line that a crash cut short, a sync that failed. */
  onError?: (error: SallyportError) => void;
  /** Lowered by tests only. */
  fileBytesMax?: number;
  diskFreeBytesMin?: number;
}>;

export type JournalHealth = Readonly<{
  /** Records handed to the kernel and not yet known to be on the disk. */
  unsynced: number;
  /** Wall time of the last sync; undefined before the first. */
  lastSyncMs: number | undefined;
  /** Bytes of a cut line that the opening dropped. */
  droppedBytes: number;
  /** Lines that `tail` and `find` could not read. */
  unreadableLines: number;
  /** Why nothing can be written now; undefined where it can. */
  failure: string | undefined;
}>;

/** What reads the journal as it grows, and keeps it waiting where it cannot keep up: the audit log. */
export type JournalFollower = Readonly<{
  /** Why these may not be written now; undefined where they may. */
  refusal(records: readonly JournalRecord[]): SallyportError | undefined;
  /** Records were written. Must not throw. */
  appended(written: readonly Written[]): void;
}>;

/** A record and its line, line feed included, as they were written. */
export type Written = JournalPlace &
  Readonly<{ record: JournalRecord; seq: number; salt: Buffer; line: Buffer; end: number }>;

export type JournalFile = Journal &
  Readonly<{
    health(): JournalHealth;
    /** From now on each record is told to it. */
    follow(follower: JournalFollower): void;
    /** The end of what is written. */
    place(): JournalPlace;
    /** Notes the sequences as of the end, before a line is erased from which they would be counted. */
    saveSequences(): void;
  }>;

/** Past this many unsynced records the disk is slower than the traffic: the writer waits for it. */
const unsyncedMax = limits.journalSyncRecords * 100;

/** Per record, so that a digest in the log tells nothing of the record to whoever guesses at it. */
const saltBytes = 16;

type Segment = {
  readonly file: string;
  readonly fd: number;
  bytes: number;
  syncing: boolean;
  closing: boolean;
};

export function openJournal(stateDir: string, options: JournalOptions): JournalFile {
  const { clock, onError = () => {} } = options;
  const fileBytesMax = options.fileBytesMax ?? limits.journalFileBytesMax;
  const diskFreeBytesMin = options.diskFreeBytesMin ?? limits.diskFreeBytesMin;
  const directory = join(stateDir, 'journal');
  ensurePrivateDirectory(directory);

  // Records counted since the opening; what lies between the two is handed to the kernel and not yet synced.
  let appended = 0;
  let syncedTo = 0;
  const unsynced = (): number => appended - syncedTo;
  let lastSyncMs: number | undefined;
  let failure: SallyportError | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  let freeReadMs = Number.NEGATIVE_INFINITY;
  const reader = createReader(directory);

  const unavailable = (action: string, cause: unknown): SallyportError => {
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'see the cause';
    return new SallyportError('StateUnavailable', `cannot ${action} the journal in ${directory}: ${reason}`, {
      cause,
    });
  };

  const openSegment = (file: string): Segment => {
    try {
      const opened = openForAppend(join(directory, file));
      syncDirectory(directory);
      return { file, ...opened, syncing: false, closing: false };
    } catch (cause) {
      throw unavailable('open', cause);
    }
  };

  let droppedBytes = 0;
  const openNewest = (): Segment => {
    const newest = journalFiles(directory).at(-1);
    if (newest === undefined) return openSegment(nextJournalFile(undefined));
    // Lines of before the journal counted keep a file of their own.
    if (!isSequenced(directory, newest)) return openSegment(nextJournalFile(newest));
    const opened = openForAppendDroppingCut(newest);
    return opened ?? openSegment(nextJournalFile(newest));
  };
  const openForAppendDroppingCut = (file: string): Segment | undefined => {
    const path = join(directory, file);
    let cut: ReturnType<typeof reader.cutLine>;
    try {
      cut = reader.cutLine(path);
    } catch (cause) {
      throw unavailable('read', cause);
    }
    if (cut.bytes > 0) {
      onError(
        new SallyportError(
          'StateUnavailable',
          cut.isWithinLimit
            ? `the last line of ${path} was cut short by a crash: ${cut.bytes} bytes are dropped`
            : `${path} ends in more than ${limits.journalRecordBytesMax} bytes that are no line: it is left as it is`,
        ),
      );
    }
    if (!cut.isWithinLimit) return undefined;
    const segment = openSegment(file);
    if (cut.bytes > 0) {
      droppedBytes = cut.bytes;
      segment.bytes -= cut.bytes;
      try {
        ftruncateSync(segment.fd, segment.bytes);
      } catch (cause) {
        closeSync(segment.fd);
        throw unavailable('repair', cause);
      }
    }
    return segment;
  };

  let current = openNewest();
  const sequences = openSequences(directory, onError);
  const place = (): JournalPlace => ({ file: current.file, offset: current.bytes });
  const saveSequences = (): void => {
    try {
      sequences.save(place());
    } catch (cause) {
      // The snapshot before it still holds, and more lines are counted at the next start.
      onError(unavailable('note the sequences of', cause));
    }
  };
  let follower: JournalFollower | undefined;

  /** Closes once no sync works on it: a descriptor's number may be another file's the moment it is closed. */
  const retire = (segment: Segment): void => {
    segment.closing = true;
    if (!segment.syncing) closeSync(segment.fd);
  };

  const synced = (upTo: number): void => {
    syncedTo = Math.max(syncedTo, upTo);
    lastSyncMs = clock.wallMs();
  };

  /**
   * A sync that failed may have lost what was written before it, and a second sync would not say so
   * (the kernel forgets). Nothing more is written until a new file could be begun.
   */
  const syncFailed = (cause: unknown): void => {
    failure = unavailable('sync', cause);
    onError(failure);
  };

  const syncSoon = (): void => {
    const segment = current;
    if (segment.syncing || unsynced() === 0) return;
    clearTimeout(timer);
    timer = undefined;
    segment.syncing = true;
    const upTo = appended;
    fdatasync(segment.fd, (cause) => {
      segment.syncing = false;
      if (segment.closing) {
        // Its successor's opening has synced it already.
        closeSync(segment.fd);
        return;
      }
      if (cause === null) synced(upTo);
      else syncFailed(cause);
      if (unsynced() > 0) arrangeSync();
    });
  };

  const arrangeSync = (): void => {
    if (unsynced() >= limits.journalSyncRecords) syncSoon();
    else if (timer === undefined) {
      timer = setTimeout(() => {
        timer = undefined;
        syncSoon();
      }, limits.journalSyncMs);
      timer.unref();
    }
  };

  const syncNow = (): void => {
    const upTo = appended;
    try {
      fdatasyncSync(current.fd);
    } catch (cause) {
      syncFailed(cause);
      throw unavailable('sync', cause);
    }
    synced(upTo);
  };

  const rotate = (): void => {
    const next = openSegment(nextJournalFile(current.file));
    retire(current);
    current = next;
    saveSequences();
  };

  let salts = Buffer.alloc(0);
  let saltAt = 0;
  const salt = (): Buffer => {
    if (saltAt === salts.length) {
      salts = randomBytes(saltBytes * 1_024);
      saltAt = 0;
    }
    saltAt += saltBytes;
    return salts.subarray(saltAt - saltBytes, saltAt);
  };

  /** Lines of the records, each with the number behind those before it. */
  const encoded = (records: readonly JournalRecord[]) =>
    records.map((record, index) => {
      const before = records.slice(0, index).filter(({ agent }) => agent === record.agent).length;
      const fields = { seq: sequences.next(record.agent) + before, salt: salt() };
      return { record, ...fields, line: encodeRecord(record, fields) };
    });

  const assertDiskFree = (): void => {
    const now = clock.monotonicMs();
    if (now - freeReadMs < limits.diskFreeCacheMs) return;
    let free: number;
    try {
      const { bavail, bsize } = statfsSync(directory);
      free = bavail * bsize;
    } catch (cause) {
      throw unavailable('measure the disk of', cause);
    }
    if (free < diskFreeBytesMin)
      throw new SallyportError(
        'StateUnavailable',
        `cannot write the journal in ${directory}: ${free} bytes are free and ${diskFreeBytesMin} are needed`,
      );
    freeReadMs = now;
  };

  /** All of it, or the file is as it was. */
  const writeWhole = (bytes: Uint8Array): void => {
    let written = 0;
    try {
      while (written < bytes.length) written += writeSync(current.fd, bytes, written);
    } catch (cause) {
      const refused = unavailable('write', cause);
      try {
        ftruncateSync(current.fd, current.bytes);
      } catch (truncating) {
        // Half a line stays: the next append begins a new file after it.
        failure = unavailable('repair', truncating);
        onError(failure);
      }
      throw refused;
    }
    current.bytes += bytes.length;
  };

  return {
    append: (...records) => {
      if (closed) throw new SallyportError('StateUnavailable', 'cannot write the journal: it is closed');
      const refused = follower?.refusal(records);
      if (refused !== undefined) throw refused;
      const lines = encoded(records);
      const bytes =
        lines.length === 1 && lines[0] ? lines[0].line : Buffer.concat(lines.map(({ line }) => line));
      assertDiskFree();
      try {
        if (failure !== undefined) {
          rotate();
          failure = undefined;
          syncedTo = appended;
        } else if (current.bytes > 0 && current.bytes + bytes.length > fileBytesMax) {
          syncNow();
          rotate();
        }
      } catch (thrown) {
        throw toSallyportError(thrown, 'StateUnavailable');
      }
      let end = current.bytes;
      writeWhole(bytes);
      for (const { record, seq } of lines) sequences.took(record.agent, seq);
      appended += records.length;
      follower?.appended(
        lines.map((one) => {
          const offset = end;
          end += one.line.length;
          return { ...one, file: current.file, offset, end };
        }),
      );
      if (unsynced() >= unsyncedMax) syncNow();
      else arrangeSync();
    },
    follow: (next) => {
      follower = next;
    },
    place,
    saveSequences: () => {
      syncNow();
      sequences.save(place());
    },
    tail: (limit) => reader.tail(Math.min(limit, limits.adminPageItemsMax)),
    find: (decisionId) => reader.find(decisionId),
    health: () => ({
      unsynced: unsynced(),
      lastSyncMs,
      droppedBytes,
      unreadableLines: reader.unreadableLines(),
      failure: failure?.message,
    }),
    close: () => {
      if (closed) return;
      closed = true;
      clearTimeout(timer);
      try {
        if (unsynced() > 0) syncNow();
        saveSequences();
      } finally {
        retire(current);
      }
    },
  };
}
