/**
 * The sealed keys of one state directory, in one file: each change of them is one rename, so that no crash
 * leaves some keys of a rotation or of a rewrap behind. What is read is untrusted until it has this shape.
 */
import { closeSync, fstatSync, fsyncSync, openSync, readSync, renameSync, writeSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { z } from 'zod';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { ensurePrivateDirectory, openPrivateFile, syncDirectory } from '../common/private-files.ts';

const text = (max: number) => z.string().max(max);
const ms = z.int().min(0);

/**
 * ```
 *  authority:     next ──▶ active ──▶ retired            the new one is trusted before it signs
 *  log, witness:           active ──▶ retiring ──▶ retired  the old one signs beside the new one
 * ```
 * A retired key has no private part any more.
 */
const entrySchema = z
  .strictObject({
    name: text(32).regex(/^[a-z][a-z0-9-]*$/),
    version: z.int().min(1),
    purpose: text(100),
    algorithm: z.enum(['ecdsa-p256', 'ed25519', 'ml-dsa-44']),
    state: z.enum(['next', 'active', 'retiring', 'retired']),
    created_ms: ms,
    /** Since when it is in this state. */
    since_ms: ms,
    /** Name in signed notes; empty for a certificate. */
    label: text(limits.noteKeyNameBytesMax),
    /** Public key or certificate, in PEM. */
    public: text(8_192),
    /** Ended at once, as after a theft: nothing trusts it any more. */
    revoked: z.boolean(),
    /** Who asked for it; empty where nobody did. */
    by: text(128),
    /** Id of the audit record that names it; empty until that is in the journal. */
    record: text(64),
    sealed: z.strictObject({ kek: text(64), nonce: text(64), box: text(8_192) }).optional(),
  })
  .refine((entry) => (entry.state === 'retired') === (entry.sealed === undefined), {
    error: 'a retired key has no private part, and every other has one',
  });

const fileSchema = z.strictObject({
  format: z.literal('sallyport keys'),
  version: z.literal(1),
  keys: z.array(entrySchema).max(limits.keysMax),
});

export type KeyEntry = Readonly<z.output<typeof entrySchema>>;

const unusable = (file: string, why: string, cause?: unknown): SallyportError =>
  new SallyportError(
    'StateUnavailable',
    `${file} does not hold the sealed keys: ${why}. Restore it from a backup`,
    { cause },
  );

/** Never throws anything but a SallyportError, whatever the text. */
export function decodeKeys(content: string, file: string): readonly KeyEntry[] {
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (cause) {
    throw unusable(file, 'it is not JSON', cause);
  }
  const parsed = fileSchema.safeParse(value);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw unusable(file, `${issue?.path.join('.') || 'it'}: ${issue?.message ?? 'has another shape'}`);
  }
  const seen = new Set<string>();
  for (const { name, version, algorithm, state } of parsed.data.keys) {
    const ids = [`${name} ${version} ${algorithm}`];
    if (state === 'active' || state === 'next') ids.push(`${name} ${algorithm} ${state}`);
    for (const id of ids) if (seen.has(id)) throw unusable(file, `${id} is in it twice`);
    for (const id of ids) seen.add(id);
  }
  return parsed.data.keys;
}

export const encodeKeys = (keys: readonly KeyEntry[]): string =>
  `${JSON.stringify({ format: 'sallyport keys', version: 1, keys }, undefined, 1)}\n`;

/** No entry where there is no file; any other failure is an error, never a reason for new keys. */
export function readKeys(file: string): readonly KeyEntry[] {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'r');
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? thrown.code : '';
    if (code === 'ENOENT') return [];
    throw code === 'EACCES'
      ? new SallyportError('StateUnavailable', `user ${process.getuid?.() ?? '?'} may not read ${file}`)
      : unusable(file, 'it cannot be read', thrown);
  }
  try {
    const { size } = fstatSync(descriptor);
    if (size > limits.keysFileBytesMax)
      throw unusable(file, `it has ${size} bytes, and at most ${limits.keysFileBytesMax} are read`);
    const bytes = Buffer.alloc(size);
    let length = 0;
    while (length < size) {
      const read = readSync(descriptor, bytes, length, size - length, length);
      if (read === 0) break;
      length += read;
    }
    return decodeKeys(bytes.toString('utf8', 0, length), file);
  } finally {
    closeSync(descriptor);
  }
}

/** Old content or new content, whatever happens; on disk when it returns. Mode 0600. */
export function replaceFile(file: string, content: string | Uint8Array): void {
  const draft = `${file}.tmp`;
  try {
    const descriptor = openPrivateFile(draft, 'w');
    try {
      const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : content;
      for (let at = 0; at < bytes.length; ) at += writeSync(descriptor, bytes, at);
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(draft, file);
    syncDirectory(path.dirname(file));
  } catch (cause) {
    throw new SallyportError('StateUnavailable', `cannot write ${file}`, { cause });
  }
}

/** Reads, changes and writes under a lock that the kernel drops with the process. Nothing is written where `change` throws. */
export function changeKeys(
  file: string,
  change: (keys: readonly KeyEntry[]) => readonly KeyEntry[],
): readonly KeyEntry[] {
  ensurePrivateDirectory(path.dirname(file));
  closeSync(openPrivateFile(`${file}.lock`, 'a'));
  const lock = new DatabaseSync(`${file}.lock`, { timeout: limits.keysLockMs });
  try {
    try {
      lock.exec('BEGIN EXCLUSIVE');
    } catch (cause) {
      throw new SallyportError(
        'StateUnavailable',
        `${file} is being changed by another process for longer than ${limits.keysLockMs} ms`,
        { cause },
      );
    }
    const before = readKeys(file);
    const after = forgetOldest(change(before));
    if (after !== before) replaceFile(file, encodeKeys(after));
    return after;
  } finally {
    lock.close();
  }
}

/** Retired keys are kept to name what signed long ago; past the limit the oldest go. */
function forgetOldest(keys: readonly KeyEntry[]): readonly KeyEntry[] {
  const surplus = keys.length - limits.keysMax;
  if (surplus <= 0) return keys;
  const retired = keys.filter(({ state }) => state === 'retired').sort((a, b) => a.since_ms - b.since_ms);
  const forgotten = new Set(retired.slice(0, surplus));
  return keys.filter((key) => !forgotten.has(key));
}
