/** The real checker on real stores in a temporary directory, with a clock that the test moves. */
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import { parsePolicy } from '../../config/policy/parse.ts';
import { createChecker } from '../../ext-authz/check.ts';
import type { Checker } from '../../ext-authz/checker.ts';
import { createLeaseBook, type LeaseBook } from '../../ext-authz/lease-book.ts';
import { openDatabase } from '../../filters/common/database.ts';
import { createIds } from '../../filters/common/ids.ts';
import type { Journal } from '../../filters/common/journal.ts';
import { openJournal } from '../../filters/common/journal-file.ts';
import type { Decision } from '../../filters/decision.ts';
import { createResolver } from '../../filters/egress/dns.ts';
import type { Call, Pin } from '../../filters/facts.ts';
import type { HoldStore } from '../../filters/oversight/holds.ts';
import { markWith } from '../../filters/oversight/mask.ts';
import { openHoldStore } from '../../filters/oversight/sqlite.ts';
import { compilePolicy } from '../../filters/policy/compile.ts';
import type { CompiledPolicy } from '../../filters/policy/compiled.ts';
import { createDecisionCache } from '../../filters/policy/decision-cache.ts';
import type { QuotaStore } from '../../filters/quota/quota.ts';
import { openQuotaStore } from '../../filters/quota/sqlite.ts';
import { someCall } from '../support/call.ts';
import { type MovingClock, movingClock } from '../support/moving-clock.ts';
import { temporaryDirectory } from '../support/temporary.ts';

export function compiled(text: string): CompiledPolicy {
  const parsed = parsePolicy(text, 'policy.yaml');
  const result = parsed.ok ? compilePolicy(parsed.value, { uidOf: () => undefined }) : parsed;
  if (!result.ok)
    throw new Error(result.issues.map((issue) => `${issue.field}: ${issue.message}`).join('\n'));
  return result.value;
}

export type World = Readonly<{
  checker: Checker;
  clock: MovingClock;
  holds: HoldStore;
  journal: Journal;
  quota: QuotaStore;
  /** The leases of `checker.lessor`, and how far the ledger has read. */
  book: LeaseBook;
  ledger: { caughtUpMs: number; epoch: string };
  /** Refuses everything where it is set. */
  lock(reason: string | undefined): void;
  /** From now on this policy holds. */
  load(text: string): void;
  check(changes: Parameters<typeof someCall>[0], signal?: AbortSignal): Promise<Decision>;
}>;

export function world(
  text: string,
  changes: { journal?: (real: Journal) => Journal; isOwn?: (pin: Pin) => boolean } = {},
): World {
  const directory = temporaryDirectory();
  const clock = movingClock();
  const ids = createIds(clock);
  let policy = compiled(text);
  const holdsDb = openDatabase(`${directory}/holds.db`);
  const quotasDb = openDatabase(`${directory}/quotas.db`, { synchronous: 'NORMAL' });
  const holds = openHoldStore(holdsDb, {
    clock,
    ids,
    membersOf: (group) => policy.source.approvers[group]?.members ?? [],
    record: () => undefined,
  });
  const quota = openQuotaStore(quotasDb, clock);
  const real = openJournal(directory, { clock });
  const journal = changes.journal?.(real) ?? real;
  const resolver = createResolver({
    hosts: { 'api.example.com': '93.184.215.14', 'inside.example.com': '10.1.2.3' },
    servers: ['127.0.0.1:9'],
    timeoutMs: 50,
    clock,
  });
  onTestFinished(() => {
    resolver.close();
    real.close();
    holds.close();
    quota.close();
    holdsDb.close();
    quotasDb.close();
  });
  const ledger = { caughtUpMs: Number.NEGATIVE_INFINITY, epoch: 'first' };
  const book = createLeaseBook({
    ...{ clock, quota },
    ledger: { caughtUpMs: () => ledger.caughtUpMs, epoch: () => ledger.epoch, onUse: () => undefined },
  });
  let locked: string | undefined;
  const checker = createChecker({
    policy: () => policy,
    locked: () => locked,
    stopping: new AbortController().signal,
    mark: markWith(new Uint8Array(32)),
    decisions: createDecisionCache({ ttlMs: 60_000, entriesMax: 1_000 }),
    leases: { book, options: { lifeMs: 500, callsMax: 10_000 } },
    podAgent: 'robot',
    holdRetryAfterMs: 5_000,
    clock,
    ids,
    resolver,
    users: { uidOf: () => undefined },
    isOwn: changes.isOwn ?? (() => false),
    quota,
    holds,
    journal,
    log: pino({ level: 'silent' }),
  });
  return {
    ...{ checker, clock, holds, journal, quota, book, ledger },
    lock: (reason) => {
      locked = reason;
    },
    load: (next) => {
      policy = compiled(next);
    },
    check: (call, signal = new AbortController().signal) =>
      checker.check(someCall(call) satisfies Call, signal),
  };
}
