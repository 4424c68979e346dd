/** Keeps a data plane's log files bounded: a full one is put aside and a new one opened; no line is lost. */
import { rename, rm, stat } from 'node:fs/promises';
import type { Logger } from 'pino';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';

async function sizeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).size;
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return 0;
    throw thrown;
  }
}

export type Rotation = Readonly<{
  /** Makes whoever writes begin the file anew. */
  reopen(): Promise<void>;
  /** False where the file must stay: what is in it is not read yet. */
  mayForget?: ((file: string) => boolean) | undefined;
  /** Lowered by tests only. */
  bytesMax?: number;
}>;

/** `access.jsonl` → `access.jsonl.1` → … → deleted. Returns whether anything moved. Throws Overloaded where one must stay. */
export async function rotate(files: readonly string[], rotation: Rotation): Promise<boolean> {
  const { reopen, mayForget = () => true, bytesMax = limits.envoyLogFileBytesMax } = rotation;
  let moved = false;
  for (const file of files) {
    if ((await sizeOf(file)) <= bytesMax) continue;
    const oldest = `${file}.${limits.envoyLogFilesMax - 1}`;
    // Until the ledger has read it the log grows; a full disk ends that by refusing everything.
    if (!mayForget(oldest)) throw new SallyportError('Overloaded', `${oldest} is not read yet`);
    await rm(oldest, { force: true });
    for (let number = limits.envoyLogFilesMax - 2; number >= 0; number--) {
      const from = number === 0 ? file : `${file}.${number}`;
      if ((await sizeOf(from)) > 0) await rename(from, `${file}.${number + 1}`);
    }
    moved = true;
  }
  if (moved) await reopen();
  return moved;
}

/** Looks every `limits.envoyLogLookMs`; returns what ends it. */
export function keepBounded(files: readonly string[], rotation: Rotation, log: Logger): () => void {
  let busy = false;
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    rotate(files, rotation)
      .catch((thrown: unknown) =>
        log.error({ err: thrown }, 'the logs of the data plane could not be put aside'),
      )
      .finally(() => {
        busy = false;
      });
  }, limits.envoyLogLookMs);
  timer.unref();
  return () => clearInterval(timer);
}
