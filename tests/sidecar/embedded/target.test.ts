import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { toSallyportError } from '../../../config/errors.ts';
import { limits } from '../../../config/limits.ts';
import type { Peer } from '../../../sidecar/embedded/peer.ts';
import { targetOf, toldOf } from '../../../sidecar/embedded/target.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

const outside: Peer = { id: 'e1', address: '127.0.0.1', port: 1, spiffeId: '', tunnel: undefined };
const inside: Peer = {
  ...outside,
  tunnel: { authority: 'api.test:443', agent: 'tester', proof: 'pod', sni: 'api.test', scheme: 'https' },
};
const asked = (url: string, host?: string): IncomingMessage => {
  const request = new IncomingMessage(new Socket());
  request.url = url;
  if (host !== undefined) request.headers.host = host;
  return request;
};

test.each([
  ['http://api.test/a?b', 'api.test', '/a?b'],
  ['HTTP://api.test:8080', 'api.test:8080', '/'],
  ['http://api.test?b', 'api.test', '/?b'],
  ['http://[::1]:80/x/../y', '[::1]:80', '/y'],
  ['http://user:word@api.test/', 'user:word@api.test', '/'],
  ['http://api.test\\@evil.test/', 'api.test\\@evil.test', '/'],
])('%s is for %s', (url, authority, path) => {
  expect(targetOf(asked(url), outside)).toMatchObject({ stage: 'absolute', authority, path });
});

test('origin form is a route outside a tunnel, and names its host by Host inside', () => {
  expect(targetOf(asked('/v1'), outside)).toBeUndefined();
  expect(targetOf(asked('/a/./b', 'api.test'), inside)).toMatchObject({
    stage: 'mitm',
    authority: 'api.test',
    path: '/a/b',
  });
  expect(() => targetOf(asked('/v1'), inside)).toThrow(expect.objectContaining({ code: 'RequestMalformed' }));
});

test('an absolute URL inside a tunnel, another scheme and no URL at all are refused', () => {
  expect(() => targetOf(asked('http://api.test/', 'api.test'), inside)).toThrow();
  expect(() => targetOf(asked('https://api.test/'), outside)).toThrow(
    expect.objectContaining({ code: 'ProtocolNotAllowed' }),
  );
  for (const url of ['', '*', 'api.test:80', 'http:/api.test', 'ftp://api.test/'])
    expect(() => targetOf(asked(url), outside)).toThrow(
      expect.objectContaining({ code: 'RequestMalformed' }),
    );
});

test('any request line is a target, a route or a refusal of the catalogue', () => {
  const piece = fc.constantFrom(
    'http://',
    'https://',
    '/',
    '..',
    '%2e',
    '@',
    ':',
    '?',
    '#',
    '\\',
    'a.test',
    '*',
  );
  const line = fc.oneof(
    fc.string({ maxLength: 60 }),
    fc.array(piece, { maxLength: 8 }).map((all) => all.join('')),
  );
  fc.assert(
    fc.property(line, fc.boolean(), (url, tunnelled) => {
      toldOf(asked(url, 'a.test'));
      try {
        const target = targetOf(asked(url, 'a.test'), tunnelled ? inside : outside);
        if (target !== undefined) expect(target.path).toMatch(/^\//);
      } catch (thrown) {
        expect(['RequestMalformed', 'ProtocolNotAllowed']).toContain(toSallyportError(thrown).code);
      }
    }),
    fuzzRuns,
  );
});

test.each([
  ['GET', 'http://api.test:80/a?b', 'else.test', 'api.test:80', '/a?b'],
  ['GET', '/v1', 'api.test', 'api.test', '/v1'],
  ['CONNECT', 'api.test:443', 'else.test', 'api.test:443', ''],
  ['GET', '', undefined, '', ''],
])('what is told of a refused %s %s is where it was for', (method, url, host, authority, path) => {
  const request = Object.assign(asked(url, host), { method });
  expect(toldOf(request)).toEqual({ method, authority, path, requestId: '', via: 'embedded' });
});

test('what is told of a refused request is cut', () => {
  const { path } = toldOf(asked(`/${'a'.repeat(limits.pathBytesMax)}`));
  expect(path).toHaveLength(limits.journalLongFieldCharsMax);
});
