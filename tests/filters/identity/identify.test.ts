import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import type { AgentName, SpiffeId } from '../../../filters/common/brand.ts';
import type { Agent, Call } from '../../../filters/facts.ts';
import { delegationChain } from '../../../filters/identity/chain.ts';
import { readCredential } from '../../../filters/identity/credential.ts';
import { identify, type KnownAgents } from '../../../filters/identity/identify.ts';
import { certificateProof, credentialProof } from '../../../filters/identity/proof.ts';
import type { UnixUsers } from '../../../filters/identity/unix-users.ts';
import { someCall } from '../../support/call.ts';
import { fuzzRuns } from '../../support/fuzz.ts';
import { refusalOf } from '../../support/refusal.ts';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const agentOf = (name: string): Omit<Agent, 'by'> => ({
  name: name as AgentName,
  id: `spiffe://example.org/${name}` as SpiffeId,
  labels: {},
});
const names = ['researcher', 'deployer', 'pod'];
const userOf: Readonly<Record<number, string>> = { 1001: 'researcher', 1002: 'deployer' };
const agentIn = (name: string | undefined): Omit<Agent, 'by'> | undefined =>
  name !== undefined && names.includes(name) ? agentOf(name) : undefined;

const agents = (changes: Partial<KnownAgents> = {}): KnownAgents => ({
  usesUnixUsers: true,
  agent: agentIn,
  agentByUser: (uid) => agentIn(userOf[uid]),
  agentBySpiffeId: (id) => agentIn(names.find((name) => agentOf(name).id === id)),
  credentialMatches: (name, digest) => digest === sha256(`${name}’s pässword:1`),
  credentialsOf: (name) => [sha256(`${name}’s other pässword`), sha256(`${name}’s pässword:1`)],
  ...changes,
});
/** A machine on which every connection is of one user; counts how often it is asked. */
const machine = (uid: number | undefined): UnixUsers & { asked: number } => {
  const users = {
    asked: 0,
    uidOf: () => {
      users.asked += 1;
      return uid;
    },
  };
  return users;
};

const basic = (text: string): { headers: Record<string, string> } => ({
  headers: { 'proxy-authorization': `Basic ${Buffer.from(text).toString('base64')}` },
});
const who = (
  call: Call,
  options: { uid?: number | undefined; pod?: string; policy?: KnownAgents } = {},
): string => {
  const users = machine('uid' in options ? options.uid : 9_999);
  const found = identify(call, options.policy ?? agents(), { podAgent: options.pod ?? '', users });
  return `${found.name} by ${found.by}`;
};

describe('an agent is known', () => {
  test('by its Unix user', () => {
    expect(who(someCall(), { uid: 1001 })).toBe('researcher by user');
  });
  test('by its proxy credential, before its user', () => {
    expect(who(someCall(basic('deployer:deployer’s pässword:1')), { uid: 1001 })).toBe(
      'deployer by credential',
    );
  });
  test('by its certificate, before its credential', () => {
    const connection = { peerSpiffeId: 'spiffe://example.org/researcher' };
    expect(who(someCall({ connection, ...basic('deployer:deployer’s pässword:1') }))).toBe(
      'researcher by certificate',
    );
  });
  test('inside a tunnel by the CONNECT, before everything', () => {
    const connection = {
      tunnelAgent: 'deployer',
      tunnelProof: 'user-1002',
      tunnelAuthority: 'a:443',
      peerSpiffeId: 'spiffe://example.org/researcher',
    };
    expect(who(someCall({ connection, ...basic('wrong:wrong') }), { uid: 1001 })).toBe('deployer by tunnel');
  });
  test('by the pod, where its user is none of the policy or the policy names none', () => {
    expect(who(someCall(), { pod: 'pod' })).toBe('pod by pod');
    expect(who(someCall(), { uid: 1001, pod: 'pod' })).toBe('researcher by user');
    expect(who(someCall(), { uid: undefined, pod: 'pod', policy: agents({ usesUnixUsers: false }) })).toBe(
      'pod by pod',
    );
  });
  test('and acts for itself alone', () => {
    expect(delegationChain({ ...agentOf('researcher'), by: 'pod' })).toEqual([
      'spiffe://example.org/researcher',
    ]);
  });
});

