import { expect, test } from 'vitest';
import { createIds } from '../../filters/common/ids.ts';
import { commandLineTo } from '../../sidecar/invocation.ts';
import { createMetrics } from '../../sidecar/metrics.ts';
import { openState, type State } from '../../sidecar/state.ts';
import { compiled } from '../ext-authz/check-world.ts';
import { silent } from '../ext-authz/support.ts';
import { movingClock } from '../support/moving-clock.ts';
import { digestOf, someHold } from '../support/some-hold.ts';
import { temporaryDirectory } from '../support/temporary.ts';

test('what becomes of holds while a sidecar starts is in the journal, as all of their transitions are', async () => {
  const stateDir = temporaryDirectory();
  const clock = movingClock();
  const policy = compiled(`
version: 1
approvers: { ${someHold().approvers}: { members: [dana] } }
rules: []
`);
  const open = (): State =>
    openState(stateDir, {
      ...{ clock, ids: createIds(clock), log: silent, metrics: createMetrics() },
      policy: { current: () => policy },
      locksOnIncident: false,
      commandLine: commandLineTo(''),
    });
  const first = open();
  const released = first.holds.open(someHold());
  first.holds.approve(released.id, 'dana', '');
  first.holds.consume(released.id);
  const waiting = first.holds.open(someHold({ digest: digestOf('e') }));
  await first.close();
  clock.pass(60_000);
  const second = open();
  const states = (id: string): unknown[] =>
    second.journal
      .tail(20)
      .flatMap((record) => (record.type === 'hold' && record.id === id ? record.state : []));
  expect(states(released.id).toSorted()).toEqual(['Approved', 'Pending', 'Released', 'Unknown']);
  expect(states(waiting.id).toSorted()).toEqual(['Pending', 'TimedOut']);
  await second.close();
});
