import { expect, test } from 'vitest';
import { SallyportError } from '../../config/errors.ts';
import { denial } from '../../ext-authz/draft.ts';
import { refusal } from '../../ext-authz/refusal.ts';
import type { HoldId } from '../../filters/common/brand.ts';
import { createIds } from '../../filters/common/ids.ts';
import { createClock } from '../../filters/common/time.ts';
import { failedAllow } from '../../sidecar/embedded/refuse.ts';
import { someAllow } from './support.ts';

const clock = createClock();

test('what a retry cannot help names no time to wait, wherever it was refused', () => {
  const error = new SallyportError('Forbidden', 'a rule says so', { retryAfterMs: 5_000 });
  const refused = { kind: 'Deny', code: 'Forbidden', reason: 'a rule says so', retryAfterMs: undefined };
  expect(denial(error)).toMatchObject(refused);
  expect(refusal(error, clock, createIds(clock).decision())).toMatchObject(refused);
  expect(failedAllow(someAllow(), error)).toMatchObject(refused);
});

test('an allow that could not be carried is denied under its own id and hold', () => {
  const hold = 'hold_01ARZ3NDEKTSV4RRFFQ69G5FAV' as HoldId;
  const allow = someAllow({ hold });
  const deny = failedAllow(allow, new SallyportError('UpstreamUnreachable', 'nobody answers'));
  expect(deny).toMatchObject({ kind: 'Deny', id: allow.id, rule: allow.rule, hold, retryAfterMs: 1_000 });
});
