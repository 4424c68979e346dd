import fc from 'fast-check';
import { expect, test } from 'vitest';
import { limits } from '../../../config/limits.ts';
import { createLinearRegex } from '../../../filters/policy/linear-regex.ts';
import { fuzzRuns } from '../../support/fuzz.ts';

const atom = fc.constantFrom('a', 'b', '.', '[ab]', '[^a]', '\\d', '\\w', '\\b', '^', '$', '1', '\\.', 'é');
const { pattern } = fc.letrec<{ pattern: string; part: string; piece: string }>((tie) => ({
  pattern: fc.array(tie('part'), { minLength: 1, maxLength: 3 }).map((parts) => parts.join('|')),
  part: fc.array(tie('piece'), { maxLength: 4 }).map((pieces) => pieces.join('')),
  piece: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    atom,
    fc
      .tuple(tie('pattern'), fc.constantFrom('', '*', '+', '?', '{2}', '{1,3}', '{0,2}', '{2,}', '*?'))
      .map(([inner, count]) => `(?:${inner})${count}`),
  ),
}));

test('answers as the built-in engine does', () => {
  fc.assert(
    fc.property(
      pattern,
      fc.string({ unit: fc.constantFrom('a', 'b', '1', '.', ' ', 'é', '\n', '😀'), maxLength: 8 }),
      (source, text) => {
        let mine: boolean;
        try {
          mine = createLinearRegex(source).test(text);
        } catch (thrown) {
          // Nested counts may pass the bound on states; nothing else is refused here.
          expect(String(thrown)).toContain('states');
          return;
        }
        expect(mine).toBe(new RegExp(source, 'u').test(text));
      },
    ),
    fuzzRuns,
  );
});

test.each([
  ['^[\\w.-]{1,40}@example\\.org$', 'dana.b@example.org', true],
  ['^[\\w.-]{1,40}@example\\.org$', 'dana@example.orgx', false],
  ['(?i)^select\\b', 'SELECT 1', true],
  ['(?i)[a-c]x', 'BX', true],
  ['a{,2}', 'a{,2}', true],
  ['\\x41', 'A', true],
  ['[]a]', ']', true],
  ['', 'anything', true],
])('%s against %s: %s', (source, text, fits) => expect(createLinearRegex(source).test(text)).toBe(fits));

test.each([
  '(a',
  'a)',
  '[a',
  'a**',
  '*a',
  '(?=a)',
  '(?<n>a)',
  '\\1',
  'a\\',
  '[b-a]',
  'a{3,1}',
  '((((a{100}){100}))){100}',
  '\\p{L}',
  '[[:alpha:]]',
])('%s is refused with words', (source) =>
  expect(() => createLinearRegex(source)).toThrow(/a regular expression/),
);

test('a pattern that stops a backtracking engine is answered', () => {
  expect(createLinearRegex('^(?:a+)+$').test(`${'a'.repeat(30_000)}!`)).toBe(false);
  expect(createLinearRegex('^(?:a|a)*b').test('a'.repeat(30_000))).toBe(false);
});

test('a text that would take too many steps is refused', () => {
  const text = 'a'.repeat(limits.celRegexStepsMax / 100);
  expect(() => createLinearRegex('a{100}b').test(text)).toThrow(`more than ${limits.celRegexStepsMax} steps`);
});

test('no pattern makes the reader fail in another way', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom(...'ab(){}[]|*+?^$\\.-:i,129x'), maxLength: 20 }),
      (source) => {
        try {
          createLinearRegex(source).test('ab');
        } catch (thrown) {
          expect(String(thrown)).toMatch(/^Error: a regular expression/);
        }
      },
    ),
    fuzzRuns,
  );
});
