/**
 * Puts a backup into a state directory without state. Everything is unpacked beside its place first and moved there
 * only after the checksum agreed, so a damaged backup leaves nothing behind.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, mkdtemp, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import { badBackup, isNoState, readBackupLine, readHeader } from './backup-format.ts';
import { ensurePrivateDirectory, syncDirectory } from './private-files.ts';

export type RestoreSummary = Readonly<{ files: number; bytes: number }>;

const lineBytesMax = 16 * 1024;
const lineFeed = 0x0a;

/** Cuts a stream of chunks into lines and runs of bytes, as asked. */
function createCutter(chunks: AsyncIterator<unknown>) {
  let rest: Buffer = Buffer.alloc(0);
  const more = async (): Promise<boolean> => {
    const next = await chunks.next();
    if (next.done === true) return false;
    if (!Buffer.isBuffer(next.value)) throw badBackup('it is no stream of bytes');
    rest = rest.length === 0 ? next.value : Buffer.concat([rest, next.value]);
    return true;
  };
  return {
    async line(): Promise<Buffer> {
      let end = rest.indexOf(lineFeed);
      while (end < 0) {
        if (rest.length > lineBytesMax) throw badBackup(`a line has more than ${lineBytesMax} bytes`);
        if (!(await more())) throw badBackup('it ends before its end');
        end = rest.indexOf(lineFeed);
      }
      const line = rest.subarray(0, end + 1);
      rest = rest.subarray(end + 1);
      return line;
    },
    /** At least one byte and at most `max`. */
    async some(max: number): Promise<Buffer> {
      while (rest.length === 0) if (!(await more())) throw badBackup('it ends before its end');
      const bytes = rest.subarray(0, max);
      rest = rest.subarray(bytes.length);
      return bytes;
    },
    async assertEnd(): Promise<void> {
      if (rest.length > 0 || (await more())) throw badBackup('something follows its end');
    },
  };
}

async function unpack(source: AsyncIterable<unknown>, directory: string): Promise<RestoreSummary> {
  const cutter = createCutter(source[Symbol.asyncIterator]());
  const hash = createHash('sha256');
  const header = await cutter.line();
  hash.update(header);
  readHeader(header.toString('utf8'));
  const paths = new Set<string>();
  let total = 0;
  for (;;) {
    const bytes = await cutter.line();
    const line = readBackupLine(bytes.toString('utf8'));
    if (line.kind === 'end') {
      if (line.files !== paths.size || line.sha256 !== hash.digest('hex'))
        throw badBackup('its checksum does not agree');
      await cutter.assertEnd();
      return { files: paths.size, bytes: total };
    }
    hash.update(bytes);
    if (paths.has(line.path)) throw badBackup(`${line.path} is in it twice`);
    paths.add(line.path);
    total += line.bytes;
    if (paths.size > limits.backupFilesMax || total > limits.backupBytesMax)
      throw badBackup(
        `it has more than ${limits.backupFilesMax} files or more than ${limits.backupBytesMax} bytes`,
      );
    const target = join(directory, line.path);
    await mkdir(dirname(target), { recursive: true, mode: 0o700 });
    const handle: FileHandle = await open(target, 'wx', 0o600);
    try {
      let left = line.bytes;
      while (left > 0) {
        const part = await cutter.some(left);
        hash.update(part);
        await handle.writeFile(part);
        left -= part.length;
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

export async function restore(file: string, stateDir: string): Promise<RestoreSummary> {
  ensurePrivateDirectory(stateDir);
  let beside: string | undefined;
  try {
    const state = (await readdir(stateDir)).filter((name) => !isNoState(name));
    if (state.length > 0)
      throw new SallyportError(
        'StateUnavailable',
        `cannot restore into ${stateDir}: it holds state already (${state.slice(0, 5).join(', ')})`,
      );
    beside = await mkdtemp(join(stateDir, '.restore-'));
    const directory = beside;
    const summary = await pipeline(createReadStream(file), createGunzip(), (source) =>
      unpack(source, directory),
    );
    for (const name of await readdir(beside)) await rename(join(beside, name), join(stateDir, name));
    syncDirectory(stateDir);
    return summary;
  } catch (thrown) {
    if (thrown instanceof SallyportError) throw thrown;
    const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
    if (code.startsWith('Z_') || code === 'ERR_TRAILING_JUNK_AFTER_STREAM_END')
      throw badBackup('it is not gzip, or is cut');
    throw new SallyportError('StateUnavailable', `cannot restore ${file} into ${stateDir}`, {
      cause: thrown,
    });
  } finally {
    if (beside !== undefined) await rm(beside, { recursive: true, force: true });
  }
}
