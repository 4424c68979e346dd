/**
 * Lockdown: everything is refused and every open connection is ended, until an operator lifts it. It is a file
 * of the state directory, so that a restart changes nothing; a file that cannot be read locks.
 */
import { closeSync, fsyncSync, readFileSync, renameSync, writeSync } from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import { z } from 'zod';
import { SallyportError } from '../config/errors.ts';
import { limits } from '../config/limits.ts';
import type { DataPlane } from '../envoy/data-plane.ts';
import type { Ids } from '../filters/common/ids.ts';
import type { Journal } from '../filters/common/journal.ts';
import { openPrivateFile, syncDirectory } from '../filters/common/private-files.ts';
import type { LockdownRecord } from '../filters/common/record.ts';
import { type Clock, toWireTimestamp } from '../filters/common/time.ts';

const lockSchema = z.object({
  /** Null where it was lifted. */
  locked: z.object({ reason: z.string(), by: z.string(), since: z.iso.datetime() }).nullable(),
});
export type Locked = Readonly<{ reason: string; by: string; since: string }>;

export const lockdownFile = (stateDir: string): string => path.join(stateDir, 'lockdown.json');

/** On the disk when it returns: a power cut does not lift it. */
export function writeLockdown(stateDir: string, locked: Locked | undefined): void {
  const file = lockdownFile(stateDir);
  const fd = openPrivateFile(`${file}.new`, 'w');
  try {
    writeSync(fd, `${JSON.stringify({ locked: locked ?? null } satisfies z.input<typeof lockSchema>)}\n`);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(`${file}.new`, file);
  syncDirectory(stateDir);
}

export function readLockdown(stateDir: string, now: string): Locked | undefined {
  const file = lockdownFile(stateDir);
  const unreadable = (cause: string): Locked => ({
    reason: `${file} cannot be read (${cause}), so it is not known whether a lockdown holds`,
    by: 'sallyport',
    since: now,
  });
  try {
    const parsed = lockSchema.safeParse(JSON.parse(readFileSync(file, 'utf8')));
    return parsed.success ? (parsed.data.locked ?? undefined) : unreadable('it is not what was written');
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : 'no JSON';
    return code === 'ENOENT' ? undefined : unreadable(code);
  }
}

export type Lockdown = Readonly<{
  isLocked(): Locked | undefined;
  /**
   * Refuses everything from now on; a second one changes nothing. Throws StateUnavailable where it could not be
   * written down: it holds all the same, until a restart, and the next one writes it.
   */
  lock(by: string, reason: string): Locked;
  /** Writes down what could not be; throws as `lock` does. */
  keep(): void;
  /** Throws StateUnavailable, and everything stays locked, where it cannot be written down. */
  lift(by: string): void;
  /** Called after each change, in the order of subscription; must not throw. Returns the unsubscribe function. */
  onChange(listener: (locked: Locked | undefined) => void): () => void;
}>;

export function openLockdown(options: {
  stateDir: string;
  journal: Pick<Journal, 'append'>;
  ids: Ids;
  clock: Clock;
}): Lockdown {
  const { stateDir, journal, ids, clock } = options;
  const listeners = new Set<(locked: Locked | undefined) => void>();
  const nowText = (): string => new Date(clock.wallMs()).toISOString();
  let locked = readLockdown(stateDir, nowText());
  /** It holds in this process alone. */
  let isUnwritten = false;

  const record = (action: LockdownRecord['action'], by: string, why: string): LockdownRecord => ({
    type: 'lockdown',
    id: ids.of('lock'),
    at: toWireTimestamp(clock.now()),
    ...{ agent: '', delegation_chain: [], policy_version: '' },
    ...{ action, by, what: 'lockdown', resource: '', why, outcome: 'Success' },
  });
  const assertName = (by: string): void => {
    if (by === '' || by.length > limits.policyNameCharsMax)
      throw new SallyportError(
        'RequestMalformed',
        `a name of 1 to ${limits.policyNameCharsMax} characters says who does this`,
      );
  };
  const tell = (): void => {
    for (const listener of [...listeners]) listener(locked);
  };

  const keep = (): void => {
    if (locked === undefined || !isUnwritten) return;
    try {
      writeLockdown(stateDir, locked);
      journal.append(record('locked', locked.by, locked.reason));
    } catch (cause) {
      throw new SallyportError(
        'StateUnavailable',
        `everything is locked, but that cannot be written down in ${stateDir}: a restart may lift it`,
        { cause },
      );
    }
    isUnwritten = false;
  };

  return {
    isLocked: () => locked,
    keep,
    lock: (by, reason) => {
      assertName(by);
      if (reason.length > limits.lockdownReasonCharsMax)
        throw new SallyportError(
          'RequestTooLarge',
          `a reason has at most ${limits.lockdownReasonCharsMax} characters, not ${reason.length}`,
        );
      if (locked === undefined) {
        locked = { reason, by, since: nowText() };
        isUnwritten = true;
        tell();
      }
      keep();
      return locked;
    },
    lift: (by) => {
      assertName(by);
      if (locked === undefined) return;
      journal.append(record('lifted', by, locked.reason));
      try {
        writeLockdown(stateDir, undefined);
      } catch (cause) {
        throw new SallyportError('StateUnavailable', `${lockdownFile(stateDir)} cannot be written`, {
          cause,
        });
      }
      locked = undefined;
      isUnwritten = false;
      tell();
    },
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** What is under way ends with what is refused: from now on, and what the data plane carries already. */
export function endOnLockdown(
  lockdown: Lockdown,
  plane: Pick<DataPlane, 'endConnections'>,
  log: Logger,
): void {
  const follow = (locked: Locked | undefined): void => {
    if (locked === undefined) {
      log.warn('the lockdown is lifted');
      return;
    }
    const { by, reason, since } = locked;
    log.error({ by, reason, since }, 'lockdown: everything is refused, every connection is ended');
    plane
      .endConnections()
      .catch((err: unknown) => log.error({ err }, 'open connections could not be ended for the lockdown'));
  };
  lockdown.onChange(follow);
  const locked = lockdown.isLocked();
  if (locked !== undefined) follow(locked);
}
