import { pino } from 'pino';
import { afterEach, expect, test, vi } from 'vitest';
import { limits } from '../../config/limits.ts';
import type { Sidecar } from '../../sidecar/sidecar.ts';
import { createAsking, type SuperviseOptions, supervise } from '../../sidecar/supervise.ts';

const events = ['SIGTERM', 'SIGINT', 'SIGHUP', 'uncaughtException', 'unhandledRejection'] as const;
const before = new Map(events.map((name) => [name, process.rawListeners(name)]));

/** Signals are emitted, not sent: they would end the test's own process. */
function started(options: Partial<SuperviseOptions> = {}) {
  const supervised = supervise({
    log: pino({ level: 'silent' }),
    hasTerminal: false,
    killOthers: async () => undefined,
    ...options,
  });
  const reload = vi.fn(async () => true);
  // Only `reload` is asked of it here.
  supervised.attach({ reload } as unknown as Sidecar);
  return { supervised, reload };
}
afterEach(() => {
  for (const name of events)
    for (const listener of process.rawListeners(name))
      if (before.get(name)?.includes(listener) === false)
        process.removeListener(name, listener as NodeJS.SignalsListener);
  vi.restoreAllMocks();
});

test.each(['SIGTERM', 'SIGINT'] as const)('%s asks for the end, with status 0', async (name) => {
  const { supervised } = started();
  expect(supervised.isEnding()).toBe(false);
  process.emit(name, name);
  expect([await supervised.ended, supervised.isEnding()]).toEqual([0, true]);
});

test('SIGHUP reads the policy again, and where a terminal closed it ends what the terminal showed', async () => {
  const without = started();
  process.emit('SIGHUP', 'SIGHUP');
  expect([without.reload.mock.calls.length, without.supervised.isEnding()]).toEqual([1, false]);
  const within = started({ hasTerminal: true });
  process.emit('SIGHUP', 'SIGHUP');
  expect(within.reload).not.toHaveBeenCalled();
  expect(await within.supervised.ended).toBe(0);
});

test('one Ctrl-C that comes several times is one asking; a later one is somebody who will not wait', () => {
  let nowMs = 50;
  const asked = createAsking(() => nowMs);
  expect([asked(), asked()]).toEqual(['stop', 'same']);
  nowMs += limits.signalRepeatMs - 1;
  expect(asked()).toBe('same');
  nowMs += 1;
  expect(asked()).toBe('at once');
});

test('who will not wait ends everything that was started, and then the process', async () => {
  let nowMs = 0;
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
  const left = Promise.withResolvers<unknown>();
  vi.spyOn(process, 'exit').mockImplementation((code) => {
    left.resolve(code);
    return undefined as never;
  });
  const killOthers = vi.fn(async () => undefined);
  started({ killOthers });
  process.emit('SIGINT', 'SIGINT');
  process.emit('SIGINT', 'SIGINT');
  expect(killOthers).not.toHaveBeenCalled();
  nowMs = limits.signalRepeatMs;
  process.emit('SIGINT', 'SIGINT');
  expect(await left.promise).toBe(130);
  expect(killOthers).toHaveBeenCalledOnce();
});
