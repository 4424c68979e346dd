import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { startDemo } from '../../../sidecar/cli/demo.ts';
import { isRunning } from '../../../sidecar/run-file.ts';

let blocker: Server | undefined;
const dir = mkdtempSync(join(tmpdir(), 'sp-demo-'));
afterEach(() => {
  blocker?.close();
  rmSync(dir, { recursive: true, force: true });
});

test('the example upstreams answer, move off a port in use and say so, and end when told', async () => {
  blocker = createServer();
  // Somebody has the port: this test, or whoever runs a demo on this machine.
  await new Promise<void>((resolve) => {
    blocker?.once('error', () => resolve());
    blocker?.listen(10_090, '127.0.0.1', () => resolve());
  });
  const demo = await startDemo(join(dir, 'ca'));
  try {
    expect(demo.http).not.toBe(10_090);
    expect(demo.moved.join('\n')).toContain(
      `port 10090 is in use; the example’s HTTP upstream took ${demo.http}`,
    );
    expect((await fetch(`http://127.0.0.1:${demo.http}/hello`)).status).toBe(200);
    expect(isRunning(demo.ref)).toBe(true);
  } finally {
    await demo.stop();
  }
  expect(isRunning(demo.ref)).toBe(false);
});
