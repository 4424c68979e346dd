import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { limits } from '../../config/limits.ts';
import { formatIssue } from '../../config/policy/issue.ts';
import { otherVariables, settingLeaves } from '../../config/settings-environment.ts';
import { decodeSettings, type LoadOptions, loadSettings } from '../../config/settings-load.ts';
import { fuzzRuns } from '../support/fuzz.ts';

let folder = '';
let options: LoadOptions;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-settings-'));
  mkdirSync(join(folder, 'etc'));
  options = { env: {}, isRoot: false, home: '/home/dana', cwd: folder, systemDir: join(folder, 'etc') };
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

type Loaded = ReturnType<typeof loadSettings>;
const loaded = (result: Loaded) => {
  if (!result.ok) throw new Error(result.issues.map(formatIssue).join('\n'));
  return result.value;
};
const issuesOf = (result: Loaded): string[] => (result.ok ? [] : result.issues.map(formatIssue));
const decode = (text: string, file: string, env: Record<string, string> = {}) =>
  decodeSettings(text, file, { ...options, env });

test('without file and environment every setting is its default, with real directories', () => {
  const { settings, files, sources } = loaded(loadSettings(options));
  expect(files).toEqual([]);
  expect(settings.proxy.port).toBe(10_080);
  expect(settings.state_dir).toBe('/home/dana/.local/state/sallyport');
  expect(settings.run_dir).toBe('/home/dana/.local/state/sallyport/run');
  expect(new Set(Object.values(sources))).toEqual(new Set(['default']));
  const root = loaded(loadSettings({ ...options, isRoot: true })).settings;
  expect([root.state_dir, root.run_dir]).toEqual(['/var/lib/sallyport', '/run/sallyport']);
});

test('the seeds’ defaults hold under our names', () => {
  const { settings } = loaded(loadSettings(options));
  expect({
    quota: settings.quota,
    timeout: settings.oversight.timeout_ms,
    messaging: settings.messaging,
    runtime: settings.runtime,
  }).toEqual({
    quota: { cache_ttl_ms: 60_000, aggregation_interval_ms: 300_000 },
    timeout: 3_600_000,
    messaging: { message_bytes_max: 1_048_576, delivery_timeout_ms: 30_000 },
    runtime: { warm_pool_min: 10, warm_pool_max: 100 },
  });
});

test('the environment wins over the file and the file over the default', () => {
  writeFileSync(join(folder, 'sallyport.toml'), 'policy = "p.yaml"\n[proxy]\nport = 1\nhost = "::1"\n');
  const { settings, files, sources } = loaded(
    loadSettings({ ...options, env: { SALLYPORT_PROXY_PORT: '2' } }),
  );
  expect(settings.proxy).toMatchObject({ port: 2, host: '::1', tls_port: null });
  expect(files).toEqual([join(folder, 'sallyport.toml')]);
  expect([
    sources['proxy.port'],
    sources['proxy.host'],
    sources['proxy.tls_port'],
    sources['policy'],
  ]).toEqual(['environment', 'file', 'default', 'file']);
});

test('the file is the one that is said, then SALLYPORT_CONFIG, then ./, then the system’s', () => {
  const write = (name: string, port: number) => {
    const file = join(folder, name);
    writeFileSync(file, name.endsWith('.toml') ? `[proxy]\nport = ${port}\n` : `proxy: { port: ${port} }\n`);
    return file;
  };
  const port = (more: Partial<LoadOptions>) =>
    loaded(loadSettings({ ...options, ...more })).settings.proxy.port;
  write('etc/sallyport.yaml', 4);
  expect(port({})).toBe(4);
  write('sallyport.toml', 3);
  expect(port({})).toBe(3);
  const env = { SALLYPORT_CONFIG: write('two.yaml', 2) };
  expect(port({ env })).toBe(2);
  write('one.toml', 1);
  expect(port({ env, file: 'one.toml' })).toBe(1);
});

test('TOML and YAML in one place is an error that names both', () => {
  writeFileSync(join(folder, 'sallyport.toml'), '');
  writeFileSync(join(folder, 'sallyport.yaml'), '');
  const [issue] = issuesOf(loadSettings(options));
  expect(issue).toContain('sallyport.toml');
  expect(issue).toContain('sallyport.yaml');
});

test('a file that is said has to be there and to be of a known kind', () => {
  expect(issuesOf(loadSettings({ ...options, file: 'no.yaml' }))).toEqual([
    'no.yaml: cannot read it: there is no such file',
  ]);
  expect(issuesOf(loadSettings({ ...options, env: { SALLYPORT_CONFIG: 'x.json' } }))).toEqual([
    'x.json: expected a name that ends in .toml, .yaml, .yml',
  ]);
});

