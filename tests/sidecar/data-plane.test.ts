/** Why Envoy is not taken is found before it is fetched, and told as it is. */
import { chmodSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cli, type Home, makeHome } from '../support/cli.ts';

const isRoot = process.getuid?.() === 0;
const lowest = Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'utf8'));
let home: Home;
beforeEach(() => {
  home = makeHome({ SALLYPORT_DATA_PLANE: 'envoy' });
});
afterEach(() => home.remove());

// Where users may listen on any port there is nothing to tell.
test.skipIf(lowest < 81)('a port that Envoy’s user may not listen on', async () => {
  const { code, err } = await cli(['start', '--port', '80', '--no-demo'], { env: home.env });
  expect(code).toBe(1);
  expect(err).toContain('proxy.port (--port) is 80: Envoy runs as user');
  expect(err).toContain(`which may listen on ${lowest} and above only`);
  expect(err).not.toContain('fetching');
});

test.runIf(isRoot)('a state directory that Envoy’s user cannot reach', async () => {
  const closed = join(home.dir, 'closed');
  mkdirSync(closed);
  chmodSync(closed, 0o700);
  const env = { ...home.env, SALLYPORT_STATE_DIR: join(closed, 'state') };
  const { code, err } = await cli(['start', '--no-demo'], { env });
  expect([code, err]).toEqual([1, expect.stringContaining(`cannot enter ${closed} on the way to`)]);
  expect(err).not.toContain('fetching');
});

test.runIf(isRoot)('an Envoy user that is root', async () => {
  const env = { ...home.env, SALLYPORT_AGENT_ENVOY_USER: '0' };
  const { code, err } = await cli(['start', '--no-demo'], { env });
  expect([code, err]).toEqual([
    1,
    expect.stringContaining('agent.envoy_user is 0: Envoy does not run as root'),
  ]);
});
