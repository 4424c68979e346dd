import fc from 'fast-check';
import { expect, test } from 'vitest';
import { hint, nearest } from '../../config/nearest.ts';

const known = ['allow', 'forbid', 'hold', 'methods', 'paths'];

test.each([
  ['alow', 'allow'],
  ['ALLOW', 'allow'],
  ['fordib', 'forbid'],
  ['method', 'methods'],
  ['pahts', 'paths'],
  ['anything', undefined],
  ['', undefined],
])('%s is near to %s', (typed, expected) => {
  expect(nearest(typed, known)).toBe(expected);
});

test('a name itself is the nearest to it, and long names cost nothing', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1, maxLength: 30 }), (name) => nearest(name, ['zzz', name]) === name),
    {
      numRuns: 200,
    },
  );
  expect(nearest('x'.repeat(1_000_000), known)).toBeUndefined();
});

test('the hint is a question, or nothing', () => {
  expect(hint('alow', known)).toBe('; did you mean "allow"?');
  expect(hint('anything', known)).toBe('');
});
