/**
 * Follows the policy file. A new text becomes the value only once it was read whole, parsed, built and
 * applied; until then, and where any of these fails, the old value stays.
 */
import { type FSWatcher, realpathSync, statSync, watch } from 'node:fs';
import { dirname } from 'node:path';
import { SallyportError } from '../errors.ts';
import { limits } from '../limits.ts';
import { fileIssue, readText } from '../source.ts';
import { formatIssue, type Issue, type Result } from './issue.ts';
import { type ParsedPolicy, parsePolicy, policyVersion } from './parse.ts';

export type PolicyWatch<T> = Readonly<{
  current(): T;
  /** Reads the file now, whether or not it changed. Resolves with the value that holds, or what is wrong with the file. */
  reload(): Promise<Result<T>>;
  close(): void;
}>;

export type WatchOptions<T> = Readonly<{
  file: string;
  build(parsed: ParsedPolicy): Result<T>;
  /** Puts the value into effect; a rejection leaves the old one in effect. */
  apply?(value: T): Promise<void>;
  /** A value of another version holds now. Not called for the first one. */
  onChange(value: T, parsed: ParsedPolicy): void;
  /** The file changed and is wrong; called once for each wrong text, and on every `reload`. */
  onReject(issues: readonly Issue[]): void;
}>;

export async function watchPolicy<T>(options: WatchOptions<T>): Promise<PolicyWatch<T>> {
  const { file } = options;
  const first = await load(options, undefined);
  if (!first.ok) throw new SallyportError('PolicyInvalid', first.issues.map(formatIssue).join('\n'));
  let held = first.value;
  /** What was refused last: a version, or the reason that the file could not be read. */
  let refused = '';
  let closed = false;
  let turn: Promise<unknown> = Promise.resolve();

  const attempt = async (asked: boolean): Promise<Result<T>> => {
    if (closed) return { ok: true, value: held.value };
    const text = readText(file, limits.policyBytesMax);
    const key = text.ok ? policyVersion(text.value) : text.issues.map(formatIssue).join('\n');
    if (key === held.parsed.version) {
      refused = '';
      return { ok: true, value: held.value };
    }
    if (key === refused && !asked) return { ok: true, value: held.value };
    const loaded = text.ok ? await load(options, text.value) : text;
    if (closed) return { ok: true, value: held.value };
    if (!loaded.ok) {
      refused = key;
      options.onReject(loaded.issues);
      return loaded;
    }
    refused = '';
    held = loaded.value;
    options.onChange(held.value, held.parsed);
    return { ok: true, value: held.value };
  };
  /** One at a time: a slow apply is never overtaken by a later text. */
  const queue = (asked: boolean): Promise<Result<T>> => {
    const mine = turn.then(() => attempt(asked));
    turn = mine.catch(() => undefined);
    return mine;
  };

  const follower = followFile(file, () => {
    // `build` and the callbacks are the caller's: what they throw is told, and the watch goes on.
    queue(false).catch((thrown: unknown) => options.onReject([fileIssue(file, reasonOf(thrown))]));
  });
  return {
    current: () => held.value,
    reload: () => queue(true),
    close: () => {
      closed = true;
      follower.close();
    },
  };
}

const reasonOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : 'unknown failure');

type Held<T> = Readonly<{ value: T; parsed: ParsedPolicy }>;

async function load<T>(options: WatchOptions<T>, text: string | undefined): Promise<Result<Held<T>>> {
  const read: Result<string> =
    text === undefined ? readText(options.file, limits.policyBytesMax) : { ok: true, value: text };
  if (!read.ok) return read;
  const parsed = parsePolicy(read.value, options.file);
  if (!parsed.ok) return parsed;
  const built = options.build(parsed.value);
  if (!built.ok) return built;
  try {
    await options.apply?.(built.value);
  } catch (thrown) {
    return {
      ok: false,
      issues: [fileIssue(options.file, `valid, but could not be put into effect: ${reasonOf(thrown)}`)],
    };
  }
  return { ok: true, value: { value: built.value, parsed: parsed.value } };
}

/**
 * Calls `changed` after the file may have changed. Directories are watched, not the file: editors replace
 * the file by rename, and Kubernetes swaps the `..data` link beside it. A link's target directory is watched too.
 */
function followFile(file: string, changed: () => void): Readonly<{ close(): void }> {
  let watchers = new Map<string, FSWatcher>();
  let quiet: NodeJS.Timeout | undefined;
  let firstUnreadMs: number | undefined;
  let seen = signatureOf(file);

  const arm = (): void => {
    const next = new Map<string, FSWatcher>();
    for (const directory of directoriesOf(file)) {
      // By inode: a directory that was replaced under its name is another one to watch.
      const key = signatureOf(directory, 'identity');
      const watcher = watchers.get(key) ?? watchDirectory(directory, touched, () => watchers.delete(key));
      if (watcher !== undefined) next.set(key, watcher);
    }
    for (const [key, watcher] of watchers) if (!next.has(key)) watcher.close();
    watchers = next;
  };
  const touched = (): void => {
    const now = performance.now();
    firstUnreadMs ??= now;
    const wait = Math.min(limits.policyReloadQuietMs, firstUnreadMs + limits.policyReloadDelayMsMax - now);
    clearTimeout(quiet);
    quiet = setTimeout(settled, Math.max(0, wait)).unref();
  };
  const settled = (): void => {
    const signature = signatureOf(file);
    const isLate = performance.now() - (firstUnreadMs ?? 0) >= limits.policyReloadDelayMsMax;
    // Still being written: half of a policy can be a valid policy with fewer rules.
    if (signature !== seen && !isLate) {
      seen = signature;
      touched();
      return;
    }
    firstUnreadMs = undefined;
    seen = signature;
    arm();
    changed();
  };
  arm();
  // What changed between the first reading and now was told to nobody.
  touched();
  const poll = setInterval(() => {
    if (signatureOf(file) !== seen) touched();
    arm();
  }, limits.policyPollMs).unref();
  return {
    close: () => {
      clearTimeout(quiet);
      clearInterval(poll);
      for (const watcher of watchers.values()) watcher.close();
    },
  };
}

function watchDirectory(directory: string, touched: () => void, gone: () => void): FSWatcher | undefined {
  try {
    const watcher = watch(directory, { persistent: false }, touched);
    watcher.on('error', () => {
      watcher.close();
      gone();
      touched();
    });
    return watcher;
  } catch {
    // No inotify watches left, or the directory is away: the poll goes on looking.
    return undefined;
  }
}

function directoriesOf(file: string): Set<string> {
  const directories = new Set([dirname(file)]);
  try {
    directories.add(dirname(realpathSync(file)));
  } catch {
    // The file is away for now; its own directory tells when it is back.
  }
  return directories;
}

/** Changes whenever the file is written or replaced (`identity`: only when replaced); empty while it is away. */
function signatureOf(file: string, what: 'content' | 'identity' = 'content'): string {
  try {
    const stat = statSync(file, { bigint: true });
    return what === 'identity'
      ? `${stat.dev}:${stat.ino}`
      : `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}`;
  } catch {
    return '';
  }
}
