/**
 * Holds in SQLite. Every transition is one transaction, on disk when the method returns (the database is
 * opened with synchronous FULL), and told to the listeners after that.
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
  const { clock, ids, membersOf } = options;
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

  db.transaction('time out holds from the future', () =>
    sql.expireFuture.run(openedWallMs, openedWallMs + limits.holdClockSlackMs),
  );

  /** At most this many terminal holds are kept; one sixteenth is forgotten at a time, so that it is rare. */
  let terminal = db.run('count the holds', () => counted(sql.countTerminal.get()));
  const prune = (): void => {
    if (terminal <= keptTerminalMax) return;
    const surplus = terminal - keptTerminalMax + Math.floor(keptTerminalMax / 16);
    db.transaction('forget old holds', () => sql.prune.run(surplus));
    terminal = db.run('count the holds', () => counted(sql.countTerminal.get()));
  };

  /** Every listener hears of it; the first failure is then the caller's, who must not send what nobody recorded. */
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

  const transition = (action: string, work: () => Hold): Hold => {
    const hold = db.transaction(action, work);
    tell([hold]);
    return hold;
  };

  /** A hold past its time is timed out before anybody else may do something with it. */
  const timeOutIfDue = (found: KeptHold | undefined): KeptHold | undefined => {
    if (found === undefined) return undefined;
    const { hold } = found;
    const now = nowMs();
    if ((hold.state !== 'Pending' && hold.state !== 'Approved') || hold.expiresMs > now) return found;
    const ended = db.transaction('time out a hold', () => maybe(sql.expireOne.get(now, hold.id, now)));
    if (ended !== undefined) tell([ended.hold]);
    return ended ?? maybe(sql.get.get(hold.id));
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
    const changed: Hold[] = [];
    const hold = db.transaction('open a hold', () => {
      const found = maybe(sql.findOpen.get(asked.agent, asked.rule, asked.digest));
      if (found?.hold.ruleDigest === asked.ruleDigest) return found.hold;
      const at = clock.now();
      if (found !== undefined) {
        const cancelled = sql.cancel.get('sallyport', 'the rule changed', nowMs(), found.hold.id);
        changed.push(wonBy(cancelled, found.hold.id));
      }
      assertRoom(asked.agent);
      const born = { id: ids.hold(), createdAt: toWireTimestamp(at), createdMs: nowMs() };
      const opened = wonBy(sql.insert.get(...valuesOf(asked, born)), born.id);
      changed.push(opened);
      return opened;
    });
    tell(changed);
    return hold;
  };

  const approve = (id: HoldId, by: string, note: string): Hold => {
    assertNote(by, note);
    db.run('read a hold', () => timeOutIfDue(kept(id)));
    let isRepeat = false;
    const hold = db.transaction('approve a hold', () => {
      const found = kept(id);
      const members = assertMayDecide(found, by);
      if (found.hold.state !== 'Pending') return wonBy(undefined, id);
      if (found.hold.approvals.some((approval) => approval.by === by)) {
        isRepeat = true;
        return found.hold;
      }
      const approvals = [...found.hold.approvals, { by, at: toWireTimestamp(clock.now()), note }];
      const valid = approvals.filter((approval) => members.includes(approval.by));
      const text = JSON.stringify(approvals);
      const row =
        valid.length >= found.hold.quorum
          ? sql.approve.get(text, by, note, nowMs(), id)
          : sql.addApproval.get(text, id);
      return wonBy(row, id);
    });
    if (!isRepeat) tell([hold]);
    return hold;
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
    const released = db.transaction('consume a hold', () => {
      kept(id);
      const row = sql.consume.get(id, nowMs());
      return row === undefined ? undefined : holdOf(row);
    });
    if (released !== undefined) tell([released]);
    return released !== undefined;
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
      const ended = db.transaction('time out holds', () => sql.expireAll.all(now, now).map(holdOf));
      tell(ended);
      return ended.length;
    },
    recover: () => {
      const unknown = db.transaction('recover holds', () => sql.recover.all().map(holdOf));
      tell(unknown);
      return unknown.length;
    },
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
