/** A hold store whose transitions are written nowhere else, with what a test cares about replaced. */
import type { Database } from '../../filters/common/database.ts';
import { createIds } from '../../filters/common/ids.ts';
import type { Clock } from '../../filters/common/time.ts';
import type { HoldStore } from '../../filters/oversight/holds.ts';
import { type HoldStoreOptions, openHoldStore } from '../../filters/oversight/sqlite.ts';

export const someHoldStore = (
  db: Database,
  clock: Clock,
  changes: Partial<HoldStoreOptions> = {},
): HoldStore =>
  openHoldStore(db, {
    ...{ clock, ids: createIds(clock), membersOf: () => ['dana'], record: () => undefined },
    ...changes,
  });
