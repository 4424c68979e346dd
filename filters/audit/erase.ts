/**
 * Erases what records say, and nothing else: the line is written over in its place by its leaf, which is all
 * that the log ever knew of it, so every proof still holds. `audit/erasing.json` names the lines until it is
 * done, so that a crash in between is made good at the next start.
 */
import {
  closeSync,
  existsSync,
  fdatasyncSync,
  futimesSync,
  openSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { JournalFile } from '../common/journal-file.ts';
import type { AuditRecord } from '../common/record.ts';
import type { Recorder } from './audit-record.ts';
import { readBounded, replaceFile } from './files.ts';
import { type Found, findById, findByIndex } from './find.ts';
import { auditDirectory } from './identity.ts';
import type { AuditLog } from './log.ts';
import { readState } from './state.ts';
import { createTileReader } from './tile-reader.ts';

type Erasing = Readonly<{ file: string; offset: number; bytes: number; leaf: string }>;

const pendingFile = (stateDir: string): string => join(auditDirectory(stateDir), 'erasing.json');

/** As long as the line was, so that no other line moves. */
function tombstone({ bytes, leaf }: Erasing): Buffer {
  const text = Buffer.from(JSON.stringify({ erased: leaf }), 'utf8');
  if (text.length > bytes)
    throw new SallyportError('Internal', `a line of ${bytes} bytes has no room for its leaf, ${text.length}`);
  return Buffer.concat([text, Buffer.alloc(bytes - text.length, ' ')]);
}

function overwrite(stateDir: string, erasing: readonly Erasing[]): void {
  for (const one of erasing) {
    const path = join(stateDir, 'journal', one.file);
    // Pruned since: there is nothing left to erase.
    if (!existsSync(path)) continue;
    const { atime, mtime } = statSync(path);
    const fd = openSync(path, 'r+');
    try {
      const after = Buffer.alloc(1);
      readSync(fd, after, 0, 1, one.offset + one.bytes);
      if (after[0] !== 0x0a)
        throw new SallyportError(
          'StateUnavailable',
          `${path} has no line of ${one.bytes} bytes at ${one.offset}`,
        );
      if (writeSync(fd, tombstone(one), 0, one.bytes, one.offset) < one.bytes)
        throw new SallyportError(
          'StateUnavailable',
          `${path} could not be written over: it is tried again at the next start`,
        );
      fdatasyncSync(fd);
      // Its age is that of its records: what is erased late is not kept longer.
      futimesSync(fd, atime, mtime);
    } finally {
      closeSync(fd);
    }
  }
}

const isErasing = (value: unknown): value is Erasing =>
  typeof value === 'object' &&
  value !== null &&
  'file' in value &&
  typeof value.file === 'string' &&
  /^decisions-\d{10}\.jsonl$/.test(value.file) &&
  'offset' in value &&
  Number.isSafeInteger(value.offset) &&
  'bytes' in value &&
  Number.isSafeInteger(value.bytes) &&
  'leaf' in value &&
  typeof value.leaf === 'string';

/** Before the journal is opened: what a crash left undone is done. */
export function finishErasing(stateDir: string): void {
  const path = pendingFile(stateDir);
  const text = readBounded(path, limits.auditStateBytesMax)?.toString('utf8');
  if (text === undefined) return;
  let pending: unknown;
  try {
    pending = JSON.parse(text);
  } catch (cause) {
    throw new SallyportError('StateUnavailable', `${path} is damaged`, { cause });
  }
  if (!Array.isArray(pending) || !pending.every(isErasing))
    throw new SallyportError('StateUnavailable', `${path} is damaged`);
  overwrite(stateDir, pending);
  rmSync(path);
}

export type Erased = Readonly<{ record: AuditRecord; leaves: readonly number[] }>;

/** `which`: the id that records have, or the index of one leaf. */
export async function eraseContent(
  deps: Readonly<{
    stateDir: string;
    journal: Pick<JournalFile, 'saveSequences'>;
    log: Pick<AuditLog, 'flush' | 'newest'>;
    record: Recorder;
  }>,
  which: string | number,
  by: string,
  why: string,
): Promise<Erased> {
  const { stateDir, log } = deps;
  const directory = join(stateDir, 'journal');
  await log.flush();
  const size = log.newest()?.size ?? 0;
  const noted = readState(auditDirectory(stateDir))?.files ?? [];
  const all =
    typeof which === 'number'
      ? [await findByIndex(directory, noted, which)]
      : await findById(directory, noted, which, limits.auditErasedRecordsMax + 1, 'own');
  // A part of them erased would look like all of them.
  if (all.length > limits.auditErasedRecordsMax)
    throw new SallyportError(
      'RequestTooLarge',
      `more than ${limits.auditErasedRecordsMax} records are under ${which}: erase them by the numbers of their leaves`,
    );
  const found = all.filter(
    (one): one is Found & Readonly<{ index: number }> =>
      one?.line.kind === 'record' && one.index !== undefined && one.index < size,
  );
  if (found.some(({ line }) => line.kind === 'record' && line.record.type === 'audit'))
    throw new SallyportError(
      'RequestMalformed',
      `${which} is what was done to the log itself (type audit), which is not erased`,
    );
  if (found.length === 0)
    throw new SallyportError('NotFound', `the journal has no record ${which} that could be erased`);
  const reader = createTileReader(auditDirectory(stateDir), size);
  const erasing = found.map(
    ({ placed, index }): Erasing => ({
      file: placed.file,
      offset: placed.offset,
      bytes: placed.bytes.length,
      leaf: reader.entry(index).toString('utf8'),
    }),
  );
  const leaves = found.map(({ index }) => index);
  const record = deps.record({
    action: 'content_erased',
    resource: String(which),
    by,
    why,
    details: { records: found.length, leaves: leaves.join(',') },
  });
  // What an erased line counted for is noted first: its agent's next number is not counted from it again.
  deps.journal.saveSequences();
  await replaceFile(pendingFile(stateDir), JSON.stringify(erasing));
  overwrite(stateDir, erasing);
  rmSync(pendingFile(stateDir));
  await log.flush();
  return { record, leaves };
}
