/** A refusal before the check is seen where every decision is seen: journal, window, metrics. */
import { expect, onTestFinished, test } from 'vitest';
import { SallyportError } from '../../config/errors.ts';
import { settingsSchema } from '../../config/settings.ts';
import { type RefusedRequest, refusal, unreadRequest } from '../../ext-authz/refusal.ts';
import type { AgentName, SpiffeId } from '../../filters/common/brand.ts';
import { createIds } from '../../filters/common/ids.ts';
import { openJournal } from '../../filters/common/journal-file.ts';
import { createClock } from '../../filters/common/time.ts';
import { createLog } from '../../sidecar/log.ts';
import { createMetrics } from '../../sidecar/metrics.ts';
import { observeRefusal } from '../../sidecar/observe.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const clock = createClock();
const ids = createIds(clock);
const agent = {
  name: 'tester' as AgentName,
  id: 'spiffe://test/tester' as SpiffeId,
  labels: {},
  by: 'pod',
} as const;

function observed() {
  const lines: string[] = [];
  const settings = settingsSchema.parse({ log: { format: 'pretty' } });
  const log = createLog(settings.log, { write: (line) => lines.push(line) });
  const journal = openJournal(temporaryDirectory(), { clock });
  onTestFinished(() => journal.close());
  const metrics = createMetrics();
  return { lines, journal, metrics, refused: observeRefusal(journal, log, metrics) };
}

const asked: RefusedRequest = {
  method: 'POST',
  authority: 'user:word@api.test:80',
  path: '/hello?token=1',
  requestId: 'e1-2',
  via: 'embedded',
};

test('it is one record, one line and one count, with agent and code, without query and user information', async () => {
  const { lines, journal, metrics, refused } = observed();
  const error = new SallyportError('RequestTooLarge', 'the body is larger than 1 bytes');
  const deny = refusal(error, clock, ids.decision(), { agent });
  refused(deny, asked);
  expect(journal.tail(2)).toMatchObject([
    {
      type: 'decision',
      id: deny.id,
      agent: 'spiffe://test/tester',
      kind: 'Deny',
      code: 'RequestTooLarge',
      what: 'POST',
      why: 'the body is larger than 1 bytes',
      outcome: 'Denied',
      via: 'embedded',
      request_id: 'e1-2',
    },
  ]);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(
    / DENY tester POST api\.test:80\/hello RequestTooLarge \(the body is larger than 1 bytes\) id=dec_\w+\n$/,
  );
  const { text } = await metrics.render();
  expect(text).toMatch(/sallyport_decisions_total\{[^}]*code="RequestTooLarge"[^}]*\} 1/);
});

test('of bytes that could not be read there is a line and a record too', () => {
  const { lines, journal, refused } = observed();
  const deny = refusal(new SallyportError('RequestMalformed', 'no HTTP'), clock, ids.decision());
  refused(deny, unreadRequest('envoy'));
  expect(journal.find(deny.id)).toMatchObject({ agent: '', what: '', resource: '', via: 'envoy' });
  expect(lines).toEqual([expect.stringMatching(/ DENY \? .*RequestMalformed \(no HTTP\) id=dec_\w+\n$/)]);
});

test('a journal that cannot be written is told, and the refusal stands', () => {
  const { lines, journal, refused } = observed();
  journal.close();
  refused(refusal(new SallyportError('Overloaded', 'full'), clock, ids.decision()), asked);
  expect(lines.join('')).toContain('a refusal could not be written down');
});
