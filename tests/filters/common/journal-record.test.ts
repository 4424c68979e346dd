import { expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { decodeLine, encodeRecord } from '../../../filters/common/journal-record.ts';
import { usageEvent, usageRecord } from '../../../filters/metering/usage.ts';
import { someFacts } from '../../support/some-use.ts';

const at = { logical: 0, physical_ns: '1800000000000000000' };

test('what a caller made long is shortened wherever a record has it, so that a settlement can be written', () => {
  const long = `https://api.github.com:443/${'"'.repeat(limits.pathBytesMax)}`;
  const facts = someFacts({ resource: long, what: `POST ${long}` });
  const told = { bytesIn: 0, bytesOut: 0, durationMs: 1, status: 200, upstream: '', firstMs: 1, lastMs: 2 };
  const event = usageEvent({ facts, kind: 'Sent', calls: 1, ...told }, at);
  if (event === undefined) throw new Error('no usage');
  const line = encodeRecord(usageRecord(facts, event, at), { seq: 1, salt: Buffer.alloc(16) });
  const decoded = decodeLine(line);
  if (decoded?.kind !== 'record' || decoded.record.type !== 'usage') throw new Error('no usage record');
  const { what, resource, event: written } = decoded.record;
  for (const text of [what, resource, written.data.what, written.data.resource]) {
    expect(text.startsWith('https://api') || text.startsWith('POST https')).toBe(true);
    expect(text.length).toBeLessThan(limits.journalLongFieldCharsMax + 30);
  }
  expect(written.id).toBe(facts.id);
});
