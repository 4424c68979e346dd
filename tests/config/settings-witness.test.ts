import { expect, test } from 'vitest';
import { formatIssue } from '../../config/policy/issue.ts';
import { decodeSettings } from '../../config/settings-load.ts';
import { listenAddress } from '../../config/settings-witness.ts';

const vkey = 'example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k';
const log = `{ origin: example.com/foo, vkeys: ["${vkey}"] }`;
const asked = (fields: string): string => `{ vkeys: ["${vkey}"], ${fields} }`;

const read = (text: string): string => {
  const options = { env: {}, isRoot: false, home: '/home/x', cwd: '/work' };
  const result = decodeSettings(text, 'sallyport.yaml', options);
  return result.ok ? 'ok' : result.issues.map(formatIssue).join('\n');
};

test.each([
  ['192.0.2.1:10085', { host: '192.0.2.1', port: 10_085 }],
  ['[2001:db8::1]:0', { host: '2001:db8::1', port: 0 }],
  ['0.0.0.0:65535', { host: '0.0.0.0', port: 65_535 }],
  ['192.0.2.1', undefined],
  ['192.0.2.1:65536', undefined],
  ['witness.example:1', undefined],
  ['2001:db8::1:80', undefined],
  ['[192.0.2.1]:80', undefined],
  ['', undefined],
])('%s is an address to listen on or not', (text, expected) => {
  expect(listenAddress(text)).toEqual(expected);
});

test.each([
  `witness: { listen: "127.0.0.1:0", logs: [${log}] }`,
  `witness: { listen: "[::1]:0", logs: [${log}] }`,
  `witness: { listen: "192.0.2.1:10085", logs: [${log}], token_file: /t, cert_file: /c, key_file: /k }`,
  `witness: { listen: "192.0.2.1:10085", logs: [${log}], client_ca_file: /a, cert_file: /c, key_file: /k }`,
  `witness: { listen: "127.0.0.1:0", logs: [${log}], token_file: /t }`,
  `witness: { listen: "192.0.2.1:1", logs: [${log}], token_file: /t, cert_file: /c, key_file: /k, client_ca_file: /a }`,
  `audit: { witnesses: [${asked('url: "https://w.example/base", token_file: /t')}], witness_quorum: 1 }`,
  `audit: { witnesses: [${asked('url: "http://127.0.0.1:1", token_file: /t')}] }`,
  `audit: { witnesses: [${asked('url: "http://[::1]:1", token_file: /t')}] }`,
  'keys: { kek_command: [vault, read] }',
])('%s is valid', (text) => {
  expect(read(text)).toBe('ok');
});

test.each([
  [`witness: { listen: here, logs: [${log}] }`, 'witness.listen', 'address:port'],
  ['witness: { listen: "127.0.0.1:0" }', 'witness.logs', 'at least one log'],
  [`witness: { logs: [${log}, ${log}] }`, 'witness.logs[1].origin', 'twice'],
  ['witness: { logs: [{ origin: a, vkeys: [nonsense] }] }', 'witness.logs[0].vkeys[0]', 'name+id+key'],
  ['witness: { logs: [{ origin: a, vkeys: [] }] }', 'witness.logs[0].vkeys', ''],
  ['witness: { cert_file: /c }', 'witness.key_file', 'needs `witness.cert_file`'],
  ['witness: { client_ca_file: /c }', 'witness.client_ca_file', 'in TLS only'],
  [
    `witness: { listen: "192.0.2.1:1", logs: [${log}], token_file: /t }`,
    'witness.token_file',
    'except over loopback',
  ],
  ...['192.0.2.1:1', '0.0.0.0:1', '[::]:1', '[::ffff:127.0.0.1]:1'].map((listen) => [
    `witness: { listen: "${listen}", logs: [${log}], cert_file: /c, key_file: /k }`,
    'witness.client_ca_file',
    'or `witness.token_file`',
  ]),
  ['witness: { name: "two words" }', 'witness.name', ''],
  ['audit: { witness_quorum: 1 }', 'audit.witness_quorum', 'at most the number'],
  [`audit: { witnesses: [${asked('url: "ftp://w.example"')}] }`, 'audit.witnesses[0].url', 'http or https'],
  [
    `audit: { witnesses: [${asked('url: "https://u:p@w.example"')}] }`,
    'audit.witnesses[0].url',
    'credentials',
  ],
  [
    `audit: { witnesses: [${asked('url: "https://w.example"')}, ${asked('url: "https://w.example"')}] }`,
    'audit.witnesses[1].url',
    'twice',
  ],
  [
    `audit: { witnesses: [${asked('url: "http://w.example", token_file: /t')}] }`,
    'audit.witnesses[0].token_file',
    'https',
  ],
  [
    `audit: { witnesses: [${asked('url: "https://w.example", key_file: /k')}] }`,
    'audit.witnesses[0].key_file',
    'cert_file',
  ],
  ['keys: { kek_file: /k, kek_command: [x] }', 'keys.kek_command', 'not both'],
])('%s is refused, naming the setting', (text, field, why) => {
  const told = read(text);
  expect(told).toContain(field);
  expect(told).toContain(why);
});
