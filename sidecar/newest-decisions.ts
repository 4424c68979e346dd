/** The newest decisions of a journal, newest first: what `/v1/decisions` and `sallyport decisions` tell. */
import { limits } from '../config/limits.ts';
import type { Journal } from '../filters/common/journal.ts';
import type { DecisionRecord } from '../filters/common/record.ts';

/** Of the newest records, which are not all decisions. */
export const newestDecisions = (journal: Pick<Journal, 'tail'>, limit: number): readonly DecisionRecord[] =>
  journal
    .tail(limits.adminPageItemsMax)
    .filter((record): record is DecisionRecord => record.type === 'decision')
    .slice(0, limit);
