/**
 * Holds in SQLite. Every transition is one transaction, on disk when the method returns (the database is
 * opened with synchronous FULL), and told to the listeners after that. It is recorded within its transaction: what
 * cannot be recorded does not happen. A crash between the two leaves a record of a transition that is then made again.
 *
 * A hold's time is the store's own: the wall clock at the opening, then the monotonic clock. A wall clock that
 * is set while the sidecar runs neither prolongs an approval nor ends it. Across a restart the wall clock is all
 * there is: a hold from the future of a clock that went back could live for any time, and is timed out.
 */
import { type ErrorCode, SallyportError } from '../../config/errors.ts';
import { limits } from '../../config/limits.ts';
import type { AgentName, HoldId } from '../common/brand.ts';
import type { Database } from '../common/database.ts';
import type { Ids } from '../common/ids.ts';
import { type Clock, toWireTimestamp } from '../common/time.ts';
import { type Hold, type HoldState, type HoldStore, holdStates, type NewHold } from './holds.ts';
import { decodeHold, isTerminal, type KeptHold, valuesOf } from './rows.ts';
import { pageQuery, prepareStatements } from './statements.ts';

export type HoldStoreOptions = Readonly<{
  clock: Clock;
  ids: Ids;
  /** Members of an approver group under the policy of this moment; none where there is no such group. */
  membersOf(group: string): readonly string[];
  /** Writes transitions down, all or none: what it throws undoes them. */
  record(holds: readonly Hold[]): void;
  /** Lowered by tests only. */
  openMax?: number;
  openPerAgentMax?: number;
  keptTerminalMax?: number;
}>;

type Row = Readonly<Record<string, unknown>>;

const refuse = (code: ErrorCode, message: string): never => {
  throw new SallyportError(code, message);
};