describe('inside a tunnel', () => {
  const proofOf = (call: Call, uid?: number, pod = ''): string => {
    const found = identify(call, agents(), { podAgent: pod, users: machine(uid) });
    return found.proof ?? '';
  };
  const inside = (tunnelAgent: string, tunnelProof: string): Call =>
    someCall({ connection: { tunnelAgent, tunnelProof, tunnelAuthority: 'a:443' } });
  const byCredential = proofOf(someCall(basic('deployer:deployer’s pässword:1')));
  const byCertificate = proofOf(someCall({ connection: { peerSpiffeId: agentOf('deployer').id } }));
  const byUser = proofOf(someCall(), 1002);

  test.each([
    ['credential', byCredential],
    ['certificate', byCertificate],
    ['Unix user', byUser],
  ])('what the CONNECT was known by, a %s, is asked of the policy that holds now', (_, proof) => {
    expect(who(inside('deployer', proof))).toBe('deployer by tunnel');
    const without = agents({
      credentialsOf: (name) => [sha256(`${name}’s new pässword`)],
      agent: (name) => ({ ...agentOf(name), id: `spiffe://example.org/new/${name}` as SpiffeId }),
      agentByUser: (uid) => (uid === 1002 ? agentOf('researcher') : undefined),
    });
    expect(refusalOf(() => who(inside('deployer', proof), { policy: without }))).toBe('InvalidAgent');
    // Of another agent it says nothing.
    expect(refusalOf(() => who(inside('researcher', proof)))).toBe('InvalidAgent');
  });

  test('the pod’s agent is it as long as the policy finds no other by its user', () => {
    const looked = proofOf(someCall(), 9_999, 'pod');
    expect(looked).toBe('pod-9999');
    expect(who(inside('pod', looked), { pod: 'pod' })).toBe('pod by tunnel');
    expect(refusalOf(() => who(inside('pod', looked), { pod: 'deployer' }))).toBe('InvalidAgent');
    const named = agents({ agentByUser: (uid) => (uid === 9_999 ? agentOf('deployer') : undefined) });
    expect(refusalOf(() => who(inside('pod', looked), { pod: 'pod', policy: named }))).toBe('InvalidAgent');
  });

  test('a user whom no policy asked for at CONNECT is looked up once the policy names users', () => {
    expect(who(inside('pod', 'pod'), { pod: 'pod', policy: agents({ usesUnixUsers: false }) })).toBe(
      'pod by tunnel',
    );
    expect(who(inside('pod', 'pod'), { pod: 'pod', uid: 9_999 })).toBe('pod by tunnel');
    expect(refusalOf(() => who(inside('pod', 'pod'), { pod: 'pod', uid: 1002 }))).toBe('InvalidAgent');
  });

  test.each(['', '-', 'tunnel', 'user-', 'user-1002x', 'certificate-', 'credential', 'pod-x'])(
    '%j, which proves nothing, is nobody',
    (proof) => {
      expect(refusalOf(() => who(inside('deployer', proof), { uid: 1002, pod: 'deployer' }))).toBe(
        'InvalidAgent',
      );
    },
  );

  test('no proof is a credential, or is the same for two agents, passwords or kinds', () => {
    const digest = sha256('deployer’s pässword:1');
    const proofs = [
      credentialProof('deployer', digest),
      credentialProof('researcher', digest),
      credentialProof('deployer', sha256('other')),
      certificateProof(agentOf('deployer').id),
    ];
    expect(proofs[0]).toBe(byCredential);
    expect(proofs.filter((proof) => proof.includes(digest))).toEqual([]);
    expect(new Set(proofs.map((proof) => proof.split('-')[1])).size).toBe(proofs.length);
    const used = basic(`deployer:${proofs[0]}`);
    expect(refusalOf(() => who(someCall(used)))).toBe('InvalidAgent');
  });
});

