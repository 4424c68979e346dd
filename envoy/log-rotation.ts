/** Keeps Envoy's files bounded: a full one is put aside and Envoy opens a new one; no line is lost. */
import { rename, rm, stat } from 'node:fs/promises';
import type { Logger } from 'pino';
import { limits } from '../config/limits.ts';
import type { AdminClient } from './admin-client.ts';

async function sizeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).size;
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return 0;
    throw thrown;
  }
}

/** `access.jsonl` → `access.jsonl.1` → … → deleted. Returns whether anything moved. */
export async function rotate(
  files: readonly string[],
  admin: AdminClient,
  bytesMax: number = limits.envoyLogFileBytesMax,
): Promise<boolean> {
  let moved = false;
  for (const file of files) {
    if ((await sizeOf(file)) <= bytesMax) continue;
    await rm(`${file}.${limits.envoyLogFilesMax - 1}`, { force: true });
    for (let number = limits.envoyLogFilesMax - 2; number >= 0; number--) {
      const from = number === 0 ? file : `${file}.${number}`;
      if ((await sizeOf(from)) > 0) await rename(from, `${file}.${number + 1}`);
    }
    moved = true;
  }
  if (moved) await admin.reopenLogs();
  return moved;
}

/** Looks every `limits.envoyLogLookMs`; returns what ends it. */
export function keepBounded(files: readonly string[], admin: AdminClient, log: Logger): () => void {
  let busy = false;
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    rotate(files, admin)
      .catch((thrown: unknown) => log.error({ err: thrown }, 'the logs of Envoy could not be put aside'))
      .finally(() => {
        busy = false;
      });
  }, limits.envoyLogLookMs);
  timer.unref();
  return () => clearInterval(timer);
}
