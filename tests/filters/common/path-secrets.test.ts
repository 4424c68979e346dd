/** Which segments of a path are not shown to others. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { looksLikeId, looksSecret, maskPath, maskResource } from '../../../filters/common/path-secrets.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

test.each([
  'bot123456:AAEhBP0av28FrTkXZ_abcdef',
  'aBcDeFgHiJkLmNoPqRsTuVwX',
  '550e8400-e29b-41d4-a716-446655440000',
  'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc',
  'sk-proj-abcdefghijkl',
  'AKIAIOSFODNN7EXAMPLE',
  '4111111111111111',
  '9f86d081884c7d659a2feaa0c55ad015',
])('%s looks secret', (segment) => {
  expect(looksSecret(segment)).toBe(true);
});

test.each([
  'v1',
  'users',
  'chat',
  'completions',
  '12345',
  'INV-2026-0001',
  'gpt-4o-mini-2024-07-18',
  'gemini-1.5-pro:generateContent',
  'text-embedding-3-small',
  'getUserByEmailAddressOrPhone',
  'my-repo-name-2',
  'npm-registry-proxy',
  '',
  '%20',
])('%s does not', (segment) => {
  expect(looksSecret(segment)).toBe(false);
});

test('after a name of a secret only a plain word is shown', () => {
  expect([
    looksSecret('abc1', 'token'),
    looksSecret('revoke', 'token'),
    looksSecret('v2', 'keys'),
    looksSecret('a9', 'webhooks'),
  ]).toEqual([true, false, false, true]);
});

test('the rest of a path stays as it is', () => {
  expect(maskResource('https://hooks.example.org:443/services/T024BE7LD/aBcDeFgHiJkLmNoPqRsTuVwX')).toBe(
    'https://hooks.example.org:443/services/T024BE7LD/•••',
  );
  expect(maskResource('tcp://api.example.org:443')).toBe('tcp://api.example.org:443');
  expect(maskPath('/a//4111111111111111/', '*')).toBe('/a//*/');
});

test('an id is a number, a UUID, or has several digits', () => {
  expect(
    ['17', 'INV-001', '550e8400-e29b-41d4-a716-446655440000', 'v1', 'users', 's3'].map(looksLikeId),
  ).toEqual([true, true, true, false, false, false]);
});

test('random tokens are hidden, whatever they are made of', () => {
  const hex = fc.stringMatching(/^[0-9a-f]{24,64}$/).filter((text) => (text.match(/\d/g)?.length ?? 0) >= 2);
  const base62 = fc
    .stringMatching(/^[A-Za-z0-9]{32,64}$/)
    .filter((text) => (text.match(/\d/g)?.length ?? 0) >= 2);
  fc.assert(
    fc.property(fc.oneof(hex, base62, fc.uuid()), (token) => {
      expect(looksSecret(token)).toBe(true);
    }),
    fuzzRuns,
  );
});

test('no path makes it throw or slow', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 2_000 }), (path) => {
      expect(maskPath(path).split('/')).toHaveLength(path.split('/').length);
    }),
    fuzzRuns,
  );
  expect(looksSecret('-'.repeat(32_000))).toBe(false);
  expect(looksSecret(`${'a-'.repeat(16_000)}!`)).toBe(false);
});
