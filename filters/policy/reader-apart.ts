/** A policy file read by a process of its own, which takes the memory of the text's tree with it when it ends. */
import { spawn } from 'node:child_process';
import { extname } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { limits } from '../../config/limits.ts';
import type { Loaded } from '../../config/policy/watch.ts';
import { fileIssue } from '../../config/source.ts';
import { createAssembly, type ReadPolicy } from './reader-lines.ts';

/** Beside this file, as a source or as packed. */
const script = fileURLToPath(new URL(`./reader-process${extname(import.meta.filename)}`, import.meta.url));
const heapMiB = Math.floor(limits.policyReaderHeapBytesMax / (1024 * 1024));

/** Rejects with the signal's reason. Whatever else goes wrong is the file's refusal. */
export async function readApart(
  file: string,
  known: readonly string[],
  signal: AbortSignal,
): Promise<Loaded<ReadPolicy>> {
  signal.throwIfAborted();
  const { PATH, NODE_COMPILE_CACHE } = process.env;
  const child = spawn(process.execPath, [`--max-old-space-size=${heapMiB}`, script, file, ...known], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { PATH, ...(NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE }) },
  });
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, by) => resolve(by === null ? `exit code ${code}` : by));
  });
  let flaw: string | undefined;
  const end = (why?: string): void => {
    flaw ??= why;
    child.kill('SIGKILL');
  };
  const late = setTimeout(
    end,
    limits.policyReadMsMax,
    `reading it takes longer than ${limits.policyReadMsMax} ms, which is the limit`,
  ).unref();
  const abort = (): void => end();
  signal.addEventListener('abort', abort);
  try {
    const assemble = createAssembly(file);
    let answer: Loaded<ReadPolicy> | undefined;
    const tooLarge = (): void =>
      end(
        `with its aliases written out it has more than ${limits.policyExpandedBytesMax} bytes, which is the limit`,
      );
    for await (const line of lines(child.stdout, tooLarge)) answer = assemble(line) ?? answer;
    const how = await ended;
    signal.throwIfAborted();
    if (answer !== undefined && flaw === undefined) return answer;
    const issues = [
      fileIssue(
        file,
        flaw ?? `the process that read it, with at most ${heapMiB} MiB, came to an end: ${how}`,
      ),
    ];
    return { kind: 'refused', key: issues[0]?.message ?? '', issues };
  } finally {
    clearTimeout(late);
    signal.removeEventListener('abort', abort);
    end();
    await ended;
  }
}

/** Pauses the stream while a line is worked on: what comes at once is not parsed at once. */
async function* lines(stream: Readable, tooLarge: () => void): AsyncIterable<string> {
  let bytes = 0;
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    // A stream without encoding gives buffers.
    const buffer = chunk as Buffer;
    bytes += buffer.length;
    if (bytes > limits.policyExpandedBytesMax) return tooLarge();
    const parts = (rest + decoder.decode(buffer, { stream: true })).split('\n');
    rest = parts.pop() ?? '';
    yield* parts;
  }
}