export function openHoldStore(db: Database, options: HoldStoreOptions): HoldStore {
  const { clock, ids, membersOf, record } = options;
  const openMax = options.openMax ?? limits.holdsOpenMax;
  const openPerAgentMax = options.openPerAgentMax ?? limits.holdsOpenPerAgentMax;
  const keptTerminalMax = options.keptTerminalMax ?? limits.holdsKeptTerminalMax;
  const sql = prepareStatements(db);
  const listeners = new Set<(hold: Hold) => void>();

  const openedWallMs = Math.trunc(clock.wallMs());
  const openedMonotonicMs = clock.monotonicMs();
  const nowMs = (): number => openedWallMs + Math.floor(clock.monotonicMs() - openedMonotonicMs);
  const decode = (row: Row): KeptHold => decodeHold(row, db.file);
  const maybe = (row: Row | undefined): KeptHold | undefined => (row === undefined ? undefined : decode(row));
  const holdOf = (row: Row): Hold => decode(row).hold;
  const counted = (row: Row | undefined): number => Number(row?.['n']);

  /** At most this many terminal holds are kept; one sixteenth is forgotten at a time, so that it is rare. */
  let terminal = db.run('count the holds', () => counted(sql.countTerminal.get()));
  const prune = (): void => {
    if (terminal <= keptTerminalMax) return;
    const surplus = terminal - keptTerminalMax + Math.floor(keptTerminalMax / 16);
    db.transaction('forget old holds', () => sql.prune.run(surplus));
    terminal = db.run('count the holds', () => counted(sql.countTerminal.get()));
  };

  /** Every listener hears of it; the first failure is then the caller's. */
  const tell = (holds: readonly Hold[]): void => {
    const failures: unknown[] = [];
    for (const hold of holds) {
      for (const listener of [...listeners]) {
        try {
          listener(hold);
        } catch (thrown) {
          failures.push(thrown);
        }
      }
    }
    terminal += holds.filter((hold) => isTerminal(hold.state)).length;
    prune();
    if (failures.length > 0) throw failures[0];
  };

  const kept = (id: HoldId): KeptHold =>
    maybe(sql.get.get(id)) ?? refuse('HoldNotFound', `there is no hold ${id}`);

  /** The transition's row, or the reason why it was not there to be made. */
  const wonBy = (row: Row | undefined, id: HoldId): Hold => {
    if (row !== undefined) return holdOf(row);
    const { hold } = kept(id);
    return refuse('HoldNotPending', `hold ${id} is ${hold.state}`);
  };

  /** Makes transitions, all of them recorded or none made. */
  const change = (action: string, work: () => readonly Hold[]): readonly Hold[] => {
    const changed = db.transaction(action, () => {
      const holds = work();
      if (holds.length > 0) record(holds);
      return holds;
    });
    if (changed.length > 0) tell(changed);
    return changed;
  };

  /** The same, so many in one transaction. Returns how many in all. */
  const changeAll = (action: string, rows: () => Row[]): number => {
    let all = 0;
    for (;;) {
      const { length } = change(action, () => rows().map(holdOf));
      all += length;
      if (length < limits.holdsPerChangeMax) return all;
    }
  };

  changeAll('time out holds from the future', () =>
    sql.expireFuture.all(openedWallMs, openedWallMs + limits.holdClockSlackMs, limits.holdsPerChangeMax),
  );

  const transition = (action: string, work: () => Hold): Hold => {
    const [hold] = change(action, () => [work()]);
    if (hold === undefined) throw new SallyportError('Internal', `cannot ${action}: nothing was changed`);
    return hold;
  };

  /** A hold past its time is timed out before anybody else may do something with it. */
  const timeOutIfDue = (found: KeptHold | undefined): KeptHold | undefined => {
    if (found === undefined) return undefined;
    const { hold } = found;
    const now = nowMs();
    if ((hold.state !== 'Pending' && hold.state !== 'Approved') || hold.expiresMs > now) return found;
    change('time out a hold', () => sql.expireOne.all(now, hold.id, now).map(holdOf));
    return maybe(sql.get.get(hold.id));
  };

  const assertNote = (by: string, note: string): void => {
    if (by === '' || by.length > limits.policyNameCharsMax)
      refuse('RequestMalformed', `a name of 1 to ${limits.policyNameCharsMax} characters says who decides`);
    if (note.length > limits.holdNoteCharsMax)
      refuse(
        'RequestTooLarge',
        `a note has at most ${limits.holdNoteCharsMax} characters, not ${note.length}`,
      );
  };

  /** Who may decide is asked of the policy of now: a member who left cannot, one who came can. */
  const assertMayDecide = ({ hold, notRequester }: KeptHold, by: string): readonly string[] => {
    const members = membersOf(hold.approvers);
    if (!members.includes(by))
      refuse('ApproverNotAllowed', `${by} is not a member of the approvers ${hold.approvers}`);
    if (notRequester && by === hold.agent)
      refuse('ApproverNotAllowed', `${by} asked for this and may not decide it`);
    return members;
  };

  const assertRoom = (agent: AgentName): void => {
    const ofAgent = counted(sql.countOpenOf.get(agent));
    if (ofAgent >= openPerAgentMax)
      refuse('HoldLimitReached', `${ofAgent} holds of ${agent} are open, and ${openPerAgentMax} may be`);
    const all = counted(sql.countOpen.get());
    if (all >= openMax) refuse('HoldLimitReached', `${all} holds are open, and ${openMax} may be`);
  };

  const open = (asked: NewHold): Hold => {
    db.run('find a hold', () => timeOutIfDue(maybe(sql.findOpen.get(asked.agent, asked.rule, asked.digest))));
    let same: Hold | undefined;
    const changed = change('open a hold', () => {
      const found = maybe(sql.findOpen.get(asked.agent, asked.rule, asked.digest));
      if (found?.hold.ruleDigest === asked.ruleDigest) {
        same = found.hold;
        return [];
      }
      const at = clock.now();
      const before: Hold[] = [];
      if (found !== undefined) {
        const cancelled = sql.cancel.get('sallyport', 'the rule changed', nowMs(), found.hold.id);
        before.push(wonBy(cancelled, found.hold.id));
      }
      assertRoom(asked.agent);
      const born = { id: ids.hold(), createdAt: toWireTimestamp(at), createdMs: nowMs() };
      return [...before, wonBy(sql.insert.get(...valuesOf(asked, born)), born.id)];
    });
    const hold = same ?? changed.at(-1);
    if (hold === undefined) throw new SallyportError('Internal', 'cannot open a hold: none was opened');
    return hold;
  };

  const approve = (id: HoldId, by: string, note: string): Hold => {
    assertNote(by, note);
    db.run('read a hold', () => timeOutIfDue(kept(id)));
    const [hold] = change('approve a hold', () => {
      const found = kept(id);
      const members = assertMayDecide(found, by);
      if (found.hold.state !== 'Pending') return [wonBy(undefined, id)];
      if (found.hold.approvals.some((approval) => approval.by === by)) return [];
      const approvals = [...found.hold.approvals, { by, at: toWireTimestamp(clock.now()), note }];
      const valid = approvals.filter((approval) => members.includes(approval.by));
      const text = JSON.stringify(approvals);
      const row =
        valid.length >= found.hold.quorum
          ? sql.approve.get(text, by, note, nowMs(), id)
          : sql.addApproval.get(text, id);
      return [wonBy(row, id)];
    });
    return hold ?? kept(id).hold;
  };

  const deny = (id: HoldId, by: string, note: string): Hold => {
    assertNote(by, note);
    db.run('read a hold', () => timeOutIfDue(kept(id)));
    return transition('deny a hold', () => {
      assertMayDecide(kept(id), by);
      return wonBy(sql.deny.get(by, note, nowMs(), id), id);
    });
  };

  const cancel = (id: HoldId, by: string, note: string): Hold => {
    assertNote(by, note);
    db.run('read a hold', () => timeOutIfDue(kept(id)));
    return transition('cancel a hold', () => wonBy(sql.cancel.get(by, note, nowMs(), id), id));
  };

  const consume = (id: HoldId): boolean => {
    const released = change('consume a hold', () => {
      kept(id);
      return sql.consume.all(id, nowMs()).map(holdOf);
    });
    return released.length > 0;
  };

  return {
    open,
    approve,
    deny,
    cancel,
    consume,
    get: (id) => db.run('read a hold', () => maybe(sql.get.get(id))?.hold),
    findForRequest: (agent, digest) =>
      db.run('find a hold', () => timeOutIfDue(maybe(sql.findForRequest.get(agent, digest)))?.hold),
    list: (filter) =>
      db.run('list holds', () => {
        const before = filter.before === undefined ? undefined : kept(filter.before).seq;
        const { sql: text, values } = pageQuery(filter, before);
        return db.connection
          .prepare(text)
          .all(...values)
          .map(holdOf);
      }),
    settle: (id, outcome, by) => {
      assertNote(by, '');
      return transition('settle a hold', () => wonBy(sql.settle.get(outcome, by, id), id));
    },
    acknowledge: (id) => {
      db.transaction('acknowledge a hold', () => {
        kept(id);
        sql.acknowledge.run(id);
      });
    },
    expire: () => {
      const now = nowMs();
      return changeAll('time out holds', () => sql.expireAll.all(now, now, limits.holdsPerChangeMax));
    },
    recover: () => changeAll('recover holds', () => sql.recover.all(limits.holdsPerChangeMax)),
    counts: () => {
      const counts = Object.fromEntries(holdStates.map((state) => [state, 0])) as Record<HoldState, number>;
      for (const row of db.run('count holds', () => sql.countByState.all())) {
        const state = holdStates.find((one) => one === row['state']);
        if (state !== undefined) counts[state] = counted(row);
      }
      return counts;
    },
    onTransition: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => listeners.clear(),
  };
}
