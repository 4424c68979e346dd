import { expect, test } from 'vitest';
import { settingsSchema } from '../../config/settings.ts';
import { createOwnPorts } from '../../sidecar/own-ports.ts';

test('wanted ports count until every listener has told its own; then another process may have them', () => {
  const ports = createOwnPorts(settingsSchema.parse({ proxy: { port: 10_080 }, admin: { port: null } }));
  expect(ports.has(10_080)).toBe(true);
  ports.add(['http://127.0.0.1:10081', 'https://[::1]:10443', undefined, '127.0.0.1:9001', 'unix:/run/x:80']);
  for (const port of [10_081, 10_443, 9_001]) expect(ports.has(port), String(port)).toBe(true);
  ports.settle();
  expect([ports.has(10_080), ports.has(10_081), ports.has(80)]).toEqual([false, true, false]);
});
