/**
 * Follows the policy file. A new text becomes the value only once it was read whole, parsed, built and
 * applied; until then, and where any of these fails, the old value stays.
 */
import { type FSWatcher, realpathSync, statSync, watch } from 'node:fs';
import { dirname } from 'node:path';
import { SallyportError } from '../errors.ts';
import { limits } from '../limits.ts';
import { fileIssue } from '../source.ts';
import { formatIssue, type Issue, type Result } from './issue.ts';

export type PolicyWatch<T> = Readonly<{
  current(): T;
  /**
   * Reads the file now, whether or not it changed. Resolves with the value that holds, or what is wrong with
   * the file. Asked while another reading is under way, all who ask wait for the one after it.
   */
  reload(): Promise<Result<T>>;
  /** Also ends a reading that is under way; whoever waits for it gets the value that holds. */
  close(): void;
}>;

/** `key`: the version of a text, or why it could not be read. */
export type Loaded<T> =
  | Readonly<{ kind: 'known'; key: string }>
  | Readonly<{ kind: 'value'; key: string; value: T }>
  | Readonly<{ kind: 'refused'; key: string; issues: readonly Issue[] }>;

export type WatchOptions<T> = Readonly<{
  file: string;
  /**
   * Reads and builds what the file holds now. A text whose key is among `known` need not be built. Must not
   * keep the process from other work for long.
   */
  load(file: string, known: readonly string[], signal: AbortSignal): Promise<Loaded<T>>;
  /** Puts the value into effect; a rejection leaves the old one in effect. */
  apply?(value: T): Promise<void>;
  /** A value of another version holds now. Not called for the first one. */
  onChange(value: T): void;
  /** The file changed and is wrong; called once for each wrong text, and on every `reload`. */
  onReject(issues: readonly Issue[]): void;
}>;

export async function watchPolicy<T>(options: WatchOptions<T>): Promise<PolicyWatch<T>> {
  const { file } = options;
  const ending = new AbortController();
  const first = await applied(options, await options.load(file, [], ending.signal));
  if (first.kind === 'refused')
    throw new SallyportError('PolicyInvalid', first.issues.map(formatIssue).join('\n'));
  if (first.kind === 'known') throw new SallyportError('Internal', 'the first policy was read as known');
  let held = first;
  /** Key of what was refused last. */
  let refused = '';

  const attempt = async (asked: boolean): Promise<Result<T>> => {
    const holding = (): Result<T> => ({ ok: true, value: held.value });
    if (ending.signal.aborted) return holding();
    let loaded: Loaded<T>;
    try {
      const known = asked ? [held.key] : [held.key, refused];
      loaded = await options.load(file, known, ending.signal);
      if (!ending.signal.aborted) loaded = await applied(options, loaded);
    } catch (thrown) {
      if (!ending.signal.aborted) throw thrown;
      return holding();
    }
    if (ending.signal.aborted) return holding();
    switch (loaded.kind) {
      case 'known':
        if (loaded.key === held.key) refused = '';
        return holding();
      case 'refused':
        refused = loaded.key;
        options.onReject(loaded.issues);
        return { ok: false, issues: loaded.issues };
      case 'value':
        refused = '';
        held = loaded;
        options.onChange(held.value);
        return holding();
    }
  };

  let turn: Promise<unknown> = Promise.resolve();
  let waiting: { asked: boolean; done: Promise<Result<T>> } | undefined;
  const next = (): Promise<Result<T>> => {
    const isAsked = waiting?.asked === true;
    waiting = undefined;
    return attempt(isAsked);
  };
  /** One at a time, so that a slow one is never overtaken by a later text, and at most one waits. */
  const queue = (asked: boolean): Promise<Result<T>> => {
    if (waiting !== undefined) {
      waiting.asked ||= asked;
      return waiting.done;
    }
    const done = turn.then(next);
    waiting = { asked, done };
    turn = done.catch(() => undefined);
    return done;
  };

  const follower = followFile(file, () => {
    // `load` and the callbacks are the caller's: what they throw is told, and the watch goes on.
    queue(false).catch((thrown: unknown) => options.onReject([fileIssue(file, reasonOf(thrown))]));
  });
  return {
    current: () => held.value,
    reload: () => queue(true),
    close: () => {
      ending.abort();
      follower.close();
    },
  };
}

const reasonOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : 'unknown failure');

async function applied<T>(options: WatchOptions<T>, loaded: Loaded<T>): Promise<Loaded<T>> {
  if (loaded.kind !== 'value') return loaded;
  try {
    await options.apply?.(loaded.value);
    return loaded;
  } catch (thrown) {
    const issue = fileIssue(options.file, `valid, but could not be put into effect: ${reasonOf(thrown)}`);
    return { kind: 'refused', key: loaded.key, issues: [issue] };
  }
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
