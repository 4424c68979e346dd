/** What the settings of the witness and of the witnesses must agree on. */
import { isIP } from 'node:net';
import type { FieldPath } from './policy/issue.ts';
import type { Settings } from './settings.ts';
import { found } from './zod-issues.ts';

type Must = (holds: boolean, path: FieldPath, message: string) => void;

const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));

/** `192.0.2.1:10085`, `[2001:db8::1]:10085`; port 0 is any free one. */
export function listenAddress(text: string): Readonly<{ host: string; port: number }> | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const [, ipv6, ipv4, port] = match ?? [];
  const host = ipv6 ?? ipv4 ?? '';
  if (isIP(host) !== (ipv6 === undefined ? 4 : 6) || Number(port) > 65_535) return undefined;
  return { host, port: Number(port) };
}

export function witnessDisagreements({ audit, witness }: Settings, must: Must): void {
  const listen = listenAddress(witness.listen);
  const { cert_file: cert, key_file: key, client_ca_file: clientCa, token_file: token } = witness;
  must(
    witness.listen === '' || listen !== undefined,
    ['witness', 'listen'],
    `expected address:port with an IP address, found ${found(witness.listen)}`,
  );
  must(
    witness.listen === '' || witness.logs.length > 0,
    ['witness', 'logs'],
    'expected at least one log: a witness cosigns only logs that it knows',
  );
  must((cert === '') === (key === ''), ['witness', 'key_file'], 'needs `witness.cert_file`, and it this');
  must(
    clientCa === '' || cert !== '',
    ['witness', 'client_ca_file'],
    'needs `witness.cert_file`: a client certificate is asked for in TLS only',
  );
  must(
    token === '' || cert !== '' || listen === undefined || isLoopback(listen.host),
    ['witness', 'token_file'],
    'needs `witness.cert_file`: a token is not sent without TLS except over loopback',
  );
  must(
    token !== '' || clientCa !== '' || listen === undefined || isLoopback(listen.host),
    ['witness', 'client_ca_file'],
    'expected this or `witness.token_file`: checkpoints and their signatures are public, so that without one of them anybody may ask; only over loopback none is needed',
  );
  const origins = new Set<string>();
  for (const [index, { origin }] of witness.logs.entries()) {
    must(!origins.has(origin), ['witness', 'logs', index, 'origin'], `${found(origin)} is in the list twice`);
    origins.add(origin);
  }
  must(
    audit.witness_quorum <= audit.witnesses.length,
    ['audit', 'witness_quorum'],
    `expected at most the number of \`audit.witnesses\`, ${audit.witnesses.length}`,
  );
  const urls = new Set<string>();
  for (const [index, one] of audit.witnesses.entries()) {
    const path = ['audit', 'witnesses', index];
    const url = URL.canParse(one.url) ? new URL(one.url) : undefined;
    const isWeb = url?.protocol === 'https:' || url?.protocol === 'http:';
    must(
      isWeb && url.search === '' && url.hash === '' && url.username === '' && url.password === '',
      [...path, 'url'],
      `expected an http or https URL without query and credentials, found ${found(one.url)}`,
    );
    must(!urls.has(one.url), [...path, 'url'], `${found(one.url)} is in the list twice`);
    urls.add(one.url);
    must(
      one.token_file === '' || url?.protocol !== 'http:' || isLoopback(url.hostname.replace(/^\[|\]$/g, '')),
      [...path, 'token_file'],
      'needs an https URL: a token is not sent without TLS except over loopback',
    );
    must(
      (one.cert_file === '') === (one.key_file === ''),
      [...path, 'key_file'],
      'needs `cert_file`, and it this',
    );
  }
}
