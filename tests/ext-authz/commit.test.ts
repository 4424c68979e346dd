/** What is kept of a paid call, and until when. */
import { expect, test } from 'vitest';
import { createCommit } from '../../ext-authz/commit.ts';
import { progressUnder } from '../../ext-authz/draft.ts';
import { createIds } from '../../filters/common/ids.ts';
import type { Decision } from '../../filters/decision.ts';
import type { Call } from '../../filters/facts.ts';
import { someCall } from '../support/call.ts';
import { movingClock } from '../support/moving-clock.ts';
import { compiled } from './check-world.ts';
import { silent } from './support.ts';

const debit = { kind: 'quota', quota: 'few', key: 'few robot', limit: 9, windowMs: 60_000 } as const;
const policy = compiled(
  'version: 1\nagents: { robot: { identity: spiffe://example.org/robot } }\nrules: []\n',
);

function payments(paymentsMax: number) {
  const clock = movingClock();
  const refunded: number[] = [];
  const { commit, ...parts } = createCommit(
    {
      ...{ clock, ids: createIds(clock), log: silent, locked: () => undefined },
      journal: { append: () => undefined },
      quota: { refund: (_debits, _atMs, calls = 1) => void refunded.push(calls) },
      holds: {
        settle: () => {
          throw new Error('nothing is held here');
        },
      },
    },
    { paymentsMax },
  );
  const allow = (via: Call['via'], calls = 1): Decision =>
    commit(
      progressUnder(policy),
      { kind: 'Allow', inspect: 'tls', pin: undefined, hold: undefined },
      { debits: [debit], atMs: 1, calls },
      someCall({ via }),
      0,
    );
  return { ...parts, allow, refunded };
}

test('calls that another enforces do not push out the payments of calls that the ledger settles', () => {
  const { allow, refundUnsent, refunded } = payments(1);
  const own = allow('envoy');
  for (const via of ['authzen', 'ext_authz', 'authzen'] as const) allow(via);
  refundUnsent(own.id, 1, 1);
  expect(refunded).toEqual([1]);
});

test('an answer to another that did not arrive is given back, once', () => {
  const { allow, settle, refunded } = payments(1);
  const decision = allow('ext_authz');
  settle(decision, 'NotSent');
  settle(decision, 'NotSent');
  expect(refunded).toEqual([1]);
});

test('what was paid for a lease is kept until the last of its calls is settled', () => {
  const { allow, refundUnsent, refunded } = payments(2);
  const lease = allow('envoy', 5);
  refundUnsent(lease.id, 2, 0);
  refundUnsent(lease.id, 2, 2);
  refundUnsent(lease.id, 1, 0);
  refundUnsent(lease.id, 1, 1);
  expect(refunded).toEqual([2]);
});

test('no more is given back than was paid', () => {
  const { allow, refundUnsent, refunded } = payments(2);
  refundUnsent(allow('envoy', 5).id, 7, 7);
  expect(refunded).toEqual([5]);
});

test('a lease whose calls all left makes room for the payments after it', () => {
  const { allow, refundUnsent, refunded } = payments(2);
  const before = allow('envoy');
  const lease = allow('envoy', 5);
  refundUnsent(lease.id, 5, 0);
  allow('envoy');
  refundUnsent(before.id, 1, 1);
  expect(refunded).toEqual([1]);
});
