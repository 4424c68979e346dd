import { expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { openFactsOf } from '../../../filters/metering/facts.ts';
import { someDecision } from '../../support/some-record.ts';

test('what is kept of a decision until its settlement is short, also of a journal that has it long', () => {
  const long = 'x'.repeat(limits.pathBytesMax);
  const facts = openFactsOf(
    someDecision({ resource: `https://a.test:443/${long}`, what: `POST ${long}` }),
    'e1',
  );
  expect(facts?.resource).toMatch(/^https:\/\/a\.test:443\/x+… \(\d+ more\)$/);
  expect(facts?.resource.length).toBeLessThan(limits.journalLongFieldCharsMax + 30);
  expect(facts?.what.length).toBeLessThan(limits.journalLongFieldCharsMax + 30);
});

test.each([
  ['a denial', { kind: 'Deny' as const }],
  ['a CONNECT whose requests are decided', { pin: '' }],
  ['a decision for somebody else’s Envoy', { via: 'ext_authz' }],
])('%s is not waited for', (_, changes) => {
  expect(openFactsOf(someDecision(changes), 'e1')).toBeUndefined();
});
