import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { agentEnvironment } from '../../../sidecar/cli/agent-env.ts';
import { agentHome, agentUser } from '../../../sidecar/cli/agent-user.ts';
import { closedDirectory, findProgram } from '../../../sidecar/cli/reach.ts';

const stranger = { name: '20201', uid: 20_201, gid: 20_201 };
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sp-agent-'));
  chmodSync(dir, 0o755);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('the environment of an agent', () => {
  const status = {
    data_plane: { kind: 'embedded', reason: '', proxy: 'http://127.0.0.1:10080', proxy_tls: undefined },
    ca: { file: '/run/s/ca.pem', bundle: '/run/s/ca-bundle.pem', dir: '/run/s/certs' },
  } as const;

  test('sends every program that reads a proxy variable through the proxy, with no exceptions', () => {
    const env = agentEnvironment(status, {
      NO_PROXY: '*',
      no_proxy: 'a.test',
      https_proxy: 'http://other:1',
    });
    for (const name of ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'http_proxy', 'https_proxy', 'all_proxy'])
      expect(env[name]).toBe('http://127.0.0.1:10080');
    expect([env['NO_PROXY'], env['no_proxy']]).toEqual(['', '']);
    expect(env['NODE_USE_ENV_PROXY']).toBe('1');
  });

  test('gives our authority beside the system’s where a variable replaces the list, alone where it adds', () => {
    const env = agentEnvironment(status, {});
    expect(env['NODE_EXTRA_CA_CERTS']).toBe('/run/s/ca.pem');
    for (const name of [
      'SSL_CERT_FILE',
      'CURL_CA_BUNDLE',
      'REQUESTS_CA_BUNDLE',
      'PIP_CERT',
      'GIT_SSL_CAINFO',
    ])
      expect(env[name]).toBe('/run/s/ca-bundle.pem');
  });

  test('holds nothing of the sidecar’s own settings', () => {
    const env = agentEnvironment(status, {
      SALLYPORT_STATE_DIR: '/x',
      SALLYPORT_TOKEN: 't',
      OPENAI_API_KEY: 'k',
    });
    expect(Object.keys(env).filter((name) => name.startsWith('SALLYPORT_'))).toEqual([]);
    expect(env['OPENAI_API_KEY']).toBe('k');
  });

  test('holds nothing of the npm that started the sidecar: its configuration has registry tokens and proxies', () => {
    const env = agentEnvironment(status, {
      npm_config_registry: 'https://user:token@registry.test/',
      'npm_config_//registry.test/:_authToken': 't',
      NPM_CONFIG_HTTPS_PROXY: 'http://other:1',
      npm_lifecycle_event: 'start',
      npm_package_name: 'sallyport',
      INIT_CWD: '/root',
      PATH: '/usr/bin',
    });
    expect(Object.keys(env).filter((name) => /npm|INIT_CWD/i.test(name))).toEqual([]);
    expect(env['PATH']).toBe('/usr/bin');
  });
});

describe('the agent’s user', () => {
  const settings = { user: '20201', envoy_user: '20202' };
  test('may be a number that no user has', () => {
    expect(agentUser(settings, 0)).toEqual(stranger);
  });
  test.each([
    ['the sidecar’s own', { ...settings, user: '20205' }, 20_205, 'approve its own holds'],
    ['Envoy’s', { ...settings, user: '20202' }, 0, 'steer it'],
    ['Istio’s 1337', { ...settings, user: '1337' }, 0, 'Istio'],
    ['root', { ...settings, user: 'root' }, 20_205, 'root'],
    ['nobody at all', { ...settings, user: 'no-such-user-here' }, 0, 'there is no user'],
  ])('may not be %s', (_name, given, ownUid, why) => {
    expect(() => agentUser(given, ownUid)).toThrow(why);
  });
});

describe('what another user can reach', () => {
  test('a directory of mode 0700 on the way is named', () => {
    const inside = join(dir, 'closed', 'inside');
    mkdirSync(inside, { recursive: true });
    chmodSync(join(dir, 'closed'), 0o700);
    expect(closedDirectory(inside, stranger)).toBe(
      `${join(dir, 'closed')} (mode 0700) is closed to user 20201`,
    );
    expect(closedDirectory(dir, stranger)).toBeUndefined();
  });

  test('a program behind a closed directory is passed over for one that may be run', () => {
    for (const place of ['closed', 'open']) {
      mkdirSync(join(dir, place));
      writeFileSync(join(dir, place, 'tool'), '', { mode: 0o755 });
    }
    chmodSync(join(dir, 'closed'), 0o700);
    const search = `${join(dir, 'closed')}:${join(dir, 'open')}`;
    expect(findProgram('tool', search, dir, stranger)).toEqual({
      kind: 'found',
      file: join(dir, 'open', 'tool'),
    });
    expect(findProgram('tool', join(dir, 'closed'), dir, stranger)).toMatchObject({ kind: 'closed' });
    expect(findProgram('none', search, dir, stranger)).toEqual({ kind: 'missing' });
  });

  test('a link counts as what it leads to', () => {
    mkdirSync(join(dir, 'closed'));
    writeFileSync(join(dir, 'closed', 'tool'), '', { mode: 0o755 });
    symlinkSync(join(dir, 'closed', 'tool'), join(dir, 'tool'));
    chmodSync(join(dir, 'closed'), 0o700);
    expect(findProgram('./tool', '', dir, stranger)).toMatchObject({ kind: 'closed' });
  });
});

test('the agent’s home is its own, beside the state directory', () => {
  const root = process.getuid?.() === 0;
  const user = root ? stranger : { name: 'me', uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const made = agentHome(join(dir, 'state'), user);
  for (const place of [made.home, made.tmp]) {
    const found = statSync(place);
    expect([found.uid, found.gid, found.mode & 0o777]).toEqual([user.uid, user.gid, 0o700]);
    expect(place.startsWith(join(dir, 'state/'))).toBe(false);
  }
  expect(agentHome(join(dir, 'state'), user)).toEqual(made);
});
