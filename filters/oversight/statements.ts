/** The SQL of the hold store. Every UPDATE names the state it leads out of, so that the first writer wins. */
import type { StatementSync } from 'node:sqlite';
import { limits } from '../../config/limits.ts';
import type { Database } from '../common/database.ts';
import type { HoldFilter } from './holds.ts';
import { insertHold, terminalStates } from './rows.ts';

export const open = `state IN ('Pending', 'Approved')`;
const terminal = `state IN (${terminalStates.map((state) => `'${state}'`).join(', ')})`;

/** What a repeat of the request meets: not what was told already, and not what is on its way or done. */
const met = `state IN ('Pending', 'Approved', 'Unknown')
  OR (state IN ('Denied', 'TimedOut', 'Cancelled') AND acknowledged = 0)`;

const statements = {
  insert: insertHold,
  get: 'SELECT * FROM holds WHERE id = ?',
  findOpen: `SELECT * FROM holds WHERE agent = ? AND rule = ? AND digest = ? AND ${open}`,
  findForRequest: `SELECT * FROM holds WHERE agent = ? AND digest = ? AND (${met}) ORDER BY seq DESC LIMIT 1`,
  countOpen: `SELECT count(*) AS n FROM holds WHERE ${open}`,
  countOpenOf: `SELECT count(*) AS n FROM holds WHERE agent = ? AND ${open}`,
  countTerminal: `SELECT count(*) AS n FROM holds WHERE ${terminal}`,
  countByState: 'SELECT state, count(*) AS n FROM holds GROUP BY state',
  addApproval: `UPDATE holds SET approvals = ? WHERE id = ? AND state = 'Pending' RETURNING *`,
  approve: `UPDATE holds SET state = 'Approved', approvals = ?, decided_by = ?, note = ?, decided_ms = ?
    WHERE id = ? AND state = 'Pending' RETURNING *`,
  deny: `UPDATE holds SET state = 'Denied', decided_by = ?, note = ?, decided_ms = ?
    WHERE id = ? AND state = 'Pending' RETURNING *`,
  cancel: `UPDATE holds SET state = 'Cancelled', decided_by = ?, note = ?, decided_ms = ?
    WHERE id = ? AND ${open} RETURNING *`,
  consume: `UPDATE holds SET state = 'Released' WHERE id = ? AND state = 'Approved' AND expires_ms > ? RETURNING *`,
  settle: `UPDATE holds SET state = ?, settled_by = ? WHERE id = ? AND state IN ('Released', 'Unknown') RETURNING *`,
  // Nobody decided: who approved stays on record in `approvals`, and no person is named as the one who ended it.
  expireOne: `UPDATE holds SET state = 'TimedOut', decided_by = '', note = '', decided_ms = ?
    WHERE id = ? AND ${open} AND expires_ms <= ? RETURNING *`,
  expireAll: `UPDATE holds SET state = 'TimedOut', decided_by = '', note = '', decided_ms = ?
    WHERE seq IN (SELECT seq FROM holds WHERE ${open} AND expires_ms <= ? ORDER BY seq LIMIT ?) RETURNING *`,
  expireFuture: `UPDATE holds SET state = 'TimedOut', decided_by = '', note = '', decided_ms = ?
    WHERE seq IN (SELECT seq FROM holds WHERE ${open} AND created_ms > ? ORDER BY seq LIMIT ?) RETURNING *`,
  recover: `UPDATE holds SET state = 'Unknown'
    WHERE seq IN (SELECT seq FROM holds WHERE state = 'Released' ORDER BY seq LIMIT ?) RETURNING *`,
  acknowledge: `UPDATE holds SET acknowledged = 1
    WHERE id = ? AND state IN ('Denied', 'TimedOut', 'Cancelled') AND acknowledged = 0`,
  prune: `DELETE FROM holds WHERE seq IN (SELECT seq FROM holds WHERE ${terminal} ORDER BY seq LIMIT ?)`,
} as const;

export type Statements = Readonly<Record<keyof typeof statements, StatementSync>>;

export function prepareStatements(db: Database): Statements {
  return db.run('prepare the hold statements', () => {
    const prepare = (name: keyof typeof statements): StatementSync => db.connection.prepare(statements[name]);
    return {
      insert: prepare('insert'),
      get: prepare('get'),
      findOpen: prepare('findOpen'),
      findForRequest: prepare('findForRequest'),
      countOpen: prepare('countOpen'),
      countOpenOf: prepare('countOpenOf'),
      countTerminal: prepare('countTerminal'),
      countByState: prepare('countByState'),
      addApproval: prepare('addApproval'),
      approve: prepare('approve'),
      deny: prepare('deny'),
      cancel: prepare('cancel'),
      consume: prepare('consume'),
      settle: prepare('settle'),
      expireOne: prepare('expireOne'),
      expireAll: prepare('expireAll'),
      expireFuture: prepare('expireFuture'),
      recover: prepare('recover'),
      acknowledge: prepare('acknowledge'),
      prune: prepare('prune'),
    };
  });
}

/** The SELECT of a page, newest first, made of fixed pieces; every value is bound. */
export function pageQuery(
  filter: HoldFilter,
  beforeSeq: number | undefined,
): Readonly<{ sql: string; values: (string | number)[] }> {
  const conditions: string[] = [];
  const values: (string | number)[] = [];
  if (filter.states !== undefined) {
    conditions.push(`state IN (${filter.states.map(() => '?').join(', ')})`);
    values.push(...filter.states);
  }
  if (filter.agent !== undefined) {
    conditions.push('agent = ?');
    values.push(filter.agent);
  }
  if (beforeSeq !== undefined) {
    conditions.push('seq < ?');
    values.push(beforeSeq);
  }
  const where = conditions.length === 0 ? '' : `WHERE ${conditions.join(' AND ')}`;
  const rows = Math.min(limits.adminPageItemsMax, Math.max(0, Math.trunc(filter.limit)));
  return { sql: `SELECT * FROM holds ${where} ORDER BY seq DESC LIMIT ?`, values: [...values, rows] };
}