test('every fault of file and environment is told at once', () => {
  const yaml = `proxy:\n  port: 70000\n  prot: 1\nlog: { level: inf }\npolicy: \${NO}\n`;
  expect(issuesOf(decode(yaml, 's.yaml', { SALLYPORT_DEMO: 'yes', SALLYPORT_ADMIN_PROT: '1' }))).toEqual([
    'environment: SALLYPORT_ADMIN_PROT: there is no such setting; did you mean "SALLYPORT_ADMIN_PORT"?',
    'environment: SALLYPORT_DEMO: expected true or false, found other text',
    's.yaml:2:9: proxy.port: expected a number of at most 65535, found 70000',
    's.yaml:3:3: proxy.prot: unknown key; known here: host, port, tls_port, connections_max, tunnel_duration_ms_max; did you mean "port"?',
    's.yaml:4:15: log.level: expected one of "fatal", "error", "warn", "info", "debug", "trace", found "inf"; did you mean "info"?',
    's.yaml:5:9: policy: the variable NO is not set',
  ]);
});

test('faults of a TOML file have the line of their key', () => {
  const toml =
    'demo = "x"\n\n[proxy]\n  port = -1\n[log]\nlevel = 1979-05-27\n[resolver.hosts]\n"a.test" = "b"\n[nothing]\n';
  expect(issuesOf(decode(toml, 's.toml'))).toEqual([
    's.toml:1:1: demo: expected true or false, found "x"',
    's.toml:4:3: proxy.port: expected a number of at least 0, found -1',
    's.toml:6:1: log.level: expected one of "fatal", "error", "warn", "info", "debug", "trace", found a date',
    expect.stringContaining('s.toml:9:1: nothing: unknown key'),
  ]);
  expect(issuesOf(decode('a = [\n', 's.toml'))[0]).toMatch(/^s\.toml:\d+:\d+: not valid TOML/);
});

test('variables stand for text, numbers and switches, and $${ for itself', () => {
  const yaml = `policy: "\${DIR}/$\${x}.yaml"\nproxy: { port: "\${PORT}" }\ndemo: \${ON}\n`;
  const { settings } = loaded(decode(yaml, 's.yaml', { DIR: '/etc', PORT: '81', ON: 'true' }));
  expect([settings.policy, settings.proxy.port, settings.demo]).toEqual([`/etc/\${x}.yaml`, 81, true]);
});

test('what came from a variable is not repeated in an error', () => {
  const found = issuesOf(
    decode(`log: { level: "\${SECRET}" }\n`, 's.yaml', {
      SECRET: 'hunter2',
      SALLYPORT_DATA_PLANE: 'hunter2',
    }),
  );
  expect(found).toHaveLength(2);
  expect(found.join('\n')).not.toContain('hunter2');
});

test('variables that multiply past the limit are refused', () => {
  const env = { BIG: 'x'.repeat(100_000) };
  const lines = Array.from({ length: 20 }, (_, index) => `  h${index}: "\${BIG}"`);
  const found = issuesOf(decode(`resolver:\n hosts:\n${lines.join('\n')}\n`, 's.yaml', env));
  expect(found.join('\n')).toContain(`more than ${limits.settingsBytesMax} characters`);
});

test('the environment gives lists with commas or as JSON, records as JSON, and null', () => {
  const env = {
    SALLYPORT_UPSTREAM_CA_FILES: 'a.pem, b.pem',
    SALLYPORT_RESOLVER_SERVERS: '["192.0.2.1","[2001:db8::1]:53"]',
    SALLYPORT_RESOLVER_HOSTS: '{"a.test":["192.0.2.7"]}',
    SALLYPORT_PROXY_TLS_PORT: 'null',
    SALLYPORT_DEMO: '1',
  };
  const { settings } = loaded(loadSettings({ ...options, env }));
  expect(settings.upstream.ca_files).toEqual(['a.pem', 'b.pem']);
  expect(settings.resolver).toMatchObject({
    servers: ['192.0.2.1', '[2001:db8::1]:53'],
    hosts: { 'a.test': ['192.0.2.7'] },
  });
  expect([settings.proxy.tls_port, settings.demo]).toEqual([null, true]);
});

