/** `sallyport run`: a command as the agent. As root it runs as another user; without root it says what that means. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { cli, collect, spawnCli, until } from '../support/cli.ts';
import { agentUid, type Bench, makeBench, type Running, startRunning } from '../support/sidecar.ts';

const isRoot = process.getuid?.() === 0;
let bench: Bench;
let running: Running;
let work: string;
beforeAll(async () => {
  bench = await makeBench();
  running = await startRunning(bench);
  work = join(bench.home.dir, 'work');
});
afterAll(async () => bench.close());

const run = (...words: string[]) => bench.cli(['run', '--', ...words], { cwd: work });

describe('the exit status', () => {
  test.each([0, 1, 7, 255])('is the command’s: %i', async (code) => {
    expect(await run('sh', '-c', `exit ${code}`)).toMatchObject({ code });
  });

  test('is 128 + n where signal n ended the command', async () => {
    expect(await run('sh', '-c', 'kill -TERM $$')).toMatchObject({ code: 143 });
  });

  test('is 127 where there is no such command', async () => {
    expect(await run('no-such-command-here')).toMatchObject({
      code: 127,
      err: expect.stringContaining('no-such'),
    });
  });
});

test('standard output is the command’s alone', async () => {
  expect((await run('printf', 'a b')).out).toBe('a b');
});

test('a signal to run reaches the command', async () => {
  const child = spawnCli(
    ['run', '--', 'sh', '-c', 'trap "exit 9" USR1; echo up; while :; do sleep 0.1; done'],
    {
      cwd: work,
      env: bench.home.env,
    },
  );
  const seen = collect(child);
  await until('the command', () => (seen.out().includes('up') ? true : undefined));
  // `up` may come before the forwarder stands; a signal that came too early is sent again.
  const again = setInterval(() => child.kill('SIGUSR1'), 500);
  onTestFinished(() => clearInterval(again));
  child.kill('SIGUSR1');
  expect((await seen.ended).code).toBe(9);
});

test('curl inside goes through the proxy by its environment alone, over HTTP and HTTPS', async () => {
  const { code, out } = await run(
    'sh',
    '-c',
    `curl -sS ${bench.plain}/hello; curl -sS ${bench.secure}/hello`,
  );
  expect(code).toBe(0);
  expect(out.match(/hello/gi)?.length).toBeGreaterThanOrEqual(2);
});

test('the environment holds the CA variables and none of the sidecar’s', async () => {
  const { out } = await run('env');
  expect(out).toContain(`HTTPS_PROXY=${running.status.data_plane.proxy}`);
  expect(out).toContain(`SSL_CERT_FILE=${running.status.ca.bundle}`);
  expect(out).toMatch(/^NO_PROXY=$/m);
  expect(out).not.toMatch(/^SALLYPORT_/m);
});

test('the agent is known by its Unix user, and is another one than the sidecar’s where root runs it', async () => {
  await run('curl', '-sS', `${bench.plain}/hello`);
  const { out } = await bench.cli(['decisions', '--limit', '1', '--json']);
  const { decisions } = JSON.parse(out) as { decisions: { agent: string }[] };
  expect(decisions[0]?.agent).toBe(`spiffe://sallyport.test/agent/${isRoot ? 'confined' : 'tester'}`);
});

test('as root the command is confined; without root it is said that it is not', async () => {
  const { out, err } = await run(
    'sh',
    '-c',
    'id -u; cat /proc/self/status; echo "home $HOME"; : > "$TMPDIR/x" && echo wrote',
  );
  if (!isRoot) {
    expect(err).toContain('not confined');
    return;
  }
  expect(out).toMatch(new RegExp(`^${agentUid}$`, 'm'));
  expect(out).toMatch(/^NoNewPrivs:\s1$/m);
  expect(out).toMatch(/^CapBnd:\s0+$/m);
  expect(out).toMatch(/^CapEff:\s0+$/m);
  expect(out).toContain(`home ${running.status.state_dir}.agent/${agentUid}`);
  expect(out).toContain('wrote');
  expect(err).not.toContain('not confined');
});

test('the agent’s user cannot open the admin socket, read the token or the state', async () => {
  const script = [
    `curl -sS --noproxy '*' --unix-socket ${running.status.admin.socket} http://localhost/v1/status; echo "socket $?"`,
    `cat ${join(running.status.state_dir, 'admin.token')} ${join(running.status.state_dir, 'holds.db')}; echo "state $?"`,
  ].join('\n');
  const { out, err } = await run('sh', '-c', script);
  // Without root there is no other user to shut out, and `run` says so.
  expect(out.includes('socket 7') && out.includes('state 1')).toBe(isRoot);
  expect(err.includes('not confined')).toBe(!isRoot);
});

test('a flag that the running sidecar does not fulfil is refused, and no command is run', async () => {
  const tried = async (...flags: string[]) => {
    const { code, out, err } = await bench.cli(['run', ...flags, '--', 'echo', 'ran'], { cwd: work });
    return { code, out, err: err.split('\n').filter((line) => line.includes('that runs here has')) };
  };
  const other = join(work, 'other.yaml');
  const { port } = new URL(running.status.data_plane.proxy);
  const flags = ['--policy', other, '--port', '1', '--data-plane', 'envoy'];
  expect(await tried(...flags)).toEqual({
    code: 2,
    out: '',
    err: [
      `sallyport: --policy ${other}: the sidecar that runs here has ${bench.policyFile}`,
      `--port 1: the sidecar that runs here has ${port}`,
      '--data-plane envoy: the sidecar that runs here has embedded',
    ],
  });
  const same = ['--policy', bench.policyFile, '--port', port, '--data-plane', 'embedded'];
  expect(await tried(...same)).toEqual({ code: 0, out: 'ran\n', err: [] });
  expect(await tried('--port', '0', '--data-plane', 'auto')).toMatchObject({ code: 0 });
});

test('a working directory that the agent cannot enter is refused with what to do', async () => {
  const closed = running.status.state_dir;
  const { code, err } = await bench.cli(['run', '--', 'true'], { cwd: closed });
  expect(code).toBe(isRoot ? 126 : 0);
  expect(err.includes(`${closed} (mode 0700) is closed to user ${agentUid}`)).toBe(isRoot);
});

test('an agent user that is the sidecar’s, Envoy’s or Istio’s is refused', async () => {
  for (const user of isRoot ? ['0', '20202', '1337'] : ['20202', '1337'])
    expect(
      await bench.cli(['run', '--', 'true'], { cwd: work, env: { SALLYPORT_AGENT_USER: user } }),
    ).toMatchObject({ code: 2 });
});

test('without a running sidecar, one runs for the duration of the command and nothing is left after', async () => {
  const other = await makeBench();
  try {
    const { code, out } = await cli(['run', '--quiet', '--', 'curl', '-sS', `${other.plain}/hello`], {
      cwd: join(other.home.dir, 'work'),
      env: other.home.env,
    });
    expect([code, out]).toEqual([0, expect.stringMatching(/hello/i)]);
    expect(await other.cli(['stop'])).toMatchObject({ out: 'nothing runs here\n' });
  } finally {
    await other.close();
  }
});
