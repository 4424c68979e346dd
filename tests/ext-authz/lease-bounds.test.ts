/** What a lease must not stretch: a quota's window, a lockdown, another caller's turn. */
import { expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import type { LeaseGrant, LeaseWish } from '../../ext-authz/lease.ts';
import type { DecisionId } from '../../filters/common/brand.ts';
import { someDebit } from '../contracts/quota-store.contract.ts';
import { someCall } from '../support/call.ts';
import { type World, world } from './check-world.ts';

const policy = (quotas = ''): string => `version: 1
agents: { robot: { identity: spiffe://example.org/robot } }
rules:
  - { name: read, to: { hosts: [api.example.com], methods: [GET] }, allow: {} }
${quotas}`;
const quota = (limit: number, window: string): string =>
  `quotas: [{ name: few, rules: [read], limit: ${limit}, window: ${window}, key: [agent] }]`;

const grant = ({ checker }: World, wish: Partial<LeaseWish> = {}): Promise<LeaseGrant> => {
  if (checker.lessor === undefined) throw new Error('no leases here');
  return checker.lessor.grant(someCall(), {
    ...{ vm: 'worker-1', renews: undefined },
    onWire: (region) => region,
    ...wish,
  });
};

test.each([
  ['1s', 1_000],
  ['10s', 10_000],
  ['60s', 60_000],
])(
  'in no window of %s do more calls leave than the limit, though those of a lease leave as late as they can',
  async (window, windowMs) => {
    const limit = 100;
    const here = world(policy(quota(limit, window)));
    const left: { atMs: number; calls: number }[] = [];
    const check = async (): Promise<boolean> => {
      const { kind } = await here.check({}, AbortSignal.abort());
      if (kind === 'Allow') left.push({ atMs: here.clock.monotonicMs(), calls: 1 });
      return kind === 'Allow';
    };
    let leases = 0;
    for (let round = 0; round < 8; round += 1) {
      for (let at = 0; at < 12; at += 1) {
        const found = await grant(here, { vm: `worker-${round}-${at}` });
        if (found.kind !== 'lease') continue;
        leases += 1;
        left.push({ atMs: here.clock.monotonicMs() + found.lease.lifeMs, calls: found.lease.calls });
      }
      // As soon as a window has passed, everything that it has room for again.
      here.clock.pass(windowMs - 400);
      for (let ms = 0; ms < 900; ms += 11) {
        while (await check());
        here.clock.pass(11);
      }
      // At all places of a slot.
      here.clock.pass(windowMs * 2 + round * Math.ceil(windowMs / limits.quotaSlotsPerWindow / 8));
    }
    for (const { atMs: until } of left) {
      const within = left.filter(({ atMs }) => atMs <= until && atMs > until - windowMs);
      expect(within.reduce((sum, { calls }) => sum + calls, 0)).toBeLessThanOrEqual(limit);
    }
    if (windowMs > 1_000) expect(leases).toBeGreaterThan(8);
  },
);

test('a lockdown that begins while a name is looked up ends what would have been granted and let pass', async () => {
  const here = world(policy());
  const asking = grant(here);
  const checking = here.check({});
  here.lock('an operator said so');
  expect(await asking).toMatchObject({ kind: 'none' });
  expect(await checking).toMatchObject({ kind: 'Deny', code: 'Lockdown' });
  expect(here.book.count()).toBe(0);
});

test('a class that slept is leased again as soon as it is busy', async () => {
  const here = world(policy());
  const first = await grant(here);
  if (first.kind !== 'lease') throw new Error('no lease');
  here.clock.pass(4_000);
  const renews = { id: first.allow.id, left: first.lease.calls - 1 };
  expect(await grant(here, { renews })).toMatchObject({ kind: 'lease' });
});

test('of those who wait for calls that flow back as many are woken as there are calls, and all once none is out', async () => {
  const here = world(policy());
  const debit = someDebit({ limit: 100 });
  const open = (n: number, calls: number): DecisionId => {
    const id = `dec_${String(n).padStart(26, '0')}` as DecisionId;
    here.quota.debit([debit], calls);
    here.book.open({ id, vm: 'worker-1', calls, debits: [debit], atMs: here.clock.monotonicMs() }, 500);
    return id;
  };
  const [first, second, third] = [open(1, 40), open(2, 40), open(3, 1)];
  const woken: number[] = [];
  const never = new AbortController().signal;
  const waiting = [1, 2, 3, 4, 5].map(async (number) => {
    await here.book.flowBack(debit, 60_000, never);
    woken.push(number);
  });
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  here.book.report(first, 2);
  await settled();
  expect(woken).toEqual([1, 2]);
  here.book.report(second, 0);
  await settled();
  expect(woken).toEqual([1, 2]);
  here.book.report(third, 0);
  await Promise.all(waiting);
  expect(woken).toEqual([1, 2, 3, 4, 5]);
});

test('while the routes of the data plane change nothing is granted, also what is being looked up for', async () => {
  const here = world(policy());
  const asking = grant(here);
  const resume = here.checker.lessor?.pause();
  expect(await asking).toMatchObject({ kind: 'none' });
  expect(await grant(here)).toMatchObject({ kind: 'none' });
  resume?.();
  expect(await grant(here)).toMatchObject({ kind: 'lease' });
});