test('variables that Kubernetes makes for a Service of our name are passed over', () => {
  const env = {
    SALLYPORT_SERVICE_HOST: '10.0.0.1',
    SALLYPORT_SERVICE_PORT_PROXY: '10080',
    SALLYPORT_PORT: 'tcp://10.0.0.1:10080',
    SALLYPORT_PORT_10080_TCP_ADDR: '10.0.0.1',
    SALLYPORT_PROXY_PORT: 'tcp://10.0.0.1:10080',
    SALLYPORT_TOKEN: 'x',
  };
  expect(loaded(loadSettings({ ...options, env })).settings.proxy.port).toBe(10_080);
});

test('each setting has one variable of its own, and each can be set by it', () => {
  const variables = settingLeaves.map((leaf) => leaf.variable);
  expect(new Set([...variables, ...otherVariables]).size).toBe(variables.length + otherVariables.length);
  const { settings } = loaded(loadSettings(options));
  for (const { path, variable } of settingLeaves) {
    const value = path.reduce<unknown>((section, key) => Reflect.get(Object(section), key), settings);
    const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
    const { sources } = loaded(loadSettings({ ...options, env: { [variable]: text } }));
    expect(sources[path.join('.')]).toBe('environment');
  }
});

test('settings that contradict each other are told with the one to change', () => {
  const yaml = `agent: { user: "7", envoy_user: "7" }
proxy: { port: 81, tls_port: 81 }
runtime: { warm_pool_min: 200 }
audit: { retention_days: 30, tiles_days: 29, content_hours_min: 721 }
resolver: { hosts: { a.test: elsewhere }, servers: ["x:y"] }
run_dir: /${'x'.repeat(limits.runDirBytesMax)}
`;
  expect(issuesOf(decode(yaml, 's.yaml')).map((line) => line.split(': ')[1])).toEqual([
    'agent.user',
    'proxy.tls_port',
    'proxy.tls_port',
    'runtime.warm_pool_min',
    'audit.tiles_days',
    'audit.content_hours_min',
    'resolver.hosts.a.test',
    'resolver.servers[0]',
    'run_dir',
  ]);
  expect(issuesOf(decode('agent: { envoy_user: "1337" }\n', 's.yaml'))).toHaveLength(1);
  expect(issuesOf(loadSettings({ ...options, home: '' }))).toEqual([
    'default: state_dir: needed, as the user has no home directory',
  ]);
});

test('__proto__ in a settings file is an unknown key, and changes nothing', () => {
  for (const [text, file] of [
    ['__proto__: { demo: true }\n', 's.yaml'],
    ['[__proto__]\ndemo = true\n', 's.toml'],
    ['[resolver.hosts.__proto__]\ndemo = true\n', 's.toml'],
  ] as const)
    expect(issuesOf(decode(text, file)).length).toBeGreaterThan(0);
  expect(Reflect.get({}, 'demo')).toBeUndefined();
});

const settled = (result: Loaded): boolean =>
  result.ok || (result.issues.length > 0 && result.issues.every((issue) => issue.message !== ''));

const pieces = [
  'proxy',
  'port',
  '[',
  ']',
  '[[',
  ']]',
  '=',
  ' = ',
  '"',
  '"""',
  "'''",
  '{',
  '}',
  ',',
  '.',
  '\n',
  '\\u0000',
  '\\U00110000',
  '1979-05-27',
  '0x',
  '1e9',
  'inf',
  'true',
  '${',
  `\${A}`,
  '$${',
  '#',
  'demo',
  ':',
  '- ',
  '&a',
  '*a',
  '__proto__',
  '1_0',
];
test('any arrangement of pieces, as TOML and as YAML, gives settings or issues', () => {
  const text = fc.oneof(
    fc.array(fc.constantFrom(...pieces), { maxLength: 50 }).map((parts) => parts.join('')),
    fc.string({ unit: 'binary', maxLength: 300 }),
  );
  fc.assert(
    fc.property(text, fc.constantFrom('s.toml', 's.yaml'), (source, file) =>
      settled(decode(source, file, { A: '1' })),
    ),
    fuzzRuns,
  );
});

test('any environment gives settings or issues', () => {
  const name = fc.oneof(
    fc.constantFrom(...settingLeaves.map((leaf) => leaf.variable)),
    fc.string({ maxLength: 20 }).map((rest) => `SALLYPORT_${rest}`),
  );
  const text = fc.oneof(fc.string({ maxLength: 50 }), fc.json({ maxDepth: 3 }));
  fc.assert(
    fc.property(fc.dictionary(name, text), (env) =>
      settled(loadSettings({ ...options, env: { ...env, SALLYPORT_CONFIG: undefined } })),
    ),
    fuzzRuns,
  );
});
