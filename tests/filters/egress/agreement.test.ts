import { expect, test } from 'vitest';
import type { ErrorCode } from '../../../config/errors.ts';
import { assertAgreement } from '../../../filters/egress/agreement.ts';
import { canonicalDestination } from '../../../filters/egress/canonical.ts';
import type { Call } from '../../../filters/facts.ts';
import { someCall } from '../../support/call.ts';
import { refusalOf } from '../../support/refusal.ts';

const outcome = (call: Call): ErrorCode | 'none' =>
  refusalOf(() => assertAgreement(call, canonicalDestination(call)));

const inTunnel = (authority: string, tunnelAuthority: string, sni: string): Call =>
  someCall({ authority, connection: { tunnelAuthority, sni } });
const clear = (authority: string, tunnelAuthority: string, sni = ''): Call =>
  someCall({ scheme: 'http', authority, connection: { tunnelAuthority, sni } });
const opaque = (tunnelAuthority: string, sni: string): Call =>
  someCall({
    stage: 'tunnel',
    method: '',
    scheme: '',
    authority: '',
    path: '',
    connection: { tunnelAuthority, sni },
  });

test.each([
  ['equal in all three', inTunnel('a.example', 'a.example:443', 'a.example')],
  ['equal in other spellings', inTunnel('A.example.:443', 'a.EXAMPLE:443', 'a.example.')],
  ['an odd port in both', inTunnel('a.example:8443', 'a.example:8443', 'a.example')],
  ['an address without SNI', inTunnel('192.0.2.1', '192.0.2.1:443', '')],
  ['an address with itself as SNI', inTunnel('192.0.2.1', '192.0.2.1:443', '192.0.2.1')],
  ['clear HTTP with its port', clear('a.example', 'a.example:80')],
  ['clear HTTP with a named port', clear('a.example:8080', 'a.example:8080')],
  ['opaque with equal SNI', opaque('a.example:443', 'a.example')],
  ['opaque to an address without SNI', opaque('[2001:db8::1]:443', '')],
  ['no tunnel', someCall({ connection: { sni: 'proxy.example' } })],
  [
    'a Host beside the authority that is the same',
    { ...clear('a.example', 'a.example:80'), headers: { host: 'A.example:80' } },
  ],
  [
    'CONNECT itself',
    someCall({ stage: 'connect', method: 'CONNECT', scheme: '', path: '', authority: 'a.example:443' }),
  ],
])('passes: %s', (_, call) => {
  expect(outcome(call)).toBe('none');
});

test.each([
  ['Host of another', inTunnel('b.example', 'a.example:443', 'a.example')],
  ['a subdomain as Host', inTunnel('x.a.example', 'a.example:443', 'a.example')],
  ['Host with another port', inTunnel('a.example:8443', 'a.example:443', 'a.example')],
  ['Host without the port of the CONNECT', inTunnel('a.example', 'a.example:8443', 'a.example')],
  ['SNI of another', inTunnel('a.example', 'a.example:443', 'b.example')],
  ['Host and SNI of another', inTunnel('b.example', 'a.example:443', 'b.example')],
  ['TLS to a name without SNI', inTunnel('a.example', 'a.example:443', '')],
  ['a name as SNI inside a CONNECT to an address', inTunnel('192.0.2.1', '192.0.2.1:443', 'a.example')],
  ['clear HTTP for another host', clear('b.example', 'a.example:80')],
  ['clear HTTP for another port', clear('a.example', 'a.example:8080')],
  ['clear HTTP under a foreign SNI', clear('a.example', 'a.example:80', 'b.example')],
  ['opaque with another SNI', opaque('a.example:443', 'b.example')],
  ['opaque without SNI', opaque('a.example:443', '')],
  ['a second Host', { ...clear('a.example', 'a.example:80'), headers: { host: 'b.example' } }],
  [
    'a second Host with another port',
    { ...clear('a.example', 'a.example:80'), headers: { host: 'a.example:81' } },
  ],
])('refuses: %s', (_, call) => {
  expect(outcome(call)).toBe('DestinationMismatch');
});

test.each(['a b', '%61.example', 'a.example:443', '*', '\0'])('refuses an SNI that is no host: %j', (sni) => {
  expect(outcome(inTunnel('a.example', 'a.example:443', sni))).toBe('DestinationInvalid');
});
