import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { settingsSchema } from '../../config/settings.ts';
import { findEnvoy, installEnvoy, installedAt } from '../../envoy/binary.ts';
import { envoyBinary } from '../support/envoy.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tools-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const settings = (binary = '') => settingsSchema.parse({ envoy: { binary } });

function script(path: string, text: string): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${text}\n`);
  chmodSync(path, 0o755);
  return path;
}

test('the binary of the settings is found with its version', async () => {
  const path = await envoyBinary();
  expect(await findEnvoy(settings(path), dir)).toEqual({ path, version: '1.40.0' });
});

test('without a setting the installed one is found', async () => {
  script(installedAt(dir), 'echo "envoy  version: 0123abc/1.40.3/Clean/RELEASE/BoringSSL"');
  expect(await findEnvoy(settings(), dir)).toEqual({ path: installedAt(dir), version: '1.40.3' });
});

test('what is not Envoy 1.40 is said to be missing, and why', async () => {
  expect(await findEnvoy(settings(), dir)).toMatchObject({ missing: expect.stringContaining('there is no') });
  const older = script(join(dir, 'older'), 'echo "envoy  version: 0123abc/1.39.9/Clean/RELEASE/BoringSSL"');
  expect(await findEnvoy(settings(older), dir)).toMatchObject({ missing: expect.stringContaining('1.39.9') });
  const other = script(join(dir, 'other'), 'echo hello');
  expect(await findEnvoy(settings(other), dir)).toMatchObject({
    missing: expect.stringContaining('version'),
  });
  const broken = script(join(dir, 'broken'), 'echo no >&2; exit 3');
  expect(await findEnvoy(settings(broken), dir)).toMatchObject({
    missing: expect.stringContaining('does not run'),
  });
});

test('an installed one is not fetched again', async () => {
  script(installedAt(dir), 'echo');
  expect(await installEnvoy(dir, () => undefined)).toBe(installedAt(dir));
});
