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

test('the schema is JSON Schema that names the fields', async () => {
  const { code, out } = await cli(['schema']);
  expect(code).toBe(0);
  expect(JSON.parse(out)).toMatchObject({
    properties: { rules: expect.anything(), agents: expect.anything() },
  });
});
