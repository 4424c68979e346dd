import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { askHealth, diskProbe, type Probe } from '../../sidecar/health.ts';

const part = (name: string, status: 'Healthy' | 'Degraded' | 'Unhealthy'): Probe => ({
  name,
  ask: () => ({ status, detail: '' }),
});

test('the worst part is the health of the whole', async () => {
  expect((await askHealth([part('a', 'Healthy'), part('b', 'Healthy')])).status).toBe('Healthy');
  expect((await askHealth([part('a', 'Degraded'), part('b', 'Healthy')])).status).toBe('Degraded');
  expect((await askHealth([part('a', 'Degraded'), part('b', 'Unhealthy')])).status).toBe('Unhealthy');
});

test('a part that fails is Unhealthy with its words, and the others still answer', async () => {
  const health = await askHealth([
    part('a', 'Healthy'),
    { name: 'b', ask: () => Promise.reject(new Error('gone')) },
    {
      name: 'c',
      ask: () => {
        throw new Error('broken');
      },
    },
  ]);
  expect(health.status).toBe('Unhealthy');
  expect(health.parts.map(({ status, detail }) => `${status} ${detail}`)).toEqual([
    'Healthy ',
    'Unhealthy gone',
    'Unhealthy broken',
  ]);
});

test('a part that does not answer in time is Unhealthy', async () => {
  const health = await askHealth([{ name: 'stuck', ask: () => new Promise(() => undefined) }]);
  expect(health.parts[0]).toMatchObject({ name: 'stuck', status: 'Unhealthy' });
});

test('free space of a real disk is told', async () => {
  expect((await diskProbe(tmpdir())).detail).toMatch(/MiB/);
});
