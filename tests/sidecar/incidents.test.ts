import { expect, test } from 'vitest';
import { SallyportError } from '../../config/errors.ts';
import { createIds } from '../../filters/common/ids.ts';
import type { JournalRecord } from '../../filters/common/record.ts';
import { createIncidents } from '../../sidecar/incidents.ts';
import { createMetrics } from '../../sidecar/metrics.ts';
import { writeRefusal } from '../../sidecar/observe.ts';
import { silent } from '../ext-authz/support.ts';
import { movingClock } from '../support/moving-clock.ts';
import { refusalOf } from '../support/refusal.ts';
import { someUse } from '../support/some-use.ts';

/** @param refuses whether the journal takes no such record. */
function setUp(refuses: (record: JournalRecord) => boolean) {
  const clock = movingClock();
  const records: JournalRecord[] = [];
  const journal = {
    append: (...given: JournalRecord[]) => {
      if (given.some(refuses)) throw new SallyportError('StateUnavailable', 'there is no room');
      records.push(...given);
    },
    tail: () => [],
    find: () => undefined,
    close: () => undefined,
  };
  const metrics = createMetrics();
  const incidents = createIncidents({
    ...{ journal, ids: createIds(clock), clock, log: silent, metrics },
    onRefusal: writeRefusal(journal, silent, metrics),
    onBypass: () => undefined,
  });
  return { incidents, records, metrics };
}

const refused = someUse({ decision: '', status: 400, left: false, upstream: '' });

test('a refusal by Envoy is one record, with the line that told of it', () => {
  const { incidents, records } = setUp(() => false);
  incidents.refused(refused, '7:90');
  incidents.flush();
  expect(records).toMatchObject([{ type: 'decision', kind: 'Deny', via: 'envoy', line: '7:90' }]);
});

test('one that may not be written by itself is in the next count', async () => {
  const { incidents, records, metrics } = setUp(
    (record) => record.type === 'decision' && record.count === undefined,
  );
  incidents.refused(refused, '7:90');
  incidents.refused(refused, '7:180');
  expect(records).toEqual([]);
  incidents.flush();
  incidents.flush();
  expect(records).toMatchObject([{ type: 'decision', kind: 'Deny', count: 2 }]);
  expect((await metrics.render()).text).toMatch(/sallyport_decisions_total\{[^}]*\} 2/);
});

test('a count that cannot be written is written later, and nothing goes on before', () => {
  let isFull = true;
  const { incidents, records } = setUp(() => isFull);
  incidents.refused(refused, '7:90');
  expect(refusalOf(() => incidents.flush())).toBe('StateUnavailable');
  isFull = false;
  incidents.flush();
  expect(records).toMatchObject([{ count: 1 }]);
});