describe('a caller is refused', () => {
  const refused = (call: Call, options: Parameters<typeof who>[1] = { uid: 1001, pod: 'pod' }): void => {
    expect(refusalOf(() => who(call, options))).toBe('InvalidAgent');
  };
  test('inside a tunnel of an agent that the policy does not know', () => {
    refused(someCall({ connection: { tunnelAgent: 'gone', tunnelAuthority: 'a:443' } }));
  });
  test('by the subject of an AuthZEN request, told in its own words', () => {
    for (const connection of [{ tunnelAgent: 'gone' }, { peerSpiffeId: 'gone' }])
      expect(() => who(someCall({ connection, via: 'authzen' }))).toThrow(
        'subject.id: expected the name or SPIFFE ID of an agent of the policy, found "gone"',
      );
  });
  test('inside a tunnel whose CONNECT found no agent', () => {
    refused(someCall({ connection: { tunnelAuthority: 'a:443' } }));
  });
  test('with a certificate that the policy does not know', () => {
    refused(someCall({ connection: { peerSpiffeId: 'spiffe://example.org/other' } }));
  });
  test.each([
    ['a wrong password', basic('researcher:wrong').headers],
    ['another agent’s password', basic('researcher:deployer’s pässword:1').headers],
    ['an empty password', basic('researcher:').headers],
    ['an unknown name', basic('other:other’s pässword:1').headers],
    ['an inherited name', basic('constructor:x').headers],
    ['no colon', basic('researcher').headers],
    ['an empty header', { 'proxy-authorization': '' }],
    ['another scheme', { 'proxy-authorization': 'Bearer abcd' }],
    ['text that is not base64', { 'proxy-authorization': 'Basic !!!!' }],
    ['base64 cut short', { 'proxy-authorization': 'Basic YTp' }],
    ['two credentials', { 'proxy-authorization': 'Basic YTpi,Basic YTpi' }],
    [
      'bytes that are not UTF-8',
      { 'proxy-authorization': `Basic ${Buffer.from([0x61, 0x3a, 0xff]).toString('base64')}` },
    ],
    [
      'a credential past the limit',
      { 'proxy-authorization': `Basic ${'A'.repeat(limits.proxyCredentialBytesMax)}` },
    ],
  ])('with %s, although its user is known', (_, headers) => {
    refused(someCall({ headers }));
  });
  test('where its user cannot be found, even if the pod has an agent', () => {
    refused(someCall(), { uid: undefined, pod: 'pod' });
  });
  test('where the pod’s agent is not in the policy, or there is none', () => {
    refused(someCall(), { pod: 'gone' });
    refused(someCall(), { pod: '' });
  });
});

test('a refusal tells what was tried and never the credential', () => {
  expect(() => who(someCall())).toThrow(
    'no client certificate, no proxy credential, Unix user 9999 is not in the policy, and this pod has no agent of its own',
  );
  for (const text of ['researcher:hunter2', 'hunter2:x', 'hunter2'])
    expect(() => who(someCall(basic(text)))).toThrow(/^(?!.*hunter2)/);
});

test('the user of a connection is looked up once, of an unnamed connection each time', () => {
  const users = machine(1001);
  const call = (connectionId: string, sourcePort = 50_000): void => {
    identify(someCall({ connection: { connectionId, sourcePort } }), agents(), { podAgent: '', users });
  };
  call('1');
  call('1');
  expect(users.asked).toBe(1);
  call('1', 50_001);
  call('2');
  expect(users.asked).toBe(3);
  call('');
  call('');
  expect(users.asked).toBe(5);
});

test('a policy that names no Unix user asks for none', () => {
  const users = machine(1001);
  identify(someCall(), agents({ usesUnixUsers: false }), { podAgent: 'pod', users });
  expect(users.asked).toBe(0);
});

test('readCredential reads back every name and password, and any header without failing', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme' }),
      fc.string({ unit: 'grapheme' }),
      fc.string({ unit: 'binary' }),
      (user, password, noise) => {
        const name = user.replaceAll(':', '');
        const header = basic(`${name}:${password}`).headers['proxy-authorization'] ?? '';
        expect(readCredential(header)).toEqual({ kind: 'valid', name, passwordSha256: sha256(password) });
        expect(['valid', 'invalid']).toContain(readCredential(noise).kind);
        expect(['valid', 'invalid']).toContain(readCredential(`Basic ${noise}`).kind);
      },
    ),
    fuzzRuns,
  );
});

test('the data plane’s own user is never the pod’s agent', () => {
  const ask = (uid: number, planeUid: number | undefined) => () =>
    identify(someCall(), agents(), { podAgent: 'pod', users: machine(uid), planeUid });
  expect(refusalOf(ask(20_202, 20_202))).toBe('InvalidAgent');
  expect(ask(20_202, undefined)().by).toBe('pod');
  expect(ask(20_203, 20_202)().by).toBe('pod');
});
