import { expect, test } from 'vitest';
import { cli } from '../../support/cli.ts';

test('--help shows every command with examples and the exit statuses', async () => {
  const { code, out } = await cli(['--help']);
  expect(code).toBe(0);
  for (const word of [
    'start',
    'run',
    'check',
    'explain',
    'test',
    'holds',
    'status',
    'stop',
    'backup',
    'schema',
  ])
    expect(out).toMatch(new RegExp(`^  ${word}\\b`, 'm'));
  expect(out).toContain('Exit status');
});

test('--version prints the package’s version', async () => {
  expect(await cli(['--version'])).toMatchObject({
    code: 0,
    out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
  });
});

test.each([
  ['an unknown command', ['frobnicate']],
  ['an unknown option', ['status', '--frobnicate']],
  ['a missing argument', ['explain']],
  ['a choice that is none', ['start', '--data-plane', 'carrier-pigeon']],
])('%s ends with status 2, and with one JSON value where asked', async (_name, args) => {
  const plain = await cli(args);
  expect([plain.code, plain.out]).toEqual([2, '']);
  expect(plain.err).not.toBe('');
  const json = await cli([...args, '--json']);
  expect(json.code).toBe(2);
  expect(JSON.parse(json.out)).toMatchObject({ error: { code: 'Usage' } });
});

test.each([
  ['--port', 'abc', '--port: expected a whole number, found "abc"'],
  ['--port', '99999', '--port: expected a number of at most 65535, found 99999'],
  ['--state-dir', '', '--state-dir is empty'],
])('%s %j is told as it was typed, and with what may stand there', async (flag, value, told) => {
  const { code, err } = await cli(['start', flag, value]);
  expect([code, err.split('\n')[0]]).toEqual([2, `sallyport: ${told}`]);
});

test('a fault of the environment names its variable and keeps its value, which may be secret, to itself', async () => {
  const { code, err } = await cli(['start'], { env: { SALLYPORT_PROXY_PORT: 's3cr3t' } });
  expect(code).toBe(2);
  expect(err).toContain('environment: SALLYPORT_PROXY_PORT: expected a whole number, found other text');
});

test.each(['start', 'run', 'explain', 'holds list', 'restore'])(
  'under npm the help of %s shows what npm takes, and elsewhere what a shell takes',
  async (command) => {
    const env = { npm_package_name: 'sallyport', npm_lifecycle_event: 'start' };
    const typed = await cli([...command.split(' '), '--help'], { env });
    expect([typed.code, typed.out.split('\n')[0]]).toEqual([
      0,
      expect.stringContaining(`Usage: npm start -- ${command} [options]`),
    ]);
    expect((await cli([...command.split(' '), '--help'])).out).toContain(`Usage: sallyport ${command}`);
  },
);

test('a command that needs a sidecar says what to type where none runs', async () => {
  const env = { SALLYPORT_STATE_DIR: '/nonexistent-state', SALLYPORT_RUN_DIR: '/nonexistent-run' };
  const where = '--state-dir /nonexistent-state --run-dir /nonexistent-run`';
  expect((await cli(['status'], { env })).err).toContain(`\`sallyport start ${where}`);
  const npm = { ...env, npm_package_name: 'sallyport', npm_lifecycle_event: 'start' };
  expect((await cli(['status'], { env: npm })).err).toContain(`\`npm start -- start ${where}`);
});

test('the schema is JSON Schema that names the fields', async () => {
  const { code, out } = await cli(['schema']);
  expect(code).toBe(0);
  expect(JSON.parse(out)).toMatchObject({
    properties: { rules: expect.anything(), agents: expect.anything() },
  });
});
